"""A file is there whole or not at all, and what is no file stays what it is."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from swiftdet import measurements
from swiftdet.whole_files import write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_has_the_permissions_that_any_gets(tmp_path):
    write_whole(tmp_path / "ours", b"content")
    (tmp_path / "any").write_bytes(b"")
    assert (tmp_path / "ours").read_bytes() == b"content"
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "any").stat().st_mode
    assert names(tmp_path) == ["any", "ours"]


def test_the_old_file_stays_where_the_new_one_fails(tmp_path, monkeypatch):
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_whole(link, b"new")
    assert (link.read_bytes(), target.read_bytes()) == (b"new", b"old")


def test_a_name_may_be_as_long_as_names_can_be(tmp_path):
    write_whole(tmp_path / ("n" * 255), b"content")
    assert names(tmp_path) == ["n" * 255]


@pytest.mark.parametrize("opened", ["wb", "ab"])
@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_a_stdout_that_is_a_file_keeps_what_it_has_and_gets(tmp_path, path, opened):
    log = tmp_path / "log"
    log.write_bytes(b"" if opened == "wb" else b"old\n")
    code = f"""if True:
        import pathlib
        from swiftdet.whole_files import write_whole
        write_whole(pathlib.Path({path!r}), b"document\\n")
        print("after", flush=True)"""
    with log.open(opened) as stdout:
        subprocess.run([sys.executable, "-c", code], stdout=stdout, check=True, timeout=120)
    assert log.read_bytes() == (b"" if opened == "wb" else b"old\n") + b"document\nafter\n"
    assert names(tmp_path) == ["log"]


def test_a_folder_of_memory_is_a_folder():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:  # in /dev, and yet its files are files
        write_whole(Path(folder) / "file", b"old")
        write_whole(Path(folder) / "file", b"new")
        assert (Path(folder) / "file").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["missing/file", "file/below", "n" * 256])
def test_an_error_names_what_was_asked_for(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match=r"\[Errno \d+\]") as refusal:
        write_whole(tmp_path / name, b"content")
    assert refusal.value.filename == str(tmp_path / name)


def write_document(path: Path, _: bytes) -> None:
    measurements.write({"format": "none", "text": "a"}, path)


@pytest.mark.parametrize("write", [write_whole, write_document], ids=["bytes", "document"])
def test_a_pipe_is_written_to_and_keeps_its_name(tmp_path, write):
    """As a device: `-o /dev/null` in a container must not put a file in its place."""
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write(pipe, b"content")
    reader.join(60)
    assert not reader.is_alive(), "nothing came through the pipe"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert len(read[0]) > 0
    assert names(tmp_path) == ["pipe"]


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path, b"content")
