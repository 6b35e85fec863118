"""How much sooner an evaluation is done with several images in flight than image by image, in the same rounds.

    python benchmarks/bench_evaluation.py           # prints the table
    pytest benchmarks/bench_evaluation.py           # each once, for its answer

The bundled sample, by each protocol of its two models. "one by one" is a loop of calls on a detector compiled for
latency; the others are what `swiftdet.evaluate` does, on that detector and on one compiled for throughput, as
`swiftdet val` makes it. Scoring is left out. Rounds alternate between the sides, the best of each counts, and the load
averages of the machine are part of the result.
"""

from __future__ import annotations

import os
import time
from functools import partial

import pytest

import swiftdet
from swiftdet import demo
from swiftdet.evaluation import PROTOCOLS, running
from swiftdet.evaluation.dataset import read_dataset, survey

CASES = (("demo-yolov7", "yolov7"), ("demo-yolov7", "yolov7-fixed"), ("demo-damo-yolo", "damo-yolo"))
ROUNDS = 5


def sides(protocol, latency, throughput, images=None):
    """What each side does, once: a list of (image id, table of predictions)."""
    dataset = read_dataset(*demo.dataset())
    category_of_class = dataset.match(latency.names)
    todo = running.jobs(dataset.entries, survey(dataset).sizes, protocol, latency)[:images]

    def in_flight(detector):
        return [(entry.image_id, one) for entry, one in running.detect(detector, todo, protocol, category_of_class)]

    def one_by_one():
        return [in_a_call(job) for job in todo]

    def in_a_call(job):
        with_one = running.call_options(protocol, category_of_class) | job.options
        result = latency(job.image, **with_one)
        return job.entry.image_id, running.predictions(result, job, protocol, category_of_class)

    return {
        "one by one": one_by_one,
        "in flight": partial(in_flight, latency),
        "in flight, compiled for throughput": partial(in_flight, throughput),
    }, len(todo)


def check_same_answer(calls):
    """Bit for bit where it is the same compiled network."""
    first, second, third = (call() for call in calls.values())
    for (one_id, one), (other_id, other) in zip(first, second, strict=True):
        assert one_id == other_id
        assert (one.table == other.table).all()
    assert [image_id for image_id, _ in third] == [image_id for image_id, _ in first]
    assert sum(len(one.table) for _, one in first) > len(first)


@pytest.mark.parametrize(("model", "protocol"), CASES)
def test_evaluation(model, protocol):
    with swiftdet.Detector(model) as latency, swiftdet.Detector(model, performance="throughput") as throughput:
        calls, _ = sides(PROTOCOLS[protocol], latency, throughput, images=12)
        check_same_answer(calls)


def main():
    print("| model | protocol | one by one | in flight | compiled for throughput |")
    print("| --- | --- |" + " ---: |" * 3)
    for model, protocol in CASES:
        with swiftdet.Detector(model) as latency, swiftdet.Detector(model, performance="throughput") as throughput:
            calls, count = sides(PROTOCOLS[protocol], latency, throughput)
            check_same_answer(calls)
            best = dict.fromkeys(calls, float("inf"))
            for _ in range(ROUNDS):
                for name, call in calls.items():
                    begin = time.perf_counter()
                    call()
                    best[name] = min(best[name], time.perf_counter() - begin)
        rates = " | ".join(f"{count / seconds:.0f}" for seconds in best.values())
        print(f"| `{model}` | `{protocol}` | {rates} |", flush=True)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\nImages per second, the best of {ROUNDS} rounds; {os.cpu_count()} processors, load averages {load}.")


if __name__ == "__main__":
    main()
