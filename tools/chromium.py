"""A headless Chromium at the end of a pipe: opens a page, tells what it asked for and complained of, takes pictures.

Debian's package `chromium` is all that is needed; the DevTools protocol is spoken over two file descriptors, so there
is no port, no driver and no other package.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

_TIMEOUT_S = 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",  # of containers, whose root may not make one; the pages are ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)


def executable() -> str | None:
    """Path of the browser, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


# The browser reads commands at descriptor 3 and writes answers to 4.
_EXEC = """
import os, sys
for own, wanted in zip(sys.argv[1:3], (3, 4)):
    os.dup2(int(own), wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Page:
    """One open page.

    Attributes:
        requests: addresses of everything that was asked for since it was made.
        complaints: console errors and warnings, and exceptions.
    """

    def __init__(self, process: subprocess.Popen[bytes], to_browser: int, from_browser: int) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._process = process
        self._write, self._read = to_browser, from_browser
        self._buffer = b""
        self._last = 0
        self._loaded = False
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def show(self, address: str, *, width: int, dark: bool = False) -> None:
        """Opens an address in a window of a width, and waits until it is loaded."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._ask("Emulation.setEmulatedMedia", features=features)
        self._resize(width, 900)
        self._loaded = False
        self._ask("Page.navigate", url=address)
        end = time.monotonic() + _TIMEOUT_S
        while not self._loaded:
            self._receive(end)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page, of JSON's types."""
        found = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def picture(self, *, height: int | None = None, scale: float = 1.0) -> bytes:
        """The page as PNG, from its top; None: all of it."""
        width, whole = self.evaluate("[innerWidth, document.documentElement.scrollHeight]")
        area = {"x": 0, "y": 0, "width": width, "height": height or whole, "scale": scale}
        found = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=area)
        return base64.b64decode(found["data"])

    def _resize(self, width: int, height: int) -> None:
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._call(method, session=self._session, **parameters)

    def _call(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + _TIMEOUT_S
        while True:
            answer = self._receive(end)
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                found: dict[str, Any] = answer["result"]
                return found

    def _receive(self, end: float) -> dict[str, Any]:
        """The next message; what it tells of the page is noted."""
        while b"\0" not in self._buffer:
            if time.monotonic() > end or self._process.poll() is not None:
                raise RuntimeError("Chromium does not answer")
            with contextlib.suppress(BlockingIOError):
                self._buffer += os.read(self._read, 1 << 20)
                continue
            time.sleep(0.005)
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, event: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(event["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.complaints.append(f"{event['entry']['level']}: {event['entry']['text']}")
        elif method == "Runtime.consoleAPICalled" and event["type"] in {"error", "warning", "assert"}:
            self.complaints.append(f"{event['type']}: {event['args']}")


def _pipes() -> list[int]:
    """Two pipes, reading ends first, none of them at the descriptors that the browser wants."""
    found = []
    for end in (*os.pipe(), *os.pipe()):
        found.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
    return found


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """A page in a browser of its own, which ends with the body.

    Raises:
        RuntimeError: there is no Chromium, or it does not answer.
    """
    path = executable()
    if path is None:
        raise RuntimeError("no Chromium: apt-get install chromium")
    command_read, command_write, answer_read, answer_write = _pipes()
    os.set_blocking(answer_read, False)
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        descriptors = [str(command_read), str(answer_write)]
        process = subprocess.Popen(
            [sys.executable, "-c", _EXEC, *descriptors, path, *_FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(command_read, answer_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_read)
        os.close(answer_write)
        try:
            yield Page(process, command_write, answer_read)
        finally:
            process.terminate()
            process.wait()
            os.close(command_write)
            os.close(answer_read)
