"""Waiting for work: woken by one who has the lock, the last that came first, nobody twice and nobody forgotten."""

from __future__ import annotations

import random
import threading
import time

from swiftdet.dispatch.idle_threads import IdleThreads

LONG_S = 60


def parked(idle, lock, names, woken, timeout=None):
    """Threads that wait, in the order of their names."""

    def wait(name):
        with lock:
            waiting.set()
            idle.wait(timeout)
            woken.append(name)

    threads = []
    for name in names:
        waiting = threading.Event()
        threads.append(threading.Thread(target=wait, args=(name,), daemon=True))
        threads[-1].start()
        assert waiting.wait(LONG_S)
        with lock:  # free once the thread waits
            pass
    return threads


def join(threads):
    for thread in threads:
        thread.join(LONG_S)
        assert not thread.is_alive()


def test_the_last_that_came_is_woken_first():
    lock, woken = threading.RLock(), []
    idle = IdleThreads(lock)
    threads = parked(idle, lock, [1, 2, 3], woken)
    for done, last in ((1, 3), (2, 2), (3, 1)):
        with lock:
            idle.wake_one()
            assert len(woken) == done - 1, "it goes on when the lock is free"
        join([threads[last - 1]])
        assert woken[-1] == last
    with lock:
        idle.wake_one()  # nobody is there


def test_all_are_woken_once():
    lock, woken = threading.RLock(), []
    idle = IdleThreads(lock)
    threads = parked(idle, lock, range(5), woken)
    with lock:
        idle.wake_all()
        idle.wake_all()
    join(threads)
    assert sorted(woken) == list(range(5))


def test_who_was_not_woken_in_time_is_not_woken_later():
    lock, woken = threading.RLock(), []
    idle = IdleThreads(lock)
    other = parked(idle, lock, ["patient"], woken)
    join(parked(idle, lock, ["hasty"], woken, timeout=0.001))
    join(parked(idle, lock, ["late already"], woken, timeout=0.0))
    assert woken == ["hasty", "late already"]
    with lock:
        idle.wake_one()
    join(other)
    assert woken[-1] == "patient"


def test_no_item_is_forgotten():
    """Nobody looks by himself: a lost wake-up leaves an item behind."""
    lock, items, taken = threading.RLock(), [], []
    idle, total = IdleThreads(lock), 4000

    def take():
        while True:
            with lock:
                while not items:
                    idle.wait(None)
                item = items.pop()
                if item is None:
                    return
                taken.append(item)

    def put(seed):
        rng = random.Random(seed)  # noqa: S311 - chance, not secrets
        for i in range(total // 2):
            with lock:
                items.append(i)
                idle.wake_one()
            if rng.random() < 0.05:
                time.sleep(1e-4)

    takers = [threading.Thread(target=take, daemon=True) for _ in range(4)]
    putters = [threading.Thread(target=put, args=(seed,), daemon=True) for seed in range(2)]
    for thread in takers + putters:
        thread.start()
    join(putters)
    deadline = time.monotonic() + LONG_S
    while len(taken) < total and time.monotonic() < deadline:
        time.sleep(0.001)
    assert sorted(taken) == sorted([*range(total // 2)] * 2)
    for _ in takers:
        with lock:
            items.append(None)
            idle.wake_one()
    join(takers)
