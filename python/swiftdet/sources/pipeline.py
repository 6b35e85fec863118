"""Runs a source through a detector: reads ahead, keeps several inferences in flight, hands results out in order.

    reader thread                      worker threads                the caller
    files, folders: names       --->   decode, pre-process,   --->   results, in the order of the source
    videos: decoded frames             infer, post-process

Between reader and caller is a queue of `prefetch` places; an image keeps its place from the moment it was read until
its result was taken. Nothing else waits anywhere, so a slow caller stops the reader, and a source of any length needs
the memory of `prefetch` + 1 images. A live source has a place for one frame, its newest: an older one that nobody took
is dropped, and inference begins when the caller asks, in the caller's thread.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from swiftdet import checks
from swiftdet.errors import ImageError, InvalidArgument, InvalidType, SwiftdetError, VideoError
from swiftdet.sources.expansion import Video, belongs_to_caller, walk
from swiftdet.sources.videos import Damaged, read

if TYPE_CHECKING:
    from typing_extensions import Self

    from swiftdet.results import Detections

_LOG = logging.getLogger("swiftdet.sources")
_T = TypeVar("_T")

OnError = Literal["auto", "raise", "skip"]

_PREFETCH = 4  # two in flight, two waiting
_PATIENCE_S = 1.0  # for a thread that waits for a network or a camera; it ends by itself when its own timeout comes
_LOGGED_FRAMES = 10  # of one source, before only the sum is logged


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a source is read; the options of `Detector.predict` of the same names.

    Raises:
        InvalidArgument, InvalidType: a value outside its contract.
    """

    on_error: OnError = "auto"
    live: bool | None = None
    prefetch: int | None = None
    reconnect: int = 3

    def __post_init__(self) -> None:
        checks.choice("on_error", self.on_error, ("auto", "raise", "skip"))
        if self.live is not None:
            checks.switch("live", self.live)
        for name, value in (("prefetch", self.prefetch), ("reconnect", self.reconnect)):
            if value is not None and not checks.is_integer(value):
                raise InvalidType(f"{name}: expected a whole number, got {value!r:.60}")
            if value is not None and not 0 <= value <= 1024:
                raise InvalidArgument(f"{name}: expected 0 to 1024, got {value}")


class DetectionStream(Iterator["Detections"]):
    """The results of a source, one at a time, in its order; what `Detector.predict(source, stream=True)` returns.

    Ends its threads and closes its file when it is exhausted, closed, left by `with`, no longer referred to (as after
    a `break`), or when anything raises. Several threads may not take results from one stream; `close` may be called
    from any.

    Attributes:
        skipped: images, frames and whole videos that were left out because they could not be read, so far.
        dropped: frames of live sources that were replaced by newer ones, so far.
    """

    def __init__(self, results: Generator[Detections, None, None], state: _State) -> None:
        self._results = results
        self._state = state

    @property
    def skipped(self) -> int:
        """Images, frames and videos left out because they could not be read."""
        return self._state.skipped

    @property
    def dropped(self) -> int:
        """Frames of live sources replaced by newer ones before anybody took them."""
        return self._state.dropped

    def __next__(self) -> Detections:
        return next(self._results)

    def close(self) -> None:
        """Ends the stream. Threads of files are gone on return, those of addresses at latest after their timeout."""
        self._state.end()
        with contextlib.suppress(ValueError):  # another thread is inside, and finds the end there
            self._results.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run(
    source: Any,
    options: SourceOptions,
    *,
    load: Callable[[Any], Any],
    detect: Callable[[Any], Detections],
    workers: int,
    endless: bool = True,
) -> DetectionStream:
    """The results of a source.

    Args:
        source: as `expansion.expand` takes it.
        options: how it is read.
        load: turns an item into an image; its `SwiftdetError`s mean that the item is no good.
        detect: turns an image into its result; thread-safe.
        workers: calls of `detect` that are worth having in flight.
        endless: False refuses live sources, for callers that wait for the end.
    """
    state = _State(options)
    job = _Job(source, options, state, load, detect, workers, endless)
    return DetectionStream(_results(job), state)


class _State:
    """Counters and the end of one stream, shared by its threads."""

    def __init__(self, options: SourceOptions) -> None:
        self.skipped = 0
        self.dropped = 0
        self.stop = threading.Event()
        self.patient = True  # no thread is inside a network or a camera, so it can be waited for
        self._on_error = options.on_error
        self._by_name: dict[str, int] = {}
        self._lock = threading.Lock()
        self._queues: weakref.WeakSet[_Queue[Any]] = weakref.WeakSet()

    def end(self) -> None:
        self.stop.set()
        for queue in list(self._queues):
            queue.close()

    def ends(self, queue: _Queue[Any]) -> None:
        """Makes `end` close that queue too."""
        self._queues.add(queue)
        if self.stop.is_set():
            queue.close()

    def skip(self, name: str, error: SwiftdetError, *, frame: bool = False) -> None:
        """Leaves something out, where the options allow that, and says so.

        Raises:
            SwiftdetError: that very error, where they do not.
        """
        if self._on_error == "raise" or (self._on_error == "auto" and not frame):
            raise error
        with self._lock:
            self.skipped += 1
            times = self._by_name.get(name, 0) + 1 if frame else 1
            if frame:
                self._by_name[name] = times
        if times <= _LOGGED_FRAMES:
            _LOG.warning("skipped: %s", error)
        if times == _LOGGED_FRAMES:
            _LOG.warning("%s: more frames that are skipped will be counted, and not reported one by one", name)

    def sum_up(self, name: str) -> None:
        with self._lock:
            times = self._by_name.pop(name, 0)
        if times > _LOGGED_FRAMES:
            _LOG.warning("%s: %d frames were skipped", name, times)


@dataclass(frozen=True)
class _Job:
    source: Any
    options: SourceOptions
    state: _State
    load: Callable[[Any], Any]
    detect: Callable[[Any], Detections]
    workers: int
    endless: bool


@dataclass(frozen=True, slots=True)
class _Loaded:
    """An image that needs no loading any more."""

    image: Any


def _results(job: _Job) -> Generator[Detections, None, None]:
    prefetch = job.options.prefetch
    if prefetch is None:
        prefetch = 0 if belongs_to_caller(job.source) else _PREFETCH
    items = _items(job)
    for live, group in itertools.groupby(items, key=lambda item: isinstance(item, Video) and item.live):
        if job.state.stop.is_set():
            return
        if live:
            for video in group:
                yield from _live(job, video)
        else:
            contents = _contents(job, group)
            yield from _one_by_one(job, contents) if prefetch == 0 else _ahead(job, contents, prefetch)


def _items(job: _Job) -> Iterator[Any]:
    """What the source names; videos with the policy that was asked for."""
    for item in walk(job.source, job.state.skip):
        if not isinstance(item, Video):
            yield item
            continue
        if item.live and not job.endless:
            raise InvalidArgument(f"{item.name}: never ends; take its results one by one with stream=True")
        yield item if job.options.live is None else replace(item, live=job.options.live)


def _contents(job: _Job, items: Iterator[Any]) -> Generator[Any, None, None]:
    """The images of the items: stills as they were named, frames as `_Loaded`."""
    for item in items:
        if isinstance(item, Video):
            yield from map(_Loaded, _frames(job, item))
        else:
            yield item
        if job.state.stop.is_set():
            return


def _frames(job: _Job, video: Video) -> Generator[Any, None, None]:
    """The frames of a video that could be decoded."""
    state = job.state
    state.patient = video.kind == "file"
    frames = read(video, reconnect=job.options.reconnect, stop=state.stop)
    try:
        for frame in frames:
            if isinstance(frame, Damaged):
                error = VideoError(f"{video.name}: frame {frame.info.index}: {frame.reason}")
                state.skip(video.name, error, frame=True)
            else:
                yield frame
            if state.stop.is_set():
                return
    except VideoError as e:
        state.skip(video.name, e)
    finally:
        frames.close()
        state.sum_up(video.name)
        state.patient = True


def _one(job: _Job, item: Any) -> Detections | None:
    """The result of one item; None for one that is left out."""
    if isinstance(item, _Loaded):
        return job.detect(item.image)
    try:
        image = job.load(item)
    except (ImageError, InvalidArgument, InvalidType) as e:
        job.state.skip(str(item)[:200], e)
        return None
    return job.detect(image)


def _one_by_one(job: _Job, contents: Generator[Any, None, None]) -> Iterator[Detections]:
    """Everything in the caller's thread."""
    with contextlib.closing(contents):
        for item in contents:
            result = _one(job, item)
            if result is not None:
                yield result


def _ahead(job: _Job, contents: Generator[Any, None, None], prefetch: int) -> Iterator[Detections]:
    """Reads in one thread, detects in others."""
    queue: _Queue[Future[Detections | None]] = _Queue(prefetch)
    workers = max(1, min(job.workers, prefetch))
    pool = ThreadPoolExecutor(workers, thread_name_prefix="swiftdet-predict")

    def body() -> None:
        with contextlib.closing(contents):
            while queue.wait_for_place():
                item = next(contents, queue)
                if item is queue:
                    return
                queue.put(pool.submit(_one, job, item))

    reader = _Reader(body, queue, job.state)
    try:
        reader.start()
        for future in queue:
            result = future.result()
            if result is not None:
                yield result
        reader.raise_error()
    except BaseException:
        job.state.end()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        reader.join()
        pool.shutdown()


def _live(job: _Job, video: Video) -> Iterator[Detections]:
    """Reads in one thread, without ever waiting; detects in the caller's, in the newest frame."""
    queue: _Queue[Any] = _Queue(1)

    def body() -> None:
        with contextlib.closing(_frames(job, video)) as frames:
            for frame in frames:
                job.state.dropped += queue.replace(frame)

    reader = _Reader(body, queue, job.state)
    try:
        reader.start()
        for frame in queue:
            yield job.detect(frame)
        reader.raise_error()
    except BaseException:
        job.state.end()
        raise
    finally:
        reader.join()


class _Reader:
    """The thread that reads, and how it ended. Nothing outlives the process's end, and nothing delays it for long."""

    def __init__(self, body: Callable[[], None], queue: _Queue[Any], state: _State) -> None:
        self._body = body
        self._queue = queue
        self._state = state
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="swiftdet-reader", daemon=True)
        state.ends(queue)

    def start(self) -> None:
        _running.add(self)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._body()
        except BaseException as e:  # noqa: BLE001 - handed to the caller's thread, whatever it is
            self._error = e
        finally:
            self._queue.finish()
            _running.discard(self)

    def raise_error(self) -> None:
        """Once its queue is empty: raises what the thread ended with, if that was an error."""
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Ends the stream that it reads for."""
        self._state.end()
        self.join()

    def join(self) -> None:
        """Waits for the thread, which the end of its stream ends; not for long where it waits for a network."""
        while self._thread.is_alive():
            self._thread.join(_PATIENCE_S)
            if not self._state.patient:
                break


_running: weakref.WeakSet[_Reader] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """Ends the streams that were left open, while there still is an interpreter for their threads."""
    for reader in list(_running):
        reader.end()


class _Queue(Generic[_T]):
    """A queue of so many places between one thread that puts and one that takes; either may end it."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._items: deque[_T] = deque()
        self._changed = threading.Condition()
        self._finished = False  # by the one that puts: what is in it is still handed out
        self._closed = False  # by the one that takes

    def wait_for_place(self) -> bool:
        """Blocks while every place is taken; False when there is no use in putting more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._places)
            return not self._closed

    def put(self, item: _T) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def replace(self, item: _T) -> int:
        """Puts an item in the place of those that wait; how many those were."""
        with self._changed:
            stale = len(self._items)
            self._items.clear()
            self._items.append(item)
            self._changed.notify_all()
            return stale

    def finish(self) -> None:
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[_T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._finished or self._items)
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item
