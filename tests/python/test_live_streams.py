"""Live streams over real sockets: MPEG-TS over UDP and RTSP over TCP, read, broken off, opened again, left."""

from __future__ import annotations

import itertools
import logging
import threading

import numpy as np
import pytest

import controlled_engine
import little_streams
import little_videos
import swiftdet
from swiftdet.errors import VideoError
from swiftdet.images import Image
from swiftdet.sources import expand, videos

FRAMES = 30
PICTURES = little_videos.pictures(12)


def shown(frame):
    """Which of the pictures a frame is."""
    differences = [np.abs(frame.pixels.astype(int) - picture).mean() for picture in PICTURES]
    assert min(differences) < 12
    return int(np.argmin(differences))


def in_turn(frames):
    """Whether the pictures follow each other as they were sent."""
    numbers = [shown(frame) for frame in frames]
    return all((b - a) % len(PICTURES) == 1 for a, b in itertools.pairwise(numbers))


@pytest.fixture
def udp():
    """The address that is read, and what makes its sender fall silent."""
    address = f"udp://127.0.0.1:{little_streams.free_port()}"
    with little_streams.sending(f"{address}?pkt_size=1316", "mpegts", PICTURES) as silence:
        yield address, silence


def test_a_stream_over_udp_until_it_falls_silent(udp):
    address, silence = udp
    frames = []

    def read():
        for number, frame in enumerate(videos.read(expand(address)[0])):
            if number == FRAMES:
                silence.set()
            yield frame

    with pytest.raises(VideoError, match="reading stopped"):  # when the time limit comes
        frames.extend(read())
    whole = [frame for frame in frames if isinstance(frame, Image)]
    assert len(whole) >= FRAMES - 5  # who joins late may get part of a group of frames
    assert in_turn(whole)
    assert [(f.frame if isinstance(f, Image) else f.info).index for f in frames] == list(range(len(frames)))


def test_results_of_a_stream_over_udp_and_its_end(udp, tmp_path):
    """The newest frame each time, until closed; no thread stays."""
    address, _ = udp
    detector, _ = controlled_engine.make_detector(controlled_engine.write_model(tmp_path))
    with detector, detector.predict(address, stream=True) as stream:
        results = list(itertools.islice(stream, FRAMES))
    indices = [result.frame_index for result in results]
    assert indices == sorted(set(indices))
    assert {result.path for result in results} == {address}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("swiftdet")]


def test_a_camera_over_rtsp():
    with little_streams.RtspCamera(PICTURES).running() as camera:
        address = camera.address.replace("//", "//me:secret@")
        reader = videos.read(expand(address)[0])
        frames = list(itertools.islice(reader, FRAMES))
        reader.close()
    assert in_turn(frames)
    assert frames[0].path == camera.address.replace("//", "//me:***@")
    assert frames[-1].frame.index == FRAMES - 1
    assert camera.requests[:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]


def test_a_camera_that_hangs_up_is_opened_again(caplog):
    """Frames keep counting; after the last try the caller is told."""
    with little_streams.RtspCamera(PICTURES, breaks_after=60).running() as camera:
        reader = videos.read(expand(camera.address)[0], reconnect=1)
        with caplog.at_level(logging.WARNING, "swiftdet.sources"):
            frames = list(itertools.takewhile(lambda _: camera.requests.count("PLAY") < 3, reader))
        reader.close()
        assert [frame.frame.index for frame in frames] == list(range(len(frames)))
        assert caplog.text.count("the other side ended the stream; trying again in 0.5 s (1 of 1)") >= 2
        with pytest.raises(VideoError, match="the other side ended the stream"):
            list(videos.read(expand(camera.address)[0]))


def test_every_frame_of_a_stream_that_is_said_to_end(tmp_path):
    """With live=False the end is the end, as that of a file."""
    detector, _ = controlled_engine.make_detector(controlled_engine.write_model(tmp_path))
    with detector, little_streams.RtspCamera(PICTURES, breaks_after=60).running() as camera:
        results = list(detector.predict(camera.address, stream=True, live=False))
    assert [result.frame_index for result in results] == list(range(len(results)))
    assert len(results) > 5
    assert camera.requests.count("PLAY") == 1


def test_a_camera_that_does_not_play(monkeypatch):
    monkeypatch.setattr(videos, "TIMEOUT_S", 1.0)
    with little_streams.RtspCamera(PICTURES, breaks_after=0).running() as camera, pytest.raises(VideoError):
        list(videos.read(expand(camera.address)[0], reconnect=2))
    assert swiftdet.sources.without_password(camera.address) == camera.address
