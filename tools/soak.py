"""Submits random requests to dispatchers until something is lost, wrong, or grows.

    python tools/soak.py --requests 1000000

Threads and event loops submit good and bad images with random options, priorities, deadlines and cancellations to a
detector whose engine fails at random. After every few thousand requests the dispatcher is closed under their hands,
gracefully or not, and another one is opened with other limits. Checked are: every future resolves, once; results are
those of the detector alone; what the dispatcher counted is what its callers saw; memory does not grow; no thread stays.

Memory is judged by the median of the slopes between all pairs of readings in the second half (Theil and Sen): a step of
the allocator or a cache that is filled once does not move it. Exits 1 when that is above the bound, or anything else
was found.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import concurrent.futures
import gc
import logging
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/data"))

import make_models

import swiftdet
from swiftdet import DeadlineExceeded, DispatcherClosed, Overloaded

SIZE = (64, 96)
IMAGES = 12
CONFS = (0.3, 0.5, 0.7)
GUARD_S = 120.0  # no future may take longer
MOST_MB_A_MILLION = 4.0  # the smallest object of Python, kept for one request in four, would be as much
FEWEST_EPOCHS = 60  # below, what the allocator does at random is as large as the bound


class FailingEngine:
    """Scores that depend on the image alone, after it failed at random."""

    def __init__(self, model: Path, rate: float) -> None:
        signature = swiftdet.engines.inspect(model.read_bytes(), input_shape=(1, 3, *SIZE))
        self.inputs = [(port.name, port.shape) for port in signature.inputs]
        self.outputs = [(port.name, port.shape) for port in signature.outputs]
        rng = np.random.default_rng(5)
        self._base = [rng.uniform(0.0, 1.0, shape).astype(np.float32) for _, shape in self.outputs]
        self._random = random.Random(7)
        self.rate = rate

    def run(self, inputs: dict[str, Any]) -> list[Any]:
        """The outputs, or an error."""
        if self._random.random() < self.rate:
            raise RuntimeError("fails at random")
        brightness = next(iter(inputs.values()))[0, 0, 0, 0]
        return [base * (np.float32(1.0) - brightness / np.float32(4.0)) for base in self._base]


class Ledger:
    """What callers saw of the requests to one dispatcher."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.futures = 0
        self.seen: collections.Counter[str] = collections.Counter()
        self.wrong = 0

    def saw(self, what: str) -> None:
        """Counts one outcome."""
        with self._lock:
            self.seen[what] += 1

    def watch(self, future: concurrent.futures.Future[Any], check: Callable[[Any], bool]) -> None:
        """Counts the outcome of a future when it is there, as often as it says so."""
        with self._lock:
            self.futures += 1

        def resolved(done: concurrent.futures.Future[Any]) -> None:
            error = concurrent.futures.CancelledError() if done.cancelled() else done.exception()
            self.saw(name_of(error))
            if error is None and not check(done.result()):
                self.wrong += 1

        future.add_done_callback(resolved)


def name_of(error: BaseException | None) -> str:
    """The count of `DispatcherStats` that an outcome belongs to."""
    match error:
        case None:
            return "done"
        case DeadlineExceeded():
            return "expired"
        case Overloaded():
            return "overloaded"
        case DispatcherClosed() | concurrent.futures.CancelledError() | asyncio.CancelledError():
            return "cancelled"
        case swiftdet.ImageError() | swiftdet.InvalidType() | swiftdet.BackendError():
            return "failed"
    return f"unexpected {type(error).__name__}: {error}"


class Caller:
    """Random requests, and what must come of them."""

    def __init__(self, seed: int, detector: swiftdet.Detector) -> None:
        self.random = random.Random(seed)
        rng = np.random.default_rng(1)
        self._images = [rng.integers(0, 256, (40 + 9 * i, 60 + 5 * i, 3), dtype=np.uint8) for i in range(IMAGES)]
        self._expected = {(i, c): detector(self._images[i], conf=c) for i in range(IMAGES) for c in CONFS}

    def draw(self) -> tuple[Any, dict[str, Any], Callable[[Any], bool]]:
        """An image, options, and whether a result is right."""
        chance = self.random.random
        index, conf = self.random.randrange(IMAGES), self.random.choice(CONFS)
        options: dict[str, Any] = {"conf": conf}
        if chance() < 0.3:
            options["priority"] = self.random.randint(-2, 2)
        if chance() < 0.3:
            options["deadline_ms"] = self.random.choice([0.0, 0.3, 2.0, 20.0, 1e6])
        if chance() < 0.2:
            options["timeout"] = self.random.choice([0, 0.001, 10.0])
        if chance() < 0.04:
            bad = self.random.choice([None, b"", b"no image", "missing.jpg", np.zeros((4, 4, 3), np.float32)])
            return bad, options, lambda _: False
        expected = self._expected[index, conf]

        def right(result: swiftdet.Detections) -> bool:
            return np.array_equal(result.xyxy, expected.xyxy) and np.array_equal(result.conf, expected.conf)

        return self._images[index], options, right


class Epoch:
    """The life of one dispatcher under its callers."""

    def __init__(self, dispatcher: swiftdet.BatchDispatcher, requests: int) -> None:
        self.dispatcher = dispatcher
        self.ledger = Ledger()
        self.errors: list[BaseException] = []
        self._left = requests
        self._lock = threading.Lock()

    def another(self) -> bool:
        """Whether one more request is to be made."""
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def threaded(self, caller: Caller) -> None:
        """Submits from a thread, some futures cancelled, some waited for, and calls now and then."""
        try:
            window: collections.deque[concurrent.futures.Future[Any]] = collections.deque()
            while self.another():
                image, options, right = caller.draw()
                try:
                    if caller.random.random() < 0.1:
                        self.waited(image, options, right)
                        continue
                    future = self.dispatcher.submit(image, **options)
                except Overloaded:
                    self.ledger.saw("overloaded")
                    time.sleep(0.0005)  # as a caller with sense would, so that most requests are run
                    continue
                except DispatcherClosed:
                    self.ledger.saw("closed")
                    break
                self.ledger.watch(future, right)
                window.append(future)
                if caller.random.random() < 0.05:
                    caller.random.choice(window).cancel()
                if len(window) > 40:
                    concurrent.futures.wait([window.popleft()], GUARD_S)
            _, pending = concurrent.futures.wait(window, GUARD_S)
            if pending:
                self.errors.append(RuntimeError(f"{len(pending)} futures were never resolved"))
        except BaseException as e:  # noqa: BLE001 - told by the main thread
            self.errors.append(e)

    def waited(self, image: Any, options: dict[str, Any], right: Callable[[Any], bool]) -> None:
        """One request that its thread waits for, so that it may run it itself.

        Raises:
            Overloaded, DispatcherClosed: as `submit` does, or for what was submitted.
        """
        try:
            result = self.dispatcher(image, **options)
        except (Overloaded, DispatcherClosed):
            raise
        except swiftdet.SwiftdetError as e:
            self.ledger.saw(name_of(e))
        else:
            self.ledger.saw("done")
            self.ledger.wrong += not right(result)

    def looped(self, caller: Caller) -> None:
        """Submits from an event loop, some tasks cancelled."""

        async def one() -> bool:
            image, options, right = caller.draw()
            task = asyncio.ensure_future(self.dispatcher.asubmit(image, **options))
            await asyncio.sleep(0)
            if caller.random.random() < 0.05:
                task.cancel()
            try:
                result = await asyncio.wait_for(asyncio.shield(task), GUARD_S)
            except (swiftdet.SwiftdetError, asyncio.CancelledError) as e:
                name = name_of(e)
                # A task that is cancelled while its request runs sees that, and the request ends as it ends.
                self.ledger.saw("abandoned" if name == "cancelled" else name)
                return not isinstance(e, DispatcherClosed)
            self.ledger.saw("done")
            self.ledger.wrong += not right(result)
            return True

        async def worker() -> None:
            while self.another() and await one():
                pass

        async def main() -> None:
            await asyncio.gather(*(worker() for _ in range(8)))

        try:
            asyncio.run(main())
        except BaseException as e:  # noqa: BLE001 - told by the main thread
            self.errors.append(e)

    def check(self) -> str | None:
        """What is wrong after the dispatcher was closed, or None."""
        stats, seen = self.dispatcher.stats(), self.ledger.seen
        counted = {
            "done": stats.done,
            "failed": stats.failed,
            "expired": stats.expired,
            "overloaded": stats.rejected + stats.dropped,
        }
        unexpected = [name for name in seen if name.startswith("unexpected")]
        # What became of requests whose callers left is not seen; nor is whether a refused one had been counted.
        unseen = seen["abandoned"] + seen["closed"]
        missing = sum(max(0, counted[name] - seen[name]) for name in counted)
        surplus = [name for name in counted if seen[name] > counted[name]]
        if self.errors:
            return f"a caller failed: {self.errors[0]!r}"
        if unexpected:
            return unexpected[0]
        if self.ledger.wrong:
            return f"{self.ledger.wrong} results are not those of the detector alone"
        if stats.submitted != stats.resolved or stats.in_flight:
            return f"the accounts do not add up: {stats}"
        if surplus or missing > unseen or not seen["cancelled"] <= stats.cancelled <= seen["cancelled"] + unseen:
            return f"callers saw {dict(seen)}, the dispatcher counted {stats}"
        return None


def resident_mb() -> float:
    """Memory of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def run_epoch(dispatcher: swiftdet.BatchDispatcher, callers: list[Caller], requests: int, rng: random.Random) -> Epoch:
    """Lets callers loose on a dispatcher and closes it, now and then while they are at work."""
    epoch = Epoch(dispatcher, requests)
    roles = [epoch.looped if i % 4 == 3 else epoch.threaded for i in range(len(callers))]
    threads = [threading.Thread(target=role, args=(caller,)) for role, caller in zip(roles, callers, strict=True)]
    for thread in threads:
        thread.start()
    early, cancel = rng.random() < 0.5, rng.random() < 0.5
    if early:
        while dispatcher.stats().submitted < requests * rng.uniform(0.7, 1.0) and any(t.is_alive() for t in threads):
            time.sleep(0.002)
        dispatcher.close(cancel=cancel)
    for thread in threads:
        thread.join()
    dispatcher.close(cancel=cancel)
    return epoch


def soak(requests: int, *, seed: int = 1, per_epoch: int = 5000, callers: int = 8, say: Any = print) -> dict[str, Any]:
    """Runs epochs until that many requests were submitted.

    Returns:
        The sums of the dispatchers' counts, and under "memory_mb" the memory after each epoch.

    Raises:
        RuntimeError: something was lost, wrong or left over; says what.
    """
    faults: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: faults.append(record.getMessage())  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in ("swiftdet.dispatch", "concurrent.futures", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    rng = random.Random(seed)
    totals: collections.Counter[str] = collections.Counter()
    sizes: collections.Counter[int] = collections.Counter()
    memory: list[float] = []
    before = set(threading.enumerate())
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tiny.onnx"
            onnx.save(make_models.build("ultralytics-columns", size=SIZE, classes=3, seed=3), path)
            engine = FailingEngine(path, rate=0.0)
            with swiftdet.Detector(path, engine=engine, conf=0.5) as detector:
                crowd = [Caller(rng.randrange(1 << 30), detector) for _ in range(callers)]
                engine.rate = 0.02
                begin = time.monotonic()
                while totals["submitted"] < requests:
                    dispatcher = swiftdet.BatchDispatcher(
                        detector,
                        max_batch=rng.choice([1, 3, 8]),
                        max_delay_ms=rng.choice([0.0, 0.2, 2.0]),
                        queue_size=rng.choice([4, 32, 256]),
                        overflow=rng.choice(["block", "reject", "drop_oldest"]),
                        workers=rng.choice([None, 1, 3]),
                    )
                    epoch = run_epoch(dispatcher, crowd, min(per_epoch, requests - totals["submitted"]), rng)
                    wrong = epoch.check() or (f"logged: {faults[0]}" if faults else None)
                    if wrong:
                        raise RuntimeError(wrong)
                    stats = dispatcher.stats()
                    totals.update({k: v for k, v in stats.to_dict().items() if isinstance(v, int)})
                    sizes.update(stats.batch_sizes)
                    memory.append(resident_mb())
                    if len(memory) % 20 == 0:
                        rate = totals["submitted"] / (time.monotonic() - begin)
                        say(f"{totals['submitted']:>9} requests, {rate:.0f} a second, {memory[-1]:.1f} MB")
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    left = [t.name for t in threading.enumerate() if t not in before]
    if left:
        raise RuntimeError(f"threads are left: {left}")
    return {**totals, "epochs": len(memory), "batch_sizes": dict(sorted(sizes.items())), "memory_mb": memory}


def slope(memory_mb: list[float]) -> float:
    """MB an epoch: the median of the slopes between all pairs of readings in the second half."""
    half = np.asarray(memory_mb[len(memory_mb) // 2 :])
    first, second = np.triu_indices(len(half), 1)
    return float(np.median((half[second] - half[first]) / (second - first)))


def growth(memory_mb: list[float], requests: int, most: float = MOST_MB_A_MILLION) -> tuple[float | None, str]:
    """MB a million requests, None where there are too few readings to tell, and the verdict on it in words."""
    if len(memory_mb) < FEWEST_EPOCHS:
        return None, f"memory is not judged: {len(memory_mb)} epochs, and at least {FEWEST_EPOCHS} are needed"
    grown = slope(memory_mb) * len(memory_mb) / requests * 1e6
    verdict = "within" if grown <= most else "ABOVE"
    return grown, f"memory: {grown:+.2f} MB a million requests, {verdict} the bound of {most:g}"


def main() -> int:
    """Prints what happened."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=float, default=MOST_MB_A_MILLION, help="growth allowed, MB a million requests")
    options = parser.parse_args()
    begin = time.monotonic()
    result = soak(options.requests, seed=options.seed)
    memory = result.pop("memory_mb")
    for name, value in result.items():
        print(f"{name}: {value}")
    middle = memory[len(memory) // 2]
    print(f"memory: {memory[0]:.1f} MB after the first epoch, {middle:.1f} half way, {memory[-1]:.1f} at the end")
    grown, verdict = growth(memory, result["submitted"], options.most)
    print(verdict)
    print(f"every future resolved once, the accounts add up, no thread is left; {time.monotonic() - begin:.0f} s")
    return int(grown is not None and grown > options.most)


if __name__ == "__main__":
    sys.exit(main())
