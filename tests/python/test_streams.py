"""`Detector.predict` over sources: order, exactness, back-pressure, ends, damage, live sources."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import threading
import weakref
from pathlib import Path

import make_models
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage

import controlled_engine
import little_videos
import swiftdet
from swiftdet import frames
from swiftdet.errors import DetectorClosed, ImageError, InvalidArgument, InvalidType, VideoError
from swiftdet.sources import SourceOptions, pipeline, run

GUARD_S = 60  # against hanging, not a measurement


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    onnx.save(make_models.build("ultralytics-columns", size=(64, 96), classes=3, seed=3), path)
    with swiftdet.Detector(path, device="cpu", conf=0.0, iou=1.0, max_det=50) as detector:
        yield detector


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return little_videos.write(tmp_path_factory.mktemp("film") / "film.mp4", little_videos.pictures(24))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Motion JPEG whose frame 4 does not decode."""
    path = tmp_path_factory.mktemp("damaged") / "damaged.avi"
    little_videos.write(path, little_videos.pictures(), codec="mjpeg", pix_fmt="yuvj420p")
    content = bytearray(path.read_bytes())
    fifth = [i for i in range(len(content)) if content.startswith(b"\xff\xd8", i)][4]
    content[fifth + 30 : fifth + 330] = bytes(300)
    path.write_bytes(content)
    return path


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("swiftdet")]
    assert left == []


def same(results, expected):
    """Equal bit for bit, in the same order, from the same places."""
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result.xyxy, wanted.xyxy)
        np.testing.assert_array_equal(result.conf, wanted.conf)
        np.testing.assert_array_equal(result.cls, wanted.cls)
        assert (result.path, result.frame_index, result.time_s) == (wanted.path, wanted.frame_index, wanted.time_s)


# --- results --------------------------------------------------------------------------------------------------------


def test_a_film_gives_what_each_of_its_pictures_gives(detector, film):
    frames = little_videos.decoded(film)
    results = list(detector.predict(film, stream=True))
    assert len(results) == len(frames) == 24
    for i, (result, (seconds, pixels)) in enumerate(zip(results, frames, strict=True)):
        alone = detector(pixels)
        assert len(alone) > 0
        np.testing.assert_array_equal(result.xyxy, alone.xyxy)
        np.testing.assert_array_equal(result.conf, alone.conf)
        np.testing.assert_array_equal(result.orig_img, pixels)
        assert (result.path, result.frame_index) == (str(film), i)
        assert result.time_s == pytest.approx(seconds)
        assert result.video.rate == 25


def test_what_a_frame_says_of_itself(detector, film):
    result = detector.predict(film)[3]
    assert result.summary()[0]["frame"] == 3
    assert result.summary()[0]["time_s"] == pytest.approx(0.12)
    assert result[0].frame_index == 3
    still = detector(np.zeros((20, 30, 3), np.uint8))
    assert (still.frame_index, still.time_s, still.video) == (None, None, None)
    assert "frame" not in still.summary()[0]


def test_a_list_keeps_no_pixels_of_frames(detector, film, tmp_path):
    PilImage.new("RGB", (40, 30)).save(tmp_path / "still.png")
    results = detector.predict([film, tmp_path / "still.png"])
    with pytest.raises(InvalidArgument, match=r"frame 0 of .*film.mp4: a list .* stream=True"):
        results[0].plot()
    assert results[-1].plot().shape == (30, 40, 3)


@settings(max_examples=25)
@given(
    prefetch=st.integers(0, 9),
    order=st.lists(st.sampled_from(["film", "array", "still", "bytes", "list"]), max_size=5),
    live_list=st.booleans(),
)
def test_reading_ahead_changes_nothing(detector, film, tmp_path_factory, prefetch, order, live_list):
    still = tmp_path_factory.getbasetemp() / "still.png"
    if not still.exists():
        PilImage.fromarray(little_videos.pictures(1)[0]).save(still)
    pictures = little_videos.pictures(3, size=(30, 50), seed=4)
    kinds = {"film": film, "array": pictures[0], "still": still, "bytes": still.read_bytes(), "list": pictures[1:]}
    source = [kinds[name] for name in order]
    serial = list(detector.predict(source, stream=True, prefetch=0))
    same(list(detector.predict(iter(source) if live_list else source, stream=True, prefetch=prefetch)), serial)
    same(detector.predict(source, prefetch=prefetch), serial)


def test_folders_give_images_and_films(detector, film, tmp_path):
    (tmp_path / "b.mp4").write_bytes(film.read_bytes())
    for name in ("a.png", "c.png"):
        PilImage.new("RGB", (40, 30)).save(tmp_path / name)
    paths = [path.rpartition("/")[2] for path in (result.path for result in detector.predict(tmp_path))]
    assert paths == ["a.png", *["b.mp4"] * 24, "c.png"]


def test_several_streams_share_a_detector(detector, film):
    serial = list(detector.predict(film, stream=True, prefetch=0))
    found = {}

    def consume(i):
        found[i] = list(detector.predict(film, stream=True, prefetch=1 + i, conf=0.1 * i))

    threads = [threading.Thread(target=consume, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD_S)
    same(found[0], serial)
    for i in range(4):
        same(found[i], list(detector.predict(film, stream=True, prefetch=0, conf=0.1 * i)))


# --- threads, memory, ends ------------------------------------------------------------------------------------------


def test_a_generator_of_arrays_is_lazy_and_may_reuse_its_buffer(detector):
    buffer = np.zeros((30, 50, 3), np.uint8)
    pictures = little_videos.pictures(5, size=(30, 50))
    asked, threads = [], set()

    def generate():
        for i, picture in enumerate(pictures):
            asked.append(i)
            threads.add(threading.current_thread())
            buffer[:] = picture
            yield buffer

    stream = detector.predict(generate(), stream=True)
    assert asked == []
    for i, (result, picture) in enumerate(zip(stream, pictures, strict=True)):
        assert asked == list(range(i + 1))
        np.testing.assert_array_equal(result.xyxy, detector(picture).xyxy)
    assert threads == {threading.current_thread()}


class Counting:
    """Stands for a detector: counts the images that are read and not yet let go of."""

    def __init__(self):
        self.read = itertools.count(1)
        self.reads = 0
        self.alive = weakref.WeakSet()
        self.most_alive = 0
        self.threads = set()
        self.idle = threading.Event()

    def load(self, _):
        self.reads = next(self.read)
        image = Pixels()
        self.alive.add(image)
        self.most_alive = max(self.most_alive, len(self.alive))
        return image

    def detect(self, image):
        self.threads.add(threading.current_thread())
        return image


class Pixels:
    pass


def settled(value, tries=200):
    """The value once it has stopped changing for a while."""
    last = value()
    quiet = 0
    for _ in range(tries):
        threading.Event().wait(0.005)
        quiet = quiet + 1 if value() == last else 0
        last = value()
        if quiet == 20:
            break
    return last


@pytest.mark.parametrize("prefetch", [1, 2, 4, 16])
def test_a_slow_caller_stops_the_reader(prefetch):
    counting = Counting()
    source = [b"image"] * 100
    options = SourceOptions(prefetch=prefetch)
    stream = run(source, options, load=counting.load, detect=counting.detect, workers=3)
    for taken in range(1, 7):
        result = next(stream)
        assert settled(lambda: counting.reads, tries=20) <= taken + prefetch
        del result
    assert sum(1 for _ in stream) == 94
    assert counting.most_alive <= prefetch + 2
    assert len(counting.threads) <= min(3, prefetch)


def test_the_reader_of_a_film_stops_too(detector, film, monkeypatch):
    decoded = []
    original = pipeline.read

    def counted(*args, **options):
        for item in original(*args, **options):
            decoded.append(item)
            yield item

    monkeypatch.setattr(pipeline, "read", counted)
    stream = detector.predict(film, stream=True, prefetch=3)
    next(stream)
    assert settled(lambda: len(decoded)) == 4
    stream.close()
    assert len(decoded) <= 5


@pytest.mark.parametrize("prefetch", [0, 3])
def test_frames_are_let_go_of_without_the_collector(detector, film, monkeypatch, prefetch):
    """Their pixels are large, and the collector counts objects: what waits for it is memory that grows."""
    arrays = []
    original = pipeline.read

    def followed(*args, **options):
        for item in original(*args, **options):
            arrays.append(weakref.ref(item.pixels))
            yield item
            del item

    monkeypatch.setattr(pipeline, "read", followed)
    gc.collect()
    gc.disable()
    try:
        for result in detector.predict(film, stream=True, prefetch=prefetch):
            assert result.frame_index is not None
            assert sum(array() is not None for array in arrays) <= prefetch + 3
        del result
        assert sum(array() is not None for array in arrays) == 0
    finally:
        gc.enable()


def test_what_pyav_holds_is_let_go_of_too(film):
    """PyAV's own objects are not seen by weak references, but by the collector."""
    (video,) = swiftdet.sources.expand(film)
    gc.collect()
    gc.disable()
    try:
        count = sum(1 for _ in pipeline.read(video))
        left = sum(type(found).__name__ == "VideoFrame" for found in gc.get_objects())
        assert count == 24
        assert left <= 2
    finally:
        gc.enable()


def open_files(path):
    return [file for file in Path("/proc/self/fd").iterdir() if os.path.realpath(file) == str(path)]


@pytest.mark.parametrize("how", ["break", "close", "with", "raise", "exhaust", "forget"])
@pytest.mark.parametrize("prefetch", [0, 1, 4])
@pytest.mark.parametrize("live", [False, True])
def test_the_end_is_the_end(detector, film, how, prefetch, live):
    gc.disable()  # nothing may wait for the collector
    try:
        stream = detector.predict(film, stream=True, prefetch=prefetch, live=live)
        next(stream)
        if how == "break":
            for _ in stream:
                break
            del stream
        elif how == "close":
            stream.close()
            stream.close()
            assert list(stream) == []
        elif how == "with":
            with stream:
                next(stream, None)
        elif how == "raise":
            with pytest.raises(ZeroDivisionError), stream:
                raise ZeroDivisionError
        elif how == "exhaust":
            list(stream)
        else:
            del stream
        assert not [t for t in threading.enumerate() if t.name.startswith("swiftdet")]
        assert open_files(film) == []
    finally:
        gc.enable()


def test_decoding_inference_and_the_caller_overlap(film, tmp_path, monkeypatch):
    """Frame 0 is with the caller, frame 1 held in the engine, and frame 2 is decoded all the same."""
    detector, engine = controlled_engine.make_detector(controlled_engine.write_model(tmp_path), device="cpu")
    may_decode, decoded = threading.Semaphore(0), [threading.Event() for _ in range(24)]
    original = pipeline.read

    def gated(*args, **options):
        for i, frame in enumerate(original(*args, **options)):
            decoded[i].set()
            yield frame
            assert may_decode.acquire(timeout=GUARD_S)

    monkeypatch.setattr(pipeline, "read", gated)
    with detector, detector.predict(film, stream=True, prefetch=4) as stream:
        assert next(stream).frame_index == 0
        engine.hold()
        may_decode.release()
        engine.wait_for_a_run()  # of frame 1, while nobody asks for a result
        assert not decoded[2].is_set()
        may_decode.release()
        assert decoded[2].wait(GUARD_S)  # while that run goes on
        engine.let_go()
        may_decode.release(24)
        assert [result.frame_index for result in stream] == list(range(1, 24))


def test_close_from_another_thread_ends_a_waiting_caller():
    gate = threading.Event()

    def load(_):
        gate.wait(GUARD_S)
        return Pixels()

    stream = run([b"image"] * 9, SourceOptions(), load=load, detect=lambda image: image, workers=2)
    results = []
    consumer = threading.Thread(target=lambda: results.extend(stream))
    consumer.start()
    settled(lambda: len(results), tries=30)
    stream.close()
    gate.set()
    consumer.join(GUARD_S)
    assert not consumer.is_alive()
    assert len(results) <= 2


def test_an_error_of_the_detector_comes_at_its_place_and_ends_the_stream():
    calls = itertools.count()

    def detect(image):
        if next(calls) == 5:
            raise MemoryError
        return image

    stream = run([b"image"] * 9, SourceOptions(), load=lambda _: Pixels(), detect=detect, workers=1)
    assert len([next(stream) for _ in range(5)]) == 5
    with pytest.raises(MemoryError):
        next(stream)
    assert list(stream) == []


def test_an_error_of_the_callers_generator_is_the_callers(detector):
    def generate():
        yield np.zeros((20, 30, 3), np.uint8)
        raise KeyError("mine")

    for prefetch in (None, 3):
        stream = detector.predict(generate(), stream=True, prefetch=prefetch)
        next(stream)
        with pytest.raises(KeyError, match="mine"):
            next(stream)


def test_a_detector_that_is_closed_meanwhile(film, tmp_path):
    onnx.save(make_models.build("ultralytics-columns", size=(64, 96), classes=3, seed=3), tmp_path / "tiny.onnx")
    detector = swiftdet.Detector(tmp_path / "tiny.onnx", device="cpu")
    stream = detector.predict(film, stream=True, prefetch=2)
    next(stream)
    detector.close()
    with pytest.raises(DetectorClosed):
        list(stream)


def test_an_open_stream_does_not_hold_up_the_end_of_the_process(run_python, film, tmp_path):
    onnx.save(make_models.build("ultralytics-columns", size=(64, 96), classes=3, seed=3), tmp_path / "tiny.onnx")
    code = f"""
import swiftdet
detector = swiftdet.Detector({str(tmp_path / "tiny.onnx")!r}, device="cpu")
streams = [detector.predict({str(film)!r}, stream=True, live=live) for live in (False, True)]
for stream in streams:
    next(stream)
print("done")
"""
    assert run_python(code).strip() == "done"


# --- what cannot be read --------------------------------------------------------------------------------------------


def test_a_damaged_frame_is_left_out_counted_and_logged(detector, damaged, caplog):
    with caplog.at_level(logging.WARNING, "swiftdet.sources"), detector.predict(damaged, stream=True) as stream:
        results = list(stream)
    assert [result.frame_index for result in results] == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert stream.skipped == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"skipped: {damaged}: frame 4: " + caplog.records[0].getMessage().split("frame 4: ")[1]
    ]
    with pytest.raises(VideoError, match="frame 4"):
        detector.predict(damaged, on_error="raise")


@pytest.mark.parametrize("prefetch", [0, 3])
def test_stills_raise_unless_they_may_be_skipped(detector, film, tmp_path, prefetch, caplog):
    (tmp_path / "text.jpg").write_bytes(b"no image")
    (tmp_path / "text.mp4").write_bytes(b"no video")
    good = np.zeros((20, 30, 3), np.uint8)
    bad = [tmp_path / "text.jpg", tmp_path / "gone.jpg", np.zeros((2, 2), np.float32), b"", tmp_path / "text.mp4"]
    for item in bad:
        stream = detector.predict([good, item, good], stream=True, prefetch=prefetch)
        assert next(stream) is not None
        with pytest.raises((ImageError, InvalidType, VideoError)):
            list(stream)
    stream = detector.predict([good, *bad, film, good], stream=True, on_error="skip", prefetch=prefetch)
    assert len(list(stream)) == 26
    assert stream.skipped == 5
    assert sum(message.startswith("skipped: ") for message in caplog.messages) == 5


def test_a_flood_of_damage_is_summed_up(caplog, film, monkeypatch):
    def many(*_, **__):
        for frame in original(*args):
            for index in range(30):
                yield pipeline.Damaged(frames.FrameInfo(frame.frame.video, index, 0.0), "torn")
            yield frame
            return

    original, args = pipeline.read, (swiftdet.sources.expand(film)[0],)
    monkeypatch.setattr(pipeline, "read", many)
    stream = run(film, SourceOptions(), load=None, detect=lambda image: image, workers=1)
    assert len(list(stream)) == 1
    assert stream.skipped == 30
    assert len(caplog.messages) == 12
    assert caplog.messages[-1] == f"{film}: 30 frames were skipped"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"on_error": "ignore"}, InvalidArgument),
        ({"live": 1}, InvalidType),
        ({"prefetch": -1}, InvalidArgument),
        ({"prefetch": 2.5}, InvalidType),
        ({"reconnect": True}, InvalidType),
        ({"reconnect": 10**9}, InvalidArgument),
        ({"unheard_of": 1}, InvalidArgument),
    ],
)
def test_options_are_checked_at_once(detector, film, options, error):
    with pytest.raises(error):
        detector.predict(film, stream=True, **options)


# --- live -----------------------------------------------------------------------------------------------------------


def test_a_source_that_never_ends_needs_a_stream(detector):
    for source in ("rtsp://host/1", 0, "/dev/video0", ["rtsp://host/1"]):
        with pytest.raises(InvalidArgument, match="never ends"):
            detector.predict(source)


def test_a_live_source_gives_the_newest_frame_and_counts_the_dropped(detector, film, monkeypatch):
    """The film as if it came from a camera: between two results the reader has gone on."""
    gates = [threading.Event() for _ in range(4)]
    arrived = threading.Semaphore(0)
    original = pipeline.read

    def paced(*args, **options):
        for i, frame in enumerate(original(*args, **options)):
            if i % 6 == 0:
                gates[i // 6].wait(GUARD_S)
            yield frame  # comes back for more only when this one was put in its place
            arrived.release()

    monkeypatch.setattr(pipeline, "read", paced)
    stream = detector.predict(film, stream=True, live=True)
    first = threading.Thread(target=gates[0].set)
    first.start()
    indices = [next(stream).frame_index]
    first.join()
    for gate in gates[1:]:
        gate.set()
        for _ in range(6):
            assert arrived.acquire(timeout=GUARD_S)
        indices.append(next(stream).frame_index)
    assert indices == sorted(indices)
    rest = [result.frame_index for result in stream]
    everything = indices + rest
    assert everything[-1] == 23
    assert len(everything) + stream.dropped == 24
    assert stream.dropped >= 10


def test_every_frame_of_a_live_source_when_asked(detector, film):
    expected = list(detector.predict(film, stream=True))
    same(list(detector.predict(film, stream=True, live=False)), expected)
