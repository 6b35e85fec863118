"""What a source names: `swiftdet.sources.expand`."""

import numpy as np
import pytest
from PIL import Image as PilImage

from swiftdet import sources
from swiftdet.errors import BackendUnavailable, ImageError
from swiftdet.sources import Video
from swiftdet.sources.expansion import belongs_to_caller, walk, without_password


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.png", "C.JPG", "notes.txt", ".hidden.jpg", ".hidden.mp4", "film.mp4", "sub/d.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "folder.mp4").mkdir()
    return tmp_path


def names(items, folder):
    """Paths within the folder, videos marked as such."""
    return [
        f"video {item.location}".replace(f"{folder}/", "") if isinstance(item, Video) else str(item.relative_to(folder))
        for item in items
    ]


def test_folder_is_sorted_and_flat_and_gives_images_and_videos(folder):
    expected = ["C.JPG", "a.png", "b.jpg", "video film.mp4"]
    assert names(sources.expand(folder), folder) == expected
    assert names(sources.expand(str(folder)), folder) == expected


def test_patterns(folder):
    assert names(sources.expand(f"{folder}/*.jpg"), folder) == ["b.jpg"]
    assert names(sources.expand(f"{folder}/**/*.jpg"), folder) == ["b.jpg", "sub/d.jpg"]
    assert names(sources.expand(f"{folder}/[abf]*.*"), folder) == ["a.png", "b.jpg", "video film.mp4"]


def test_relative_pattern(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert [str(path) for path in sources.expand("*.jpg")] == ["b.jpg"]


def test_a_file_named_like_a_pattern_or_a_camera(folder, monkeypatch):
    (folder / "shot[1].jpg").write_bytes(b"")
    (folder / "7").write_bytes(b"")
    monkeypatch.chdir(folder)
    assert names(sources.expand(folder / "shot[1].jpg"), folder) == ["shot[1].jpg"]
    assert [str(path) for path in sources.expand("7")] == ["7"]


def test_a_named_file_is_taken_whatever_its_suffix(folder):
    assert names(sources.expand(folder / "notes.txt"), folder) == ["notes.txt"]


def test_lists_keep_their_order(folder):
    array = np.zeros((2, 2, 3), np.uint8)
    picture = PilImage.new("L", (1, 1))
    content = b"encoded"
    items = sources.expand([folder / "b.jpg", array, (picture, content), str(folder / "sub"), [[folder / "film.mp4"]]])
    assert items[1] is array
    assert items[2] is picture
    assert items[3] is content
    assert names([items[0], *items[4:]], folder) == ["b.jpg", "sub/d.jpg", "video film.mp4"]


def test_a_single_array():
    array = np.zeros((2, 2, 3), np.uint8)
    assert sources.expand(array)[0] is array


def test_a_generator_is_asked_for_one_item_at_a_time(folder):
    asked = []

    def generate():
        for item in (np.zeros((2, 2, 3), np.uint8), folder / "b.jpg", folder):
            asked.append(item)
            yield item

    items = walk(generate())
    next(items)
    assert len(asked) == 1
    next(items)
    assert len(asked) == 2
    assert names(items, folder) == ["C.JPG", "a.png", "b.jpg", "video film.mp4"]


def test_whose_thread_a_source_belongs_to():
    array = np.zeros((2, 2, 3), np.uint8)
    assert belongs_to_caller(iter([array]))
    assert belongs_to_caller(["a.jpg", [iter([array])]])
    assert not belongs_to_caller(["a.jpg", array, (array, b"content")])
    assert not belongs_to_caller("a.jpg")
    on_gpu = type("OnGpu", (), {"__cuda_array_interface__": {}})()
    assert belongs_to_caller([on_gpu])


@pytest.mark.parametrize("camera", [3, np.int64(3), "3", "/dev/video3"])
def test_cameras(camera, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert sources.expand(camera) == [Video("/dev/video3", "camera", "/dev/video3", live=True)]


@pytest.mark.parametrize(
    ("address", "name", "live"),
    [
        ("rtsp://host/1", "rtsp://host/1", True),
        ("RTSP://user:se@cret@host:554/1", "RTSP://user:***@host:554/1", True),
        ("udp://@239.0.0.1:1234", "udp://@239.0.0.1:1234", True),
        ("https://user@host/film.mp4?key=1", "https://user@host/film.mp4?key=1", False),
        ("http://[::1]:80/live.m3u8", "http://[::1]:80/live.m3u8", False),
    ],
)
def test_addresses(address, name, live):
    assert sources.expand(address) == [Video(address, "address", name, live=live)]


def test_what_is_no_address_is_left_alone():
    assert without_password("plain/a:b@c.jpg") == "plain/a:b@c.jpg"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.jpg", "missing.jpg: no such file or folder"),
        ("missing.mp4", "missing.mp4: no such file or folder"),
        ("*.gif", "no images match this pattern"),
        ("empty", "no images in this folder"),
    ],
)
def test_nothing_to_read(folder, name, words):
    (folder / "empty").mkdir()
    with pytest.raises(ImageError, match=words):
        sources.expand(str(folder / name))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("https://example.org/a.jpg", "an image behind an address is not read"),
        ("ftp://user:secret@example.org/a.mp4", r"ftp://user:\*\*\*@example.org/a.mp4: addresses of this kind"),
        ("concat://a.mp4|b.mp4", "addresses of this kind are not read"),
        ("", "got an empty name"),
        ("x" * 5000, "cannot be read"),
        ("x" * 5000 + "*", "cannot be read"),
    ],
)
def test_what_is_no_file(name, words):
    with pytest.raises(ImageError, match=words):
        sources.expand(name)


def test_what_is_not_there_can_be_passed_over(folder):
    refused = []
    found = list(walk([folder / "gone.jpg", folder / "b.jpg", ""], lambda name, error: refused.append((name, error))))
    assert names(found, folder) == ["b.jpg"]
    assert [name for name, _ in refused] == [str(folder / "gone.jpg"), ""]


@pytest.mark.parametrize("source", ["film.mp4", "folder", "rtsp://host/1", 0])
def test_without_pyav_the_command_that_installs_it_is_named(folder, monkeypatch, source):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    place = {"film.mp4": folder / "film.mp4", "folder": folder}.get(source, source)
    with pytest.raises(BackendUnavailable, match=r"pip install 'swiftdet\[video\]'"):
        sources.expand(place)
    assert len(sources.expand(folder / "b.jpg")) == 1
