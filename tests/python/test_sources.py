import numpy as np
import pytest
from PIL import Image as PilImage

from swiftdet import sources
from swiftdet.errors import ImageError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.png", "C.JPG", "notes.txt", ".hidden.jpg", "sub/d.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    return tmp_path


def names(paths, folder):
    return [str(path.relative_to(folder)) for path in paths]


def test_folder_is_sorted_and_flat(folder):
    assert names(sources.expand(folder), folder) == ["C.JPG", "a.png", "b.jpg"]
    assert names(sources.expand(str(folder)), folder) == ["C.JPG", "a.png", "b.jpg"]


def test_patterns(folder):
    assert names(sources.expand(f"{folder}/*.jpg"), folder) == ["b.jpg"]
    assert names(sources.expand(f"{folder}/**/*.jpg"), folder) == ["b.jpg", "sub/d.jpg"]
    assert names(sources.expand(f"{folder}/[ab].*"), folder) == ["a.png", "b.jpg"]


def test_relative_pattern(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert [str(path) for path in sources.expand("*.jpg")] == ["b.jpg"]


def test_a_file_named_like_a_pattern(folder):
    (folder / "shot[1].jpg").write_bytes(b"")
    assert names(sources.expand(folder / "shot[1].jpg"), folder) == ["shot[1].jpg"]


def test_a_named_file_is_taken_whatever_its_suffix(folder):
    assert names(sources.expand(folder / "notes.txt"), folder) == ["notes.txt"]


def test_lists_keep_their_order(folder):
    array = np.zeros((2, 2, 3), np.uint8)
    picture = PilImage.new("L", (1, 1))
    content = b"encoded"
    items = sources.expand([folder / "b.jpg", array, (picture, content), str(folder / "sub")])
    assert items[1] is array
    assert items[2] is picture
    assert items[3] is content
    assert names([items[0], items[4]], folder) == ["b.jpg", "sub/d.jpg"]


def test_a_single_array():
    array = np.zeros((2, 2, 3), np.uint8)
    assert sources.expand(array)[0] is array


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.jpg", "missing.jpg: no such file or folder"),
        ("*.gif", "no images match this pattern"),
        ("empty", "no images in this folder"),
        ("film.mp4", "videos are not read; this version reads image files"),
        ("FILM.MKV", "videos are not read"),
    ],
)
def test_nothing_to_read(folder, name, words):
    (folder / "empty").mkdir()
    (folder / "film.mp4").write_bytes(b"")
    with pytest.raises(ImageError, match=words):
        sources.expand(str(folder / name))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("https://example.org/a.jpg", "addresses and streams are not read"),
        ("rtsp://camera/1", "addresses and streams are not read"),
        ("0", "cameras are not read"),
        ("", "got an empty name"),
        ("x" * 5000, "cannot be read"),
        ("x" * 5000 + "*", "cannot be read"),
    ],
)
def test_what_is_no_file(name, words):
    with pytest.raises(ImageError, match=words):
        sources.expand(name)
