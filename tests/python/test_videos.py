"""Decoding of videos, against the shortest PyAV program, OpenCV, and formulas; and what is damaged, hostile or gone."""

from __future__ import annotations

import functools
import http.server
import itertools
import logging
import os
import threading

import av
import cv2
import numpy as np
import pytest

import little_videos
from swiftdet.errors import VideoError
from swiftdet.frames import VideoInfo
from swiftdet.images import Image
from swiftdet.sources import Video, expand, videos
from swiftdet.sources.videos import Damaged, VideoReader

CASES = int(os.environ.get("SWIFTDET_TEST_VIDEO_CASES", "40"))  # damaged videos; the recorded run has 1000


def read(path):
    """Everything that a file gives: frames and damage, in order."""
    return list(videos.read(expand(path)[0]))


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Twelve frames at 25 per second, H.264 with B-frames."""
    return little_videos.write(tmp_path_factory.mktemp("film") / "film.mp4", little_videos.pictures())


# --- frames ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "size"),
    [
        ("a.mp4", "libx264", "yuv420p", (48, 64)),
        ("a.mkv", "libx264", "yuv444p", (47, 63)),
        ("a.mkv", "libx264", "yuv420p10le", (48, 64)),
        ("a.avi", "mpeg4", "yuv420p", (47, 63)),
        ("a.avi", "mjpeg", "yuvj420p", (48, 64)),
        ("a.ts", "libx264", "yuvj420p", (48, 64)),
        ("a.webm", "libvpx-vp9", "yuv420p", (47, 63)),
    ],
)
def test_frames_are_those_of_the_shortest_program(tmp_path, name, codec, pix_fmt, size):
    path = little_videos.write(tmp_path / name, little_videos.pictures(size=size), codec=codec, pix_fmt=pix_fmt)
    expected = little_videos.decoded(path)
    frames = read(path)
    assert len(frames) == len(expected) == 12
    for i, (frame, (seconds, pixels)) in enumerate(zip(frames, expected, strict=True)):
        np.testing.assert_array_equal(frame.pixels, pixels)
        assert (frame.order, frame.path, frame.note) == ("bgr", str(path), None)
        assert frame.frame.index == i
        assert frame.frame.time_s == pytest.approx(seconds - expected[0][0])
        assert not frame.pixels.flags.writeable


def test_frames_show_what_was_written(film):
    """Against the pictures before the encoder: colours in the right order, frames in the right order."""
    for frame, picture in zip(read(film), little_videos.pictures(), strict=True):
        assert np.abs(frame.pixels.astype(int) - picture).mean() < 12


def test_what_a_container_says(film):
    with VideoReader(expand(film)[0]) as reader:
        assert reader.info == VideoInfo(str(film), rate=25, frames=12, duration_s=pytest.approx(12 / 25))


def test_a_variable_rate_keeps_its_times(tmp_path):
    times = [0, 40, 120, 130, 500, 1000, 1001, 1300]
    path = little_videos.write(tmp_path / "vfr.mkv", little_videos.pictures(8), times=times)
    assert [round(1000 * frame.frame.time_s) for frame in read(path)] == times


def kr_kb(matrix):
    return {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "unknown": (0.299, 0.114)}[matrix]


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "unknown"])
@pytest.mark.parametrize("full", [False, True])
def test_the_conversion_is_the_one_that_the_stream_names(tmp_path, matrix, full):
    """One colour through a lossless encoder, and the formula of ITU-R BT.601/709 for it."""
    path = tmp_path / "colour.mkv"
    levels = (100, 90, 200)
    codes = {"bt709": 1, "smpte170m": 6, "unknown": 2}
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"qp": "0", "threads": "1"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = codes[matrix]
        stream.codec_context.color_range = 2 if full else 1
        frame = av.VideoFrame(64, 64, "yuv420p")
        frame.colorspace, frame.color_range = codes[matrix], 2 if full else 1
        for plane, level in zip(frame.planes, levels, strict=True):
            plane.update(bytes([level]) * plane.buffer_size)
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    y, u, v = levels[0], levels[1] - 128, levels[2] - 128
    if not full:
        y, u, v = (y - 16) * 255 / 219, u * 255 / 224, v * 255 / 224
    kr, kb = kr_kb(matrix)
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    (image,) = read(path)
    np.testing.assert_allclose(image.pixels[20, 20], [blue, green, red], atol=3)  # libswscale's tables are coarse


TURNS = {"clockwise": (0, 1, -1, 0), "anticlockwise": (0, -1, 1, 0), "180": (-1, 0, 0, -1)}


@pytest.mark.parametrize("turn", TURNS)
def test_rotation_metadata_is_applied_as_opencv_does(tmp_path, turn):
    path = little_videos.write(tmp_path / "phone.mp4", little_videos.pictures(3))
    upright = read(path)
    little_videos.set_display_matrix(path, *TURNS[turn])
    turned = read(path)
    peer = cv2.VideoCapture(str(path))
    for plain, frame in zip(upright, turned, strict=True):
        quarter_turns = {"clockwise": -1, "anticlockwise": 1, "180": 2}[turn]
        np.testing.assert_array_equal(frame.pixels, np.rot90(plain.pixels, quarter_turns))
        assert frame.size == frame.pixels.shape[:2]
        assert f"turned by {'180' if turn == '180' else '90'} degrees" in frame.note
        _, theirs = peer.read()
        assert theirs.shape == frame.pixels.shape
        assert np.abs(theirs.astype(int) - frame.pixels).mean() < 4  # OpenCV's conversion interpolates otherwise


def test_mirrors_and_oblique_matrices(tmp_path):
    path = little_videos.write(tmp_path / "mirror.mp4", little_videos.pictures(1))
    (plain,) = read(path)
    for matrix, expected, words in [
        ((-1, 0, 0, 1), plain.pixels[:, ::-1], "mirrored"),
        ((1, 0, 0, -1), plain.pixels[::-1], "mirrored"),
        ((0, 1, 1, 0), plain.pixels.transpose(1, 0, 2), "transposed"),
        ((1, 1, -1, 1), plain.pixels, "was not applied"),
    ]:
        (frame,) = read(little_videos.set_display_matrix(path, *matrix))
        np.testing.assert_array_equal(frame.pixels, expected)
        assert words in frame.note


def test_a_size_that_changes_on_the_way(tmp_path):
    path = tmp_path / "sizes.ts"
    parts = [
        little_videos.write(tmp_path / f"{i}.ts", little_videos.pictures(4, size=size))
        for i, size in enumerate([(48, 64), (64, 96)])
    ]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    sizes = [item.size for item in read(path) if isinstance(item, Image)]
    assert set(sizes) == {(48, 64), (64, 96)}


# --- damage ---------------------------------------------------------------------------------------------------------


def test_a_frame_that_does_not_decode_is_reported_and_the_next_ones_follow(tmp_path):
    """Motion JPEG: every frame stands alone, so that one is lost and its number is missing."""
    path = little_videos.write(tmp_path / "a.avi", little_videos.pictures(), codec="mjpeg", pix_fmt="yuvj420p")
    clean = read(path)
    content = bytearray(path.read_bytes())
    fifth = [i for i in range(len(content)) if content.startswith(b"\xff\xd8", i)][4]
    content[fifth + 30 : fifth + 330] = bytes(300)  # its tables
    path.write_bytes(content)
    items = read(path)
    damaged = [item for item in items if isinstance(item, Damaged)]
    assert [item.info.index for item in damaged] == [4]
    assert "cannot be decoded" in damaged[0].reason
    for item in items:
        if isinstance(item, Image):
            np.testing.assert_array_equal(item.pixels, clean[item.frame.index].pixels)
    assert len(items) == 12


def test_a_file_that_was_cut_short_gives_the_frames_that_are_whole(tmp_path):
    film = little_videos.pictures()
    path = little_videos.write(tmp_path / "a.mp4", film, container={"movflags": "faststart"}, options={"bf": "0"})
    clean = read(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    frames = [item for item in read(path) if isinstance(item, Image)]
    assert 0 < len(frames) < 12
    for frame, whole in zip(frames[:-1], clean, strict=False):
        np.testing.assert_array_equal(frame.pixels, whole.pixels)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.mp4", b"", "cannot be opened"),
        ("text.mp4", b"no video at all" * 100, "cannot be opened"),
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "cannot be opened"),
        ("list.ts", b"ffconcat version 1.0\nfile 'film.mp4'\n", "cannot be opened"),
        ("missing.mp4", None, "no such file"),
    ],
)
def test_what_is_no_video(tmp_path, name, content, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=rf"{name}: .*(?i:{words})"):
        list(videos.read(Video(str(path), "file", str(path), live=False)))


def test_a_film_without_its_index_or_without_pictures(film, tmp_path):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(film.read_bytes()[:1500])
    with pytest.raises(VideoError, match=r"cut\.mp4: cannot be opened: Invalid data"):
        read(cut)
    sound = tmp_path / "sound.mkv"
    with av.open(str(sound), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with pytest.raises(VideoError, match="no video in it"):
        read(sound)


def test_a_name_with_a_colon_is_no_protocol(film, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:a.mp4").write_bytes(film.read_bytes())
    assert len(read("http:a.mp4")) == 12


def test_a_frame_beyond_the_limit_is_not_decoded(film, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 48 * 64 - 1)
    with pytest.raises(VideoError):
        read(film)


def test_damaged_and_cut_videos_end_in_frames_or_a_typed_error(tmp_path):
    """Whatever is turned over, cut out or put together: no crash, no other exception, and the count adds up."""
    kinds = [("a.mp4", "libx264", "yuv420p"), ("a.avi", "mjpeg", "yuvj420p"), ("a.ts", "libx264", "yuv420p"),
             ("a.mkv", "mpeg4", "yuv420p"), ("a.webm", "libvpx-vp9", "yuv420p")]  # fmt: skip
    contents = [
        (name, little_videos.write(tmp_path / name, little_videos.pictures(), codec=codec, pix_fmt=fmt).read_bytes())
        for name, codec, fmt in kinds
    ]
    seen = {"frames": 0, "damaged": 0, "refused": 0}
    for case in range(CASES):
        name, content = contents[case % len(contents)]
        rng = np.random.default_rng(case)
        spans = [(0.0, 1.0), (0.0, 0.1), (0.9, 1.0), (0.2, 0.8)]
        start, end = spans[case % 4]
        damaged = little_videos.flipped(content, seed=case, count=int(rng.integers(1, 60)), start=start, end=end)
        if case % 3 == 0:
            cut = int(rng.integers(1, len(damaged)))
            damaged = damaged[:cut] + damaged[min(cut + int(rng.integers(0, 500)), len(damaged)) :]
        if case % 7 == 0:
            damaged = damaged[: int(rng.integers(1, len(damaged)))]
        path = tmp_path / f"case{case}-{name}"
        path.write_bytes(damaged)
        indices = []
        try:
            for item in videos.read(expand(path)[0]):
                indices.append(item.frame.index if isinstance(item, Image) else item.info.index)
                seen["frames" if isinstance(item, Image) else "damaged"] += 1
        except VideoError:
            seen["refused"] += 1
        assert indices == list(range(len(indices)))
        path.unlink()
    assert min(seen.values()) > 0, seen


def test_ffmpeg_prints_nothing(run_python, film, tmp_path):
    path = tmp_path / "damaged.mp4"
    path.write_bytes(little_videos.flipped(film.read_bytes(), seed=3, count=20, start=0.3, end=0.6))
    code = f"""
import os, sys
out = os.dup(2); r, w = os.pipe(); os.dup2(w, 2); os.dup2(w, 1)
from swiftdet.sources import expand, videos
try:
    items = list(videos.read(expand({str(path)!r})[0]))
    list(videos.read(expand({str(tmp_path / "none.mp4")!r})[0]))
except Exception as e:
    assert "no such file" in str(e), e
os.set_blocking(r, False)
try:
    said = os.read(r, 10000)
except BlockingIOError:
    said = b""
os.dup2(out, 2)
assert said == b"", said
assert any(type(item).__name__ == "Damaged" for item in items)
"""
    run_python(code)


# --- addresses and cameras ------------------------------------------------------------------------------------------


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(film):
    """The folder of the film, on this machine."""
    handler = functools.partial(_Handler, directory=str(film.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_film_behind_an_address_is_the_film(server, film):
    for ours, theirs in zip(read(f"{server}/film.mp4"), read(film), strict=True):
        np.testing.assert_array_equal(ours.pixels, theirs.pixels)
        assert ours.path == f"{server}/film.mp4"


def test_an_address_that_does_not_answer(server):
    with pytest.raises(VideoError, match=r"gone\.mp4: cannot be opened: .*404"):
        read(f"{server}/gone.mp4")
    with pytest.raises(VideoError, match=r"rtsp://me:\*\*\*@127.0.0.1:1/x: cannot be opened") as caught:
        read("rtsp://me:secret@127.0.0.1:1/x")
    assert "secret" not in repr(caught.value.__cause__)


def test_a_list_behind_an_address_cannot_open_files(server, film):
    """An HLS playlist that names a file of this machine, as a server might serve it to learn what is in it."""
    (film.parent / "evil.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{film}\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(VideoError):
        read(f"{server}/evil.m3u8")


def test_a_camera_is_opened_by_its_device(monkeypatch, film):
    """No camera is at hand: what is asked of PyAV is looked at, and a film answers."""
    asked = []
    opener = av.open

    def fake(location, **options):
        asked.append((location, options))
        return opener(str(film))

    monkeypatch.setattr(av, "open", fake)
    frames = list(itertools.islice(videos.read(expand("/dev/video2")[0]), 12))
    assert asked[0][0] == "/dev/video2"
    assert asked[0][1]["format"] == "v4l2"
    assert frames[0].path == "/dev/video2"
    assert frames[0].frame.video.frames is None


def test_rtsp_goes_over_tcp_with_a_time_limit(monkeypatch):
    asked = {}

    def fake(location, **options):
        asked.update(options)
        raise av.error.ExitError(1, "Immediate exit requested", location)

    monkeypatch.setattr(av, "open", fake)
    with pytest.raises(VideoError, match=r"no answer within 5 s"):
        read("rtsp://host/1")
    assert asked["container_options"] == {"rtsp_transport": "tcp"}
    assert asked["timeout"] == 5.0


def broken_off(frames_before):
    """A reader whose source breaks off after so many frames, and each time it is opened again."""

    class Reader(VideoReader):
        def __iter__(self):
            yield from itertools.islice(super().__iter__(), frames_before)
            raise VideoError(f"{self._video.name}: reading stopped: Connection reset by peer")

    return Reader


def test_a_stream_that_breaks_off_is_opened_again_so_many_times(monkeypatch, film, caplog):
    live = Video(str(film), "file", "rtsp://camera/1", live=True)
    stop = threading.Event()
    monkeypatch.setattr(stop, "wait", lambda _: None)
    opened = []

    class Reader(broken_off(4)):
        def __init__(self, *args, **options):
            opened.append(options)
            if len(opened) > 3:
                raise VideoError("rtsp://camera/1: cannot be opened: Connection refused")
            super().__init__(*args, **options)

    monkeypatch.setattr(videos, "VideoReader", Reader)
    seen = []
    with caplog.at_level(logging.WARNING, "swiftdet.sources"), pytest.raises(VideoError, match="Connection refused"):
        seen.extend(videos.read(live, reconnect=2, stop=stop))
    # Opened, broken off, opened, broken off, opened (each frame renews the tries), then refused twice.
    assert len(opened) == 5
    assert [item.frame.index for item in seen] == list(range(12))
    times = [item.frame.time_s for item in seen]
    assert times[:4] == pytest.approx([0.0, 0.04, 0.08, 0.12])
    assert "trying again in 0.5 s (1 of 2)" in caplog.text


def test_without_a_try_left_and_for_files_the_break_is_the_end(monkeypatch, film):
    monkeypatch.setattr(videos, "VideoReader", broken_off(4))
    for video, tries in ((Video(str(film), "file", "live", live=True), 0), (expand(film)[0], 3)):
        frames = videos.read(video, reconnect=tries)
        assert len(list(itertools.islice(frames, 4))) == 4
        with pytest.raises(VideoError, match="reading stopped"):
            next(frames)
