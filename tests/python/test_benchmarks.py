"""How benchmark figures come about: rounds, the record of the runs, and the page that is written from it."""

from __future__ import annotations

import copy
import re
from collections import namedtuple
from pathlib import Path

import pytest

import alternating
import benchmark_results
import benchmark_table
import kernel_bytes
import other_work
import write_benchmarks
from benchmark_results import NotComparable, from_run, merged

ROOT = Path(__file__).resolve().parents[2]


def benchmark(case, side, *, ms=1.0, suite="one", test=None, **info):
    """One entry of pytest-benchmark's JSON."""
    return {
        "fullname": f"benchmarks/bench_{suite}.py::{test or f'test_{side}[{case}]'}",
        "extra_info": {"case": case, "side": side, "other_work_percent": 0.0, "stolen_percent": 2.6 * ms, **info},
        "stats": {"rounds": 9, "mean": 1.1e-3 * ms, "median": 1e-3 * ms, "q1": 0.9e-3 * ms, "q3": 1.2e-3 * ms},
    }


def run(*benchmarks, at="2026-01-02T03:04:05", changed=False):
    """A run in pytest-benchmark's JSON, and so in the form of the record."""
    machine = {
        "machine": "x86_64",
        "cpu": {"brand_raw": "A processor", "count": 2},
        "system": "Linux",
        "release": "6.1",
        "python_version": "3.11.7",
        "libraries": {"numpy": "2.0"},
        "command": "tools/bench.sh --record -k one",
    }
    commit = {"id": "0123456789abcdef", "dirty": changed}
    return from_run(
        {"datetime": f"{at}.678+00:00", "machine_info": machine, "commit_info": commit, "benchmarks": list(benchmarks)}
    )


def pair(case, ours, theirs, **info):
    """Both sides of a case; what else is given is told by ours."""
    return benchmark(case, "swiftdet", ms=ours, **info), benchmark(case, "peer", ms=theirs)


# --- rounds ---------------------------------------------------------------------------------------------------------


class Reporter:
    """Stands in for pytest-benchmark's fixture: times `pedantic`'s calls by the clock that tests are marked with."""

    def __init__(self, *, enabled=True):
        self.enabled, self.extra_info, self.times = enabled, {}, []

    def pedantic(self, target, *, rounds):
        for _ in range(rounds):
            begin = alternating.CLOCK()
            target()
            self.times.append(alternating.CLOCK() - begin)


def turns(order):
    """Two sides that write down whose turn it is; the n-th turn of all takes n seconds, b's a hundred more."""

    def turn(side):
        order.append(side)
        return len(order) + (100.0 if side == "b" else 0.0)

    return {"a": lambda: turn("a"), "b": lambda: turn("b")}


def test_sides_take_turns_and_their_own_times_are_reported():
    order = []
    rounds = alternating.Rounds(turns(order), rounds=3, warmup=1)
    first, second = Reporter(), Reporter()
    rounds.report(first, "b")
    rounds.report(second, "a")
    assert "".join(order) == "ba" + "abbaab"
    assert second.times == pytest.approx([3, 6, 7])
    assert first.times == pytest.approx([104, 105, 108])


def test_a_check_has_one_round():
    order = []
    rounds = alternating.Rounds(turns(order), rounds=50, warmup=5)
    rounds.report(Reporter(enabled=False), "a")
    assert order == ["a", "b"]


def test_a_turn_takes_what_its_timer_says():
    clock = iter([5.0, 7.5])
    assert alternating.timed(lambda: None, lambda: next(clock))() == 2.5


def test_other_work_is_what_is_neither_ours_nor_idle(monkeypatch):
    """Ten seconds on two processors: 9 s are busy, 4 s of them ours, and the host keeps 1 s."""
    times = namedtuple("times", "user nice system irq softirq steal idle")  # noqa: PYI024 - as psutil's
    readings = iter([times(0, 0, 0, 0, 0, 0, 0), times(5, 1, 2, 0.5, 0.5, 1, 10)])
    monkeypatch.setattr(other_work.psutil, "cpu_times", lambda: next(readings))
    monkeypatch.setattr(other_work, "_seconds_of_ours", iter([1.0, 5.0]).__next__)
    monkeypatch.setattr(other_work.time, "perf_counter", iter([0.0, 10.0]).__next__)
    monkeypatch.setattr(other_work.os, "cpu_count", lambda: 2)
    with other_work.watched() as found:
        pass
    assert found == {"other_work_percent": 25.0, "stolen_percent": 5.0}


# --- the record -----------------------------------------------------------------------------------------------------


def test_a_run_becomes_a_record():
    recorded = run(*pair("x", 2.0, 8.0, bound=0.33, resident_mib=12.3456), changed=True)
    (name,) = recorded["runs"]
    assert name == "2026-01-02T03:04:05Z"
    assert recorded["runs"][name]["changed"] is True
    case = recorded["cases"]["x"]
    assert (case["suite"], case["run"]) == ("one", name)
    ours = case["sides"]["swiftdet"]
    assert (ours["median_ms"], ours["bound"], ours["resident_mib"]) == (2.0, 0.33, 12.35)
    assert ours["other_work_percent"] == 0.0, "nothing is something that was measured"


def test_a_run_replaces_its_own_cases_alone():
    before = run(*pair("x", 1.0, 2.0), *pair("y", 3.0, 4.0), at="2026-01-01T00:00:00")
    unchanged = copy.deepcopy(before)
    after = merged(before, run(*pair("y", 5.0, 6.0)))
    assert before == unchanged
    assert after["cases"]["x"] == before["cases"]["x"]
    assert after["cases"]["y"]["sides"]["peer"]["median_ms"] == 6.0
    assert set(after["runs"]) == {"2026-01-01T00:00:00Z", "2026-01-02T03:04:05Z"}
    again = merged(after, run(*pair("x", 1.0, 2.0)))
    assert set(again["runs"]) == {"2026-01-02T03:04:05Z"}, "a run without cases is forgotten"


def test_a_case_of_another_name_by_the_same_test_takes_the_old_one_s_place():
    before = run(benchmark("10 kept", "swiftdet", test="a"), benchmark("10 kept", "peer", test="b"))
    after = merged(before, run(benchmark("11 kept", "swiftdet", test="a"), benchmark("11 kept", "peer", test="b")))
    assert list(after["cases"]) == ["11 kept"]


@pytest.mark.parametrize("sides", [["swiftdet"], ["peer"], ["swiftdet", "another"]])
def test_sides_of_different_runs_are_not_put_together(sides):
    before = run(*pair("x", 1.0, 2.0))
    with pytest.raises(NotComparable, match="x: expected all sides in one run"):
        merged(before, run(*(benchmark("x", side) for side in sides)))
    if sides != ["swiftdet", "another"]:
        with pytest.raises(NotComparable):
            merged(benchmark_results.EMPTY, run(*(benchmark("x", side) for side in sides)))


def test_the_record_is_read_as_it_was_written(tmp_path):
    recorded = run(*pair("x \u2192 y", 1.0, 2.0, bound=0.5), *pair("z", 3.0, 4.0))
    path = tmp_path / "results.json"
    benchmark_results.save(recorded, path)
    assert benchmark_results.load(path) == recorded
    assert benchmark_results.load(tmp_path / "none.json") == benchmark_results.EMPTY


# --- tables ---------------------------------------------------------------------------------------------------------


def test_a_ratio_is_held_against_its_bound():
    good, bad = pair("good", 1.0, 4.0, bound=0.25), pair("bad", 1.01, 4.0, bound=0.25)
    free, shown = pair("free", 9.0, 1.0), benchmark("good", "fast", ms=0.5, unbounded=True)
    cases = run(*good, shown, *bad, *free)["cases"]
    lines = benchmark_table.tables(cases)
    assert lines[2] == "| good | 1 (0.9 to 1.2) | peer | 4 (3.6 to 4.8) | 0.25 | 0.25 | met |"
    assert lines[3] == "| good | 1 (0.9 to 1.2) | fast | 0.5 (0.45 to 0.6) | 2.00 |  |  |"
    assert lines[4].endswith("| 0.25 | 0.25 | **missed** |")
    assert lines[5].endswith("| 9.00 |  |  |")
    assert [(verdict.case, verdict.kept) for verdict in benchmark_table.verdicts(cases)] == [
        ("good", True),
        ("bad", False),
    ]
    assert benchmark_table.is_whole(cases)


def test_a_side_alone_is_no_comparison():
    cases = run(benchmark("x", "swiftdet"))["cases"]
    assert benchmark_table.tables(cases)[-1].endswith("| one side only |")
    assert not benchmark_table.is_whole(cases)
    assert not benchmark_table.is_whole({})


def test_what_is_added_to_a_direct_call_has_a_table_and_a_goal():
    sides = {"swiftdet": 0.110, "direct": 0.010, "executor": 0.030}
    entries = [benchmark("closed", side, ms=ms, p99_ms=3 * ms) for side, ms in sides.items()]
    entries[0]["extra_info"]["added_bound_us"] = 100
    cases = run(*entries)["cases"]
    assert benchmark_table.tables(cases)[2:] == ["| closed | 9 | 10 | 110, 100, 300 | 22, 20, 60 | 100 | **missed** |"]
    (verdict,) = benchmark_table.verdicts(cases)
    assert verdict == ("closed", "direct", "110 us added", "100 us", False)


# --- the page -------------------------------------------------------------------------------------------------------

STALE = "stale 1.23 ms\n"
TEMPLATE = "".join(
    f"## {name}\n\n<!-- figures: {name} -->\n{STALE}<!-- end -->\n" for name in ("bounds", "one", "kernels", "runs")
)


def test_sections_are_written_and_nothing_else():
    recorded = run(*pair("x", 1.0, 2.0, bound=0.4))
    text = write_benchmarks.rendered(TEMPLATE, recorded)
    assert "stale" not in text
    assert re.sub(r"(figures: \w+ -->\n).*?(?=<!-- end)", r"\1", text, flags=re.DOTALL) == TEMPLATE.replace(STALE, "")
    assert "Bounds: 1; met: 0; missed: 1.\n\n- x, against peer: 0.50, bound 0.4\n" in text
    assert "Run 1. Meanwhile other work took 0 % of the processors, and the host" in text
    assert "machine kept 3 to 5 % for" in text
    assert "1. `tools/bench.sh --record -k one`, 2026-01-02T03:04:05Z, commit 0123456789: A processor" in text
    assert write_benchmarks.rendered(text, recorded) == text


def test_a_suite_without_a_section_is_refused():
    with pytest.raises(ValueError, match="expected one for each of bounds, kernels, one, runs, two"):
        write_benchmarks.rendered(TEMPLATE, run(*pair("x", 1.0, 2.0), benchmark("y", "swiftdet", suite="two")))


def test_the_page_is_what_the_script_writes_from_the_record():
    text = write_benchmarks.README.read_text()
    recorded = benchmark_results.load(write_benchmarks.RECORD)
    assert write_benchmarks.rendered(text, recorded) == text, "run python tools/write_benchmarks.py"


def test_every_suite_is_recorded():
    suites = {path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py")}
    suites.remove("evaluation")  # a script with a table of its own (docs/evaluation.md)
    assert {case["suite"] for case in benchmark_results.load(write_benchmarks.RECORD)["cases"].values()} == suites


FIGURE = re.compile(r"(?<![\w.])\d[\d.,]*\s*(?:(?:[nmu]?s|[KMG]i?B|times|fps|images)\b|%)|\b\d+\.\d+\b")
SETUP = {"6 GB"}  # what the peers' packages take


def test_no_figure_stands_outside_of_the_sections():
    text = re.sub(r"^```.*?^```", "", write_benchmarks.README.read_text(), flags=re.DOTALL | re.MULTILINE)
    outside = write_benchmarks.SECTION.sub("", text)
    assert set(FIGURE.findall(outside)) == SETUP


@pytest.mark.parametrize("figure", ["1.5 ms", "0.33", "97 %", "12 us", "2.69 MB", "3 times", "40 images"])
def test_the_rule_against_figures_can_fail(figure):
    assert FIGURE.findall(f"It takes {figure} here.") == [figure]


def test_the_bytes_of_kernels_are_those_that_their_sources_state():
    def stated(source):
        comment = (kernel_bytes.OPS / source).read_text().split("#include")[0]
        return " ".join(line.removeprefix("//").strip() for line in comment.splitlines())

    letterbox, decode = kernel_bytes.letterbox(1920, 1080, 640), kernel_bytes.decode(80, 8400, 300)
    written, read = 3 * 640 * 640 * 4 / 1e6, 360 * 5760 / 1e6
    assert letterbox.must / 1e6 == pytest.approx(written + read)
    assert f"{written:.2f} MB written" in stated("letterbox_cuda.cu")
    assert f"the 360 rows under the taps, {read:.2f} MB" in stated("letterbox_cuda.cu")
    assert f"together {letterbox.moves / letterbox.must:.2f} times the floor" in stated("letterbox_cuda.cu")
    assert f"every score once, {decode.must / 1e6:.2f} MB" in stated("decode_cuda.cu")
    assert f"together {decode.moves / decode.must:.2f} times the scores" in stated("decode_cuda.cu")
    few, many = kernel_bytes.nms(300, 300), kernel_bytes.nms(1000, 300)
    assert "20 of each candidate (box, class) and 28 of each survivor" in stated("nms_cuda.cu")
    told = f"{few.moves / 1e3:.1f} KB instead of {few.must / 1e3:.1f}, {few.moves / few.must:.1f} times"
    assert told in stated("nms_cuda.cu")
    assert many.moves == 1000 * 20 + 300 * (28 + 32 + 20)
