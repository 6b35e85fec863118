"""`swiftdet compare --run`: what is measured in which time, what is kept, and what is said of the rest."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comparison_documents import benchmark, evaluation, run, subject, verification
from swiftdet import comparison, measurements, zoo
from swiftdet.cli import main
from swiftdet.comparison import measuring
from swiftdet.comparison.schedule import FEWEST_CALLS, Cost, Schedule
from swiftdet.errors import InvalidArgument

# --- sharing out time -------------------------------------------------------------------------------------------------

COSTS = st.lists(
    st.builds(Cost, parameters_m=st.floats(0.1, 300), gflops=st.floats(0.1, 1000)), min_size=1, max_size=20
).map(lambda costs: sorted(costs, key=lambda cost: cost.gflops))


@given(costs=COSTS, budget_s=st.floats(1, 3600), longest_s=st.floats(0.5, 30), call_s_per_gflop=st.floats(0.001, 0.05))
def test_what_is_begun_fits_into_the_budget_when_costs_are_as_estimated(costs, budget_s, longest_s, call_s_per_gflop):
    schedule = Schedule(budget_s, longest_s, costs)
    begun = 0
    for number, cost in enumerate(costs):
        slot = schedule.slot(number)
        if slot is None:
            continue
        begun += 1
        assert slot.expected_s <= schedule.left_s + 3.0  # seconds of calls that even the quickest model gets
        assert slot.duration_s >= FEWEST_CALLS * schedule.call_s(number)
        schedule.spend(slot.expected_s)
        schedule.learn(number, start_s=4.0, call_s=cost.gflops * call_s_per_gflop)
    assert schedule.left_s >= -3.0 * begun


@given(costs=COSTS)
def test_without_a_budget_everything_gets_its_calls(costs):
    schedule = Schedule(None, 10.0, costs)
    for number in range(len(costs)):
        slot = schedule.slot(number)
        assert slot is not None
        assert slot.duration_s >= max(10.0, FEWEST_CALLS * schedule.call_s(number))


def test_estimates_follow_what_was_measured():
    schedule = Schedule(600.0, 10.0, [Cost(36.9, 100.0), Cost(151.7, 842.0)])
    before = schedule.call_s(1)
    schedule.learn(0, start_s=10.0, call_s=4.0)
    assert schedule.call_s(1) > 3 * before
    schedule.spend(590.0)
    assert schedule.slot(1) is None


def test_a_model_that_got_too_few_calls_gets_enough_the_second_time():
    schedule = Schedule(600.0, 10.0, [Cost(5.7, 5.9), Cost(36.9, 100.0)])
    first = schedule.slot(0)
    schedule.learn(0, start_s=4.0, call_s=1.2)
    assert first.duration_s <= 10.0 < FEWEST_CALLS * 1.2 < schedule.slot(0).duration_s


def test_cheap_models_come_first_and_each_once():
    order = measuring._in_order([])
    assert set(order) == {*zoo.demo_names(), *zoo.names()}
    gflops = [zoo.info(name).gflops for name in order]
    assert gflops == sorted(gflops)
    assert measuring._in_order(["yolov7", "damo-yolo-ns", "yolov7", "mine.onnx"]) == [
        "mine.onnx",
        "damo-yolo-ns",
        "yolov7",
    ]


# --- measuring --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A comparison of both demos, measured in no time."""
    folder = tmp_path_factory.mktemp("run")
    assert main(["compare", "--run", *zoo.demo_names(), "--duration", "0.3", "-o", str(folder), "--device", "cpu"]) == 0
    return folder


def test_the_demos_are_scored_and_timed_through_one_pipeline(measured):
    rows = comparison.rows.pair(comparison.read_sources(sorted((measured / "results").glob("*.json"))))
    assert {row.variant: row.pairing for row in rows} == dict.fromkeys(zoo.demo_names(), "paired")
    for row in rows:
        (scored,) = row.accuracies.values()
        assert scored.figures["scores"]["AP"] > 0.6
        assert comparison.rows.is_resized_as_timed(scored.source.document)
    assert comparison.check(measured).faults == []
    predictions = measured / "evaluations" / "demo-yolov7" / "predictions.json"
    content = predictions.read_bytes()
    predictions.write_bytes(content.replace(b"1", b"2", 1))
    (fault,) = comparison.check(measured).faults
    predictions.write_bytes(content)
    assert fault == "evaluations/demo-yolov7/predictions.json: changed after the page was made"
    assert {path.name for path in (measured / "evaluations").iterdir()} == set(zoo.demo_names())


def test_each_document_can_be_repeated_by_its_command(measured):
    for path in (measured / "results").glob("*.json"):
        program, *arguments = measurements.read(path)["provenance"]["command"]
        assert program.endswith("swiftdet/__main__.py")
        assert arguments[0] in {"val", "benchmark"}


def test_what_is_there_is_not_measured_again_unless_asked_for(measured, monkeypatch):
    before = {path.name for path in (measured / "results").glob("*.json")}
    started = []
    monkeypatch.setattr(measuring._Run, "_run", lambda _, *args: started.append(args))
    options = comparison.Options(models=["demo-yolov7"], duration_s=0.2, device="cpu")
    told = []
    outcome = comparison.measure(measured, options, on_progress=told.append)
    assert started == []
    assert len(outcome.sources) == 2
    assert [line.split()[0] for line in told] == ["[1/1]", "[1/1]"]
    assert {path.name for path in (measured / "results").glob("*.json")} == before
    monkeypatch.setattr(measuring._Run, "_run", lambda _, *args: started.append(args))
    comparison.measure(measured, dataclasses.replace(options, fresh=True))
    assert [arguments[0] for _, arguments in started] == ["benchmark"]  # without its document nothing is scored


@pytest.mark.parametrize("change", ["commit", "packages", "host", "command", "model"])
def test_what_was_measured_otherwise_is_not_taken(measured, tmp_path, change):
    found = comparison.read_sources(sorted((measured / "results").glob("demo-yolov7-benchmark*")))[0].document
    made_by, subject = found["provenance"], found["subject"]
    changes = {
        "commit": {**made_by, "commit": "0" * 40},
        "packages": {**made_by, "packages": {**made_by["packages"], "openvino": "1.0"}},
        "host": {**made_by, "host": {**made_by["host"], "cpu": "another"}},
        "command": {**made_by, "command": [*made_by["command"], "--batch", "2"]},
        "model": made_by,
    }
    if change == "model":
        subject = {**subject, "model_sha256": "0" * 64}
    other = measurements.seal("benchmark", subject=subject, measured=found["measured"], provenance=changes[change])
    measurements.write(other, tmp_path / "results" / "left.json")
    run = measuring._Run(tmp_path, comparison.Options(models=["demo-yolov7"], device="cpu"), lambda _: None)
    run._earlier = [tmp_path / "results" / "left.json"]
    arguments = ["benchmark", "demo-yolov7", "--device", "cpu", "--cold-start", "this"]
    assert run._earlier_source("benchmark", arguments) is None
    measurements.write(found, tmp_path / "results" / "left.json")
    assert run._earlier_source("benchmark", arguments).document == found


def test_a_time_without_a_median_is_taken_again(tmp_path, monkeypatch):
    """The first estimate of a file's calls is none at all."""
    durations = []

    def run_(self, model, arguments):
        durations.append(float(arguments[arguments.index("--duration") + 1]))
        count = 4 if len(durations) == 1 else 12
        document = benchmark(of=subject(synthetic=True), runs=[run(median=900.0, count=count, warmup_s=0.0)])
        measurements.write(document, self._results / "x.json")
        (source,) = comparison.read_sources([self._results / "x.json"])
        (self._results / "x.json").rename(self._results / source.name)
        return source

    monkeypatch.setattr(measuring._Run, "_run", run_)
    outcome = comparison.measure(tmp_path, comparison.Options(models=["mine.onnx"], duration_s=3.0))
    assert durations == [3.0, pytest.approx(11.25, abs=0.06)]
    assert [source.document["measured"]["runs"][0]["calls"] for source in outcome.sources] == [12]
    assert len(list((tmp_path / "results").iterdir())) == 1


def test_what_fails_or_does_not_fit_into_the_budget_is_named_and_the_rest_is_measured(tmp_path, capsys):
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    models = ["yolov7-e6e", str(tmp_path / "broken.onnx"), "damo-yolo-ns"]
    arguments = ["--duration", "0.2", "--budget", "0.4", "--device", "cpu", "-o", str(tmp_path / "out")]
    assert main(["compare", "--run", *models, *arguments]) == 1
    told = capsys.readouterr()
    assert "DAMO-YOLO-Ns" in told.out
    for said in ("broken.onnx: benchmark: model", "yolov7-e6e: not timed: at about"):
        assert said in told.err
        for name in ("index.html", "compare.md"):
            assert said in (tmp_path / "out" / name).read_text().replace("\\", "")
    assert comparison.check(tmp_path / "out").faults == []


def test_an_interrupted_run_keeps_what_is_done(tmp_path):
    command = [
        sys.executable,
        "-m",
        "swiftdet",
        "compare",
        "--run",
        *zoo.demo_names(),
        "--duration",
        "30",
        "-o",
        str(tmp_path),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert b"timing" in process.stderr.readline()
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"what was measured is kept" in told
    assert list((tmp_path / "results").glob("*.json")) == []
    outcome = comparison.measure(tmp_path, comparison.Options(models=["demo-yolov7"], duration_s=0.2, device="cpu"))
    assert len(outcome.sources) == 2
    assert [path.name for path in (tmp_path / "results").glob(".*")] == []


def test_nothing_that_can_be_measured_is_an_error(tmp_path, capsys):
    assert main(["compare", "--run", "no-such-model", "-o", str(tmp_path)]) == 1
    assert "no-such-model: benchmark:" in capsys.readouterr().err
    assert not (tmp_path / "index.html").exists()


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected result files, or --run"),
        (["--check", "folder", "a.json"], "takes a folder and nothing else"),
        (["--run", "--images", "folder"], "images and annotations: expected both or neither"),
        (["--run", "--duration", "-1"], "duration"),
        (["--run", "--budget", "nan"], "budget"),
    ],
)
def test_wrong_usage_is_one_line(arguments, said, capsys, tmp_path):
    assert main(["compare", *arguments, "-o", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_documents_are_compared_and_shown_in_short(tmp_path, capsys):
    for name, document in {"v": evaluation(), "b": benchmark(), "c": verification()}.items():
        measurements.write(document, tmp_path / f"{name}.json")
    files = [str(tmp_path / f"{name}.json") for name in "vbc"]
    assert main(["compare", *files, "-o", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "65.5" in told
    assert f"the page: {tmp_path / 'out' / 'index.html'}" in told
    assert main(["compare", *files, "-o", str(tmp_path / "out"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["page"].endswith("index.html")
    assert len(document["files"]) == 7


def test_a_damaged_document_is_one_line(tmp_path, capsys):
    measurements.write(benchmark(), tmp_path / "b.json")
    (tmp_path / "b.json").write_text((tmp_path / "b.json").read_text().replace("1500", "1501", 1))
    assert main(["compare", str(tmp_path / "b.json"), "-o", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "b.json" in line


def test_options_are_checked_before_anything_runs(tmp_path):
    for bad in ({"duration_s": 0.0}, {"duration_s": float("inf")}, {"budget_s": -1.0}):
        with pytest.raises(InvalidArgument):
            comparison.measure(tmp_path, comparison.Options(models=["demo-yolov7"], **bad))
