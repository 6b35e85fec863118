"""The dispatcher's queue, without threads and with a clock of our own: against a plain model, and rule by rule."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from swiftdet.dispatch.alarms import Alarms
from swiftdet.dispatch.lanes import Lanes
from swiftdet.dispatch.queue_policy import Place, QueuePolicy
from swiftdet.dispatch.request import Request, State
from swiftdet.dispatch.service_time import ServiceTime


@dataclass(eq=False)
class Entry:
    priority: int = 0
    key: str = "a"
    deadline: float | None = None
    arrival: float = 0.0


class Model:
    """The same rules, told once more: a list that is sorted whenever somebody asks."""

    def __init__(self, capacity, overflow, max_batch, max_delay, sizes, estimate):
        self.capacity, self.overflow, self.max_batch, self.max_delay = capacity, overflow, max_batch, max_delay
        self.sizes, self.estimate = sizes, estimate
        self.queue, self.room = [], []  # in order of arrival there

    def offer(self, entry, may_wait):
        if len(self.queue) < self.capacity:
            self.queue.append(entry)
            return Place.QUEUED, None
        if may_wait:
            self.room.append(entry)
            return Place.WAITING, None
        if self.overflow == "drop_oldest":
            lowest = min(e.priority for e in self.queue)
            if lowest <= entry.priority:
                victim = next(e for e in self.queue if e.priority == lowest)
                self.queue.remove(victim)
                self.queue.append(entry)
                return Place.QUEUED, victim
        return Place.REFUSED, None

    def admit(self):
        admitted = []
        while self.room and len(self.queue) < self.capacity:
            best = max(self.room, key=lambda e: e.priority)  # the first of equal ones
            self.room.remove(best)
            self.queue.append(best)
            admitted.append(best)
        return admitted

    def batch(self, now):
        """The whole batch before it is cut to a size, and whether it cannot grow any more."""
        alive = sorted((e for e in self.queue if e.deadline is None or e.deadline > now), key=lambda e: -e.priority)
        if not alive:
            return [], False
        foreign = [e.priority for e in alive if e.key != alive[0].key]
        mates = [e for e in alive if e.key == alive[0].key and e.priority >= max(foreign, default=-math.inf)]

        def in_time(n):
            deadlines = [e.deadline for e in mates[:n] if e.deadline is not None]
            return n == 1 or not deadlines or now + self.estimate(n) <= min(deadlines)

        size = 1
        while size < min(len(mates), self.max_batch) and in_time(size + 1):
            size += 1
        closed = size == self.max_batch or (size < len(mates) and not in_time(size + 1))
        return mates[:size], closed

    def take(self, now, engine_idle):
        batch, closed = self.batch(now)
        if not batch:
            return [], None
        if not engine_idle and not closed:
            latest = [min(e.arrival for e in batch) + self.max_delay]
            latest += [e.deadline - self.estimate(len(batch)) for e in batch if e.deadline is not None]
            if min(latest) > now:
                return [], min(latest)
        size = max([s for s in self.sizes if s <= len(batch)], default=len(batch))
        return batch[:size], None


class PolicyAgainstModel(RuleBasedStateMachine):
    @initialize(
        capacity=st.integers(1, 6),
        overflow=st.sampled_from(["block", "reject", "drop_oldest"]),
        max_batch=st.integers(1, 5),
        max_delay=st.sampled_from([0.0, 2.0, 5.0]),
        in_powers=st.booleans(),
        base=st.sampled_from([0.0, 1.0, 3.0]),
        slope=st.sampled_from([0.0, 1.0]),
    )
    def start(self, capacity, overflow, max_batch, max_delay, in_powers, base, slope):
        self.now = 0.0
        sizes = (1, 2, 4) if in_powers else ()
        options = {"capacity": capacity, "overflow": overflow, "max_batch": max_batch, "max_delay": max_delay}
        options |= {"sizes": sizes, "estimate": lambda n: base + slope * n}
        self.policy = QueuePolicy(**options)
        self.model = Model(**options)
        self.offered, self.gone = [], []

    @rule(
        priority=st.integers(-1, 1),
        key=st.sampled_from("ab"),
        within=st.none() | st.integers(0, 9),
        may_wait=st.booleans(),
    )
    def offer(self, priority, key, within, may_wait):
        entry = Entry(priority, key, None if within is None else self.now + within, self.now)
        place, victim = self.policy.offer(entry, may_wait=may_wait)
        assert (place, victim) == self.model.offer(entry, may_wait)
        self.offered.append(entry)
        self.gone += [e for e in (victim, entry if place is Place.REFUSED else None) if e is not None]

    @rule(data=st.data())
    def discard(self, data):
        if not self.offered:
            return
        entry = data.draw(st.sampled_from(self.offered))
        here = entry in self.model.queue or entry in self.model.room
        assert self.policy.discard(entry) == here
        for place in (self.model.queue, self.model.room):
            if entry in place:
                place.remove(entry)
                self.gone.append(entry)
        assert self.policy.admit() == self.model.admit()

    @rule(engine_idle=st.booleans())
    def take(self, engine_idle):
        batch, again_at = self.model.take(self.now, engine_idle)
        turn = self.policy.take(self.now, engine_idle=engine_idle)
        assert turn.batch == batch
        assert turn.again_at == again_at
        assert all(e.deadline is not None and e.deadline <= self.now for e in turn.expired)
        for e in (*turn.batch, *turn.expired):
            self.model.queue.remove(e)
            self.gone.append(e)
        if not batch and again_at is None:  # nothing to do: then nothing may be left but those that wait for a place
            assert self.model.queue == []
        assert self.policy.admit() == self.model.admit()

    @rule(seconds=st.integers(1, 4))
    def pass_time(self, seconds):
        self.now += seconds

    @rule()
    def clear(self):
        left = self.policy.clear()
        assert sorted(map(id, left)) == sorted(map(id, self.model.queue + self.model.room))
        self.gone += left
        self.model.queue, self.model.room = [], []

    @invariant()
    def nobody_is_lost_or_here_twice(self):
        if not hasattr(self, "model"):
            return
        assert self.policy.queued == len(self.model.queue) <= self.model.capacity
        assert len(self.policy) == len(self.model.queue) + len(self.model.room)
        assert not self.model.room or len(self.model.queue) == self.model.capacity, "a free place while others wait"
        assert len(self.offered) == len(self.gone) + len(self.policy)


PolicyAgainstModel.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_the_policy_does_what_the_model_does = PolicyAgainstModel.TestCase


@pytest.mark.slow
def test_the_policy_does_what_the_model_does_at_length():
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        PolicyAgainstModel, settings=settings(max_examples=600, stateful_step_count=60, deadline=None)
    )


# --- rule by rule ---------------------------------------------------------------------------------------------------


def policy(**options):
    return QueuePolicy(**{"capacity": 100, "overflow": "block", "max_batch": 4, "max_delay": 0.0, **options})


def filled(queue, *entries):
    for entry in entries:
        assert queue.offer(entry, may_wait=False)[0] is Place.QUEUED
    return queue


def test_higher_priorities_go_first_and_equal_ones_in_order_of_arrival():
    entries = [Entry(0), Entry(5), Entry(-1), Entry(5)]
    queue = filled(policy(max_batch=1), *entries)
    order = [queue.take(0.0, engine_idle=True).batch[0] for _ in entries]
    assert order == [entries[1], entries[3], entries[0], entries[2]]


def test_a_batch_has_one_key_and_passes_nobody_of_a_higher_priority():
    """The low `a` could ride along with the high one, but the middle `b` would wait for it."""
    high, middle, low = Entry(2, "a"), Entry(1, "b"), Entry(0, "a")
    queue = filled(policy(), high, middle, low)
    assert [queue.take(0.0, engine_idle=True).batch for _ in range(3)] == [[high], [middle], [low]]


def test_within_a_priority_mates_are_gathered_from_behind_others():
    entries = [Entry(key=key) for key in "abab"]
    queue = filled(policy(), *entries)
    assert queue.take(0.0, engine_idle=True).batch == [entries[0], entries[2]]
    assert queue.take(0.0, engine_idle=True).batch == [entries[1], entries[3]]


def test_the_delay_holds_only_while_the_engine_is_busy():
    entry = Entry(arrival=10.0)
    queue = filled(policy(max_delay=5.0), entry)
    turn = queue.take(11.0, engine_idle=False)
    assert turn.batch == []
    assert turn.again_at == 15.0
    assert queue.take(11.0, engine_idle=True).batch == [entry]


def test_a_full_batch_is_not_held():
    queue = filled(policy(max_delay=5.0), *(Entry() for _ in range(4)))
    assert len(queue.take(0.0, engine_idle=False).batch) == 4


def test_a_held_batch_closes_when_its_tightest_deadline_asks_for_it():
    relaxed, urgent = Entry(deadline=100.0), Entry(deadline=9.0)
    queue = filled(policy(max_delay=50.0, estimate=lambda n: 3.0 * n), relaxed, urgent)
    assert queue.take(1.0, engine_idle=False).again_at == 9.0 - 6.0
    assert queue.take(3.0, engine_idle=False).batch == [relaxed, urgent]


def test_a_batch_stops_growing_where_a_deadline_would_be_missed():
    urgent, mates = Entry(deadline=5.0), [Entry() for _ in range(3)]
    queue = filled(policy(estimate=lambda n: 2.0 * n), urgent, *mates)
    assert queue.take(0.0, engine_idle=True).batch == [urgent, mates[0]]
    assert queue.take(0.0, engine_idle=True).batch == mates[1:]


def test_a_request_that_cannot_make_it_any_more_runs_alone_and_at_once():
    late, mate = Entry(deadline=1.0), Entry()
    queue = filled(policy(max_delay=50.0, estimate=lambda _: 2.0), late, mate)
    assert queue.take(0.0, engine_idle=False).batch == [late]


def test_expired_requests_are_never_in_a_batch():
    expired, alive = Entry(deadline=1.0), Entry(deadline=1.5)
    queue = filled(policy(), expired, alive)
    turn = queue.take(1.0, engine_idle=True)
    assert (turn.batch, turn.expired) == ([alive], [expired])


def test_batches_are_cut_to_prepared_sizes():
    queue = filled(policy(max_batch=8, sizes=(1, 2, 4, 8)), *(Entry() for _ in range(7)))
    assert [len(queue.take(0.0, engine_idle=True).batch) for _ in range(4)] == [4, 2, 1, 0]


def test_a_newcomer_pushes_out_nobody_above_it():
    queue = filled(policy(capacity=2, overflow="drop_oldest"), Entry(1), Entry(1))
    newcomer = Entry(0)
    assert queue.offer(newcomer, may_wait=False) == (Place.REFUSED, None)


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=30))
def test_lanes_iterate_in_a_stable_order(steps):
    lanes, plain = Lanes(), []
    for priority, remove in steps:
        if remove and plain:
            gone = plain.pop(abs(priority) % len(plain))
            assert gone in lanes
            assert lanes.remove(gone)
            assert not lanes.remove(gone)
        else:
            entry = Entry(priority)
            assert entry not in lanes
            lanes.add(entry)
            plain.append(entry)
        expected = sorted(plain, key=lambda e: -e.priority)
        assert list(lanes) == expected
        assert len(lanes) == len(plain)
        if plain:
            assert lanes.first() is expected[0]
            assert lanes.oldest_of_the_lowest() is next(e for e in expected if e.priority == expected[-1].priority)


# --- the estimate ---------------------------------------------------------------------------------------------------


def test_the_estimate_finds_a_line():
    service = ServiceTime()
    assert service.estimate(4) == 0.0
    for size in [1, 2, 4, 8, 3, 5] * 20:
        service.observe(size, 0.010 + 0.002 * size)
    for size in (1, 6, 8, 12):
        assert service.estimate(size) == pytest.approx(0.010 + 0.002 * size, abs=2e-4)


def test_the_estimate_equals_a_weighted_fit_by_numpy():
    rng = np.random.default_rng(1)
    sizes, seconds = rng.integers(1, 9, 200), rng.uniform(0.01, 0.02, 200)
    seconds += 0.003 * sizes
    service = ServiceTime()
    for size, second in zip(sizes, seconds, strict=True):
        service.observe(int(size), float(second))
    weights = 0.9 ** np.arange(199, -1, -1.0)
    slope, intercept = np.polyfit(sizes, seconds, 1, w=np.sqrt(weights))
    assert service.estimate(5) - service.estimate(2) == pytest.approx(3 * slope, rel=1e-6)
    assert service.estimate(5) > intercept + 5 * slope, "caution comes on top"


def test_the_estimate_is_cautious_about_sizes_that_it_has_not_seen():
    service = ServiceTime()
    for _ in range(50):
        service.observe(2, 0.01)
    assert service.estimate(8) == pytest.approx(0.04, rel=0.01)
    assert service.estimate(1) == pytest.approx(0.01, rel=0.01)


def test_the_estimate_forgets():
    service = ServiceTime()
    service.observe(1, 60.0)  # the first run of an engine compiles something
    for _ in range(200):
        service.observe(1, 0.01)
    assert service.estimate(1) == pytest.approx(0.01, abs=1e-3)


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(1e-6, 10.0)), min_size=1, max_size=60))
def test_the_estimate_never_falls_with_the_size(observed):
    service = ServiceTime()
    for size, seconds in observed:
        service.observe(size, seconds)
    estimates = [service.estimate(n) for n in range(1, 70)]
    assert all(math.isfinite(e) and e >= 0.0 for e in estimates)
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(estimates))


# --- alarms ---------------------------------------------------------------------------------------------------------


def a_request():
    return Request("key", 0, 0.0, None, None)


def test_alarms_ring_in_order_and_once():
    alarms, requests = Alarms(), [a_request() for _ in range(4)]
    assert alarms.next_at() is None
    assert [alarms.add(when, r) for when, r in zip([3.0, 1.0, 2.0, 1.0], requests, strict=True)] == [
        True,
        True,
        False,
        False,
    ]
    assert alarms.ring(0.5) == []
    assert alarms.ring(2.0) == [requests[1], requests[3], requests[2]]
    assert alarms.next_at() == 3.0
    requests[0].state = State.SETTLED
    assert alarms.ring(9.0) == []
    assert len(alarms) == 0


def test_alarms_keep_few_settled_requests_alive():
    alarms = Alarms()
    pending = [a_request() for _ in range(10)]
    for request in pending:
        alarms.add(1e9, request)
    for _ in range(10_000):
        settled = a_request()
        alarms.add(1e6, settled)
        settled.state = State.SETTLED
    assert len(alarms) <= 64
    assert sorted(map(id, alarms.ring(2e9))) == sorted(map(id, pending))
