"""Videos that are written: `VideoWriter`, and `swiftdet predict` on videos as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import make_models
import numpy as np
import onnx
import pytest

import little_videos
from swiftdet.errors import InvalidArgument, VideoError
from swiftdet.video_writer import VideoWriter

NTSC = Fraction(30000, 1001)


# --- the writer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv"])
@pytest.mark.parametrize(("size", "codec"), [((48, 64), "h264"), ((47, 63), "mpeg4")])
@pytest.mark.parametrize("rate", [25, NTSC])
def test_size_rate_and_pictures_are_those_that_were_written(tmp_path, suffix, size, codec, rate):
    path = tmp_path / f"out{suffix}"
    film = little_videos.pictures(size=size)
    with VideoWriter(path, size=size, rate=rate) as writer:
        for i, picture in enumerate(film):
            writer.write(picture, float(i / rate))
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.name == codec
        assert stream.average_rate == rate
        assert (stream.height, stream.width) == size
    frames = little_videos.decoded(path)
    assert len(frames) == len(film)
    for i, ((seconds, pixels), picture) in enumerate(zip(frames, film, strict=True)):
        assert seconds == pytest.approx(float(i / rate), abs=1e-3)
        assert np.abs(pixels.astype(int) - picture).mean() < 30  # another picture: 80
    peer = cv2.VideoCapture(str(path))  # a reader that is not PyAV
    assert sum(peer.read()[0] for _ in film) == len(film)


def test_times_of_a_variable_rate_are_kept(tmp_path):
    times = [0.0, 0.04, 0.5, 0.51, 0.51, 2.0]  # the last but one is no later than the one before
    with VideoWriter(tmp_path / "out.mp4", size=(48, 64)) as writer:
        for picture, seconds in zip(little_videos.pictures(6), times, strict=True):
            writer.write(picture, seconds)
    assert [seconds for seconds, _ in little_videos.decoded(tmp_path / "out.mp4")] == pytest.approx(times, abs=1e-3)


def test_without_an_h264_encoder_it_is_mpeg4(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with VideoWriter(tmp_path / "out.mp4", size=(48, 64)) as writer:
        writer.write(little_videos.pictures(1)[0], 0.0)
    assert writer.codec == "mpeg4"
    assert len(little_videos.decoded(tmp_path / "out.mp4")) == 1


def test_a_picture_of_another_size_is_stretched(tmp_path):
    with VideoWriter(tmp_path / "out.mp4", size=(48, 64)) as writer:
        writer.write(little_videos.pictures(1)[0], 0.0)
        writer.write(little_videos.pictures(1, size=(96, 100))[0], 0.1)
    assert [pixels.shape for _, pixels in little_videos.decoded(tmp_path / "out.mp4")] == [(48, 64, 3)] * 2


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(InvalidArgument, match="expected a suffix of a video"):
        VideoWriter(tmp_path / "out.gif", size=(48, 64))
    with (
        pytest.raises(VideoError, match="No such file or directory"),
        VideoWriter(tmp_path / "none" / "out.mp4", size=(48, 64)) as writer,
    ):
        writer.write(little_videos.pictures(1)[0], 0.0)


def test_a_killed_process_leaves_a_file_that_plays(tmp_path, run_python):
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(little_videos.__file__).parent)!r})
import little_videos
from swiftdet.video_writer import VideoWriter
writer = VideoWriter({str(tmp_path / "out.mp4")!r}, size=(48, 64), rate=25)
film = little_videos.pictures(50)
for i in range(500):
    writer.write(film[i % 50], i / 25)
if os.fork() == 0:
    os.kill(os.getpid(), 9)  # a twin that ends without a word: what is in the file now is what a crash leaves
os.wait()
import shutil
shutil.copy({str(tmp_path / "out.mp4")!r}, {str(tmp_path / "crash.mp4")!r})
writer.close()
"""
    run_python(code)
    left = len(little_videos.decoded(tmp_path / "crash.mp4"))
    assert 300 <= left < 500  # x264 looks some frames ahead, and a fragment is 50
    assert len(little_videos.decoded(tmp_path / "out.mp4")) == 500


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A film, one with a damaged frame, one of an odd size, a still and a detector."""
    folder = tmp_path_factory.mktemp("cli")
    little_videos.write(folder / "film.mp4", little_videos.pictures(), rate=NTSC)
    little_videos.write(folder / "odd.webm", little_videos.pictures(5, size=(47, 63)), codec="libvpx-vp9")
    torn = little_videos.write(folder / "torn.avi", little_videos.pictures(), codec="mjpeg", pix_fmt="yuvj420p")
    content = bytearray(torn.read_bytes())
    fifth = [i for i in range(len(content)) if content.startswith(b"\xff\xd8", i)][4]
    content[fifth + 30 : fifth + 330] = bytes(300)
    torn.write_bytes(content)
    (folder / "text.mp4").write_bytes(b"no video")
    cv2.imwrite(str(folder / "still.png"), little_videos.pictures(1)[0])
    onnx.save(make_models.build("ultralytics-columns", size=(64, 96), classes=3, seed=3), folder / "model.onnx")
    return folder


def command(*arguments):
    return [sys.executable, "-m", "swiftdet", "predict", *map(str, arguments), "-m", "model.onnx", "--conf", "0.01"]


def environment():
    return {**os.environ, "NO_COLOR": "1", "COLUMNS": "80"}


def run(folder, *arguments):
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_film_becomes_an_annotated_film_labels_and_rows(folder, tmp_path):
    done = run(folder, "film.mp4", "odd.webm", "still.png", "--save-dir", tmp_path, "--save-txt", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert json.loads((tmp_path / "predictions.json").read_text()) == document
    rows = document["images"]
    assert [(row["path"], row.get("frame")) for row in rows] == [
        *(("film.mp4", i) for i in range(12)),
        *(("odd.webm", i) for i in range(5)),
        ("still.png", None),
    ]
    assert [row["time_s"] for row in rows[:12]] == pytest.approx([i / float(NTSC) for i in range(12)], abs=1e-4)
    assert all(set(row["detections"][0]) == {"name", "class", "confidence", "box"} for row in rows)
    assert document["videos"] == [
        {"path": "film.mp4", "frames": 12, "skipped": 0, "dropped": 0, "video": str(tmp_path / "film.mp4")},
        {"path": "odd.webm", "frames": 5, "skipped": 0, "dropped": 0, "video": str(tmp_path / "odd.mp4")},
    ]
    with av.open(str(tmp_path / "film.mp4")) as film, av.open(str(tmp_path / "odd.mp4")) as odd:
        stream = film.streams.video[0]
        assert (stream.average_rate, stream.width, stream.height) == (NTSC, 64, 48)
        assert (odd.streams.video[0].width, odd.streams.video[0].height) == (63, 47)
    drawn = little_videos.decoded(tmp_path / "film.mp4")
    assert len(drawn) == 12
    assert np.abs(drawn[0][1].astype(int) - little_videos.pictures(1)[0]).mean() > 15  # boxes on it
    assert sorted(path.name for path in (tmp_path / "labels" / "film").iterdir())[:2] == ["000000.txt", "000001.txt"]
    assert rows[3]["labels"] == str(tmp_path / "labels" / "film" / "000003.txt")
    assert len((tmp_path / "labels/film/000003.txt").read_text().splitlines()) == len(rows[3]["detections"])


def test_damage_is_noted_and_what_is_no_video_fails(folder, tmp_path):
    done = run(folder, "torn.avi", "text.mp4", "-o", tmp_path / "out.json")
    assert done.returncode == 1
    note, error = done.stderr.splitlines()
    assert note.startswith("note: skipped: torn.avi: frame 4: it cannot be decoded")
    assert error.startswith("error: text.mp4: cannot be opened: Invalid data")
    assert done.stdout.startswith("torn.avi frame 0 (0.000 s) 64x48: ")
    assert done.stdout.rstrip().endswith("ms per image; 1 damaged frame left out")
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["videos"] == [{"path": "torn.avi", "frames": 11, "skipped": 1, "dropped": 0}]
    assert [error["path"] for error in document["errors"]] == ["text.mp4"]


def test_the_annotated_film_cannot_replace_its_source(folder):
    done = run(folder, "film.mp4", "--save-dir", ".")
    assert done.returncode == 2
    assert "name another folder" in done.stderr


def test_rows_come_while_the_film_runs_and_ctrl_c_completes_everything(folder, tmp_path):
    film = tmp_path / "long.mkv"
    little_videos.write(film, little_videos.pictures(50) * 60, options={"preset": "ultrafast"})
    process = subprocess.Popen(
        command(film, "--save-dir", tmp_path / "out", "--json"),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        lines = [process.stdout.readline() for _ in range(60)]
        assert json.loads(lines[-1].strip(" ,\n"))["frame"] == 56  # behind the three lines that begin the document
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
    assert process.returncode == 130
    assert said in ("", "error: interrupted\n")  # some releases of Typer keep the interruption to themselves
    document = json.loads("".join(lines) + rest)
    assert document["interrupted"] is True
    count = len(document["images"])
    assert 57 <= count < 3000
    assert document["videos"][0]["frames"] in (count - 1, count)  # the signal may come between row and counter
    assert json.loads((tmp_path / "out/predictions.json").read_text()) == document
    assert abs(len(little_videos.decoded(tmp_path / "out/long.mkv")) - count) <= 1


def test_a_terminal_gets_a_bar_and_one_line_for_the_film(folder, tmp_path):
    master, slave = pty.openpty()
    process = subprocess.Popen(
        command("film.mp4"), cwd=folder, env={**environment(), "TERM": "xterm"}, stdout=slave, stderr=slave
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(master)
    assert process.wait(60) == 0
    assert b"film.mp4: 12 frames, " in shown
    assert b"detecting" in shown
    assert b"/12" in shown
