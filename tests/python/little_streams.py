"""Live streams on this machine, MPEG-TS over UDP and a camera's RTSP over TCP, of pictures that come over and over."""

from __future__ import annotations

import contextlib
import itertools
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import av
import numpy as np

LONGEST_S = 120.0  # what was forgotten ends by itself
PACE_S = 0.004
_SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=test
c=IN IP4 127.0.0.1
t=0 0
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1
a=control:track
"""


def free_port() -> int:
    """A port of UDP, the one behind it free too, as RTP's companion needs."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second,
        ):
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            with contextlib.suppress(OSError):
                second.bind(("127.0.0.1", port + 1))
                return port


def send(address: str, kind: str, pictures: list[np.ndarray], stop: threading.Event) -> None:
    """Encodes the pictures over and over, an intra frame every fifth, and sends them until told to stop."""
    until = time.monotonic() + LONGEST_S
    with av.open(address, "w", format=kind) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.options = {"g": "5", "bf": "0", "threads": "1", "tune": "zerolatency", "x264-params": "repeat-headers=1"}
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for number, picture in enumerate(itertools.cycle(pictures)):
            if stop.wait(PACE_S) or time.monotonic() > until:
                return
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts = number
            container.mux(stream.encode(frame))


@contextlib.contextmanager
def sending(address: str, kind: str, pictures: list[np.ndarray]) -> Iterator[threading.Event]:
    """Sends in a thread; setting the event makes the stream fall silent."""
    stop = threading.Event()
    thread = threading.Thread(target=send, args=(address, kind, pictures, stop))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


class RtspCamera(socketserver.ThreadingTCPServer):
    """A camera: DESCRIBE, SETUP and PLAY, then RTP between the answers (RFC 2326, 10.12).

    Attributes:
        breaks_after: packets of RTP after which it hangs up; None: never.
        requests: the methods that it was asked for.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, pictures: list[np.ndarray], breaks_after: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.pictures = pictures
        self.breaks_after = breaks_after
        self.requests: list[str] = []
        self.address = f"rtsp://127.0.0.1:{self.server_address[1]}/film"

    @contextlib.contextmanager
    def running(self) -> Iterator[RtspCamera]:
        """Serves until the block ends."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class _Session(socketserver.StreamRequestHandler):
    server: RtspCamera

    def handle(self) -> None:
        while request := self._request():
            method, address, headers = request
            self.server.requests.append(method)
            if method == "OPTIONS":
                self._answer(headers, "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
            elif method == "DESCRIBE":
                self._answer(headers, f"Content-Base: {address}/", "Content-Type: application/sdp", body=_SDP)
            elif method == "SETUP":
                self._answer(headers, f"Transport: {headers['transport']}", "Session: 1")
            elif method == "PLAY":
                self._answer(headers, "Session: 1")
                self._play()
                return
            else:
                self._answer(headers)
                return

    def _request(self) -> tuple[str, str, dict[str, str]] | None:
        lines = list(iter(lambda: self.rfile.readline().decode().strip(), ""))
        if not lines:
            return None
        method, address, _ = lines[0].split()
        return method, address, {key.lower(): value.strip() for key, _, value in (x.partition(":") for x in lines[1:])}

    def _answer(self, headers: dict[str, str], *lines: str, body: str = "") -> None:
        length = [f"Content-Length: {len(body)}"] if body else []
        head = "\r\n".join(["RTSP/1.0 200 OK", f"CSeq: {headers['cseq']}", *lines, *length])
        self.wfile.write(f"{head}\r\n\r\n{body}".encode())

    def _play(self) -> None:
        port = free_port()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as received:
            received.bind(("127.0.0.1", port))
            received.settimeout(LONGEST_S)
            with sending(f"rtp://127.0.0.1:{port}?pkt_size=1200", "rtp", self.server.pictures):
                for number in itertools.count():
                    if number == self.server.breaks_after:
                        return
                    packet = received.recv(65536)
                    try:
                        self.wfile.write(b"$\0" + len(packet).to_bytes(2, "big") + packet)
                    except OSError:  # the other side went away
                        return
