"""What may share a column, which accuracy belongs to which latency, and what a page says of them."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comparison_documents import PROTOCOL, benchmark, evaluation, run, subject, verification
from swiftdet import comparison, measurements, zoo
from swiftdet.comparison import csv_file, drawing, page, panels, published_tables, rows, tables
from swiftdet.comparison.columns import AccuracyColumn, Host, SpeedColumn, shared_and_own
from swiftdet.comparison.notes import Notes
from swiftdet.comparison.page import CSV, MARKDOWN, PAGE, Content
from swiftdet.errors import DocumentError, InvalidArgument

RECTANGULAR = {"name": "yolov7", "resize": {**PROTOCOL["resize"], "rule": "rectangular", "shrink": "area", "group": 32}}
SYNTHETIC = subject(model="yolov7", variant="yolov7", synthetic=True, imgsz=[640, 640], model_sha256="5" * 64)


@pytest.fixture(scope="module", autouse=True)
def _plots_are_drawn_once():
    """Drawing is most of the work, and half of the plots, the published ones, are the same in every page."""
    draw, drawn = drawing.draw, {}

    def draw_once(panel, name):
        if (key := repr((panel, name))) not in drawn:
            drawn[key] = draw(panel, name)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing, "draw", draw_once)
        yield


def sources(*documents: measurements.Document) -> list[rows.Source]:
    return [rows.Source(name=rows._copy_name(document), content=b"{}", document=document) for document in documents]


def rendered(*documents: measurements.Document, **options) -> dict[str, str]:
    return page.render(Content(title=None, sources=sources(*documents), **options))


def text_of(page_html: str) -> str:
    """What a reader sees."""
    without_style = re.sub(r"<style>.*?</style>", "", page_html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", without_style).split())


# --- rows: what was measured through one pipeline --------------------------------------------------------------------


def test_an_evaluation_and_a_benchmark_of_one_pipeline_share_a_row():
    (row,) = rows.pair(sources(evaluation(), benchmark()))
    assert row.pairing == "paired"
    assert len(row.accuracies) == len(row.speeds) == 1


def test_how_the_engine_was_scheduled_does_not_part_them():
    """Scoring runs the same network with images in flight; what it computes is the same."""
    assert len(rows.pair(sources(evaluation(of=subject(performance="throughput")), benchmark()))) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"model_sha256": "9" * 64},
        {"graph_sha256": "9" * 64},
        {"graph_sha256": None, "engine_sha256": "9" * 64},
        {"engine": "onnxruntime 1.32.0"},
        {"device": "cuda:0"},
        {"precision": "fp16"},
        {"imgsz": [256, 320]},
        {"preprocess": {"mode": "stretch", "interpolation": "linear"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_any_difference_of_the_pipeline_parts_them(changes):
    found = rows.pair(sources(evaluation(), benchmark(of=subject(**changes))))
    assert {row.pairing for row in found} == {"accuracy only", "latency only"}


def test_a_timed_row_whose_accuracy_came_through_another_pipeline_says_so():
    documents = (evaluation(of=subject(engine="onnxruntime 1.32.0")), benchmark())
    seen = text_of(rendered(*documents)[PAGE])
    assert "was not measured through the pipeline that is timed here" in seen
    assert "was not measured through the pipeline that is timed here" not in text_of(
        rendered(evaluation(), benchmark())[PAGE]
    )


def test_a_protocol_that_resizes_otherwise_is_marked_and_left_out_of_the_plot():
    both = rendered(evaluation(protocol=RECTANGULAR), benchmark())[PAGE]
    assert "resizes images otherwise than the pipeline" in text_of(both)
    assert "Measured here" not in text_of(both)
    assert "Measured here" in text_of(rendered(evaluation(), benchmark())[PAGE])


def test_a_repetition_opens_a_row_of_its_own():
    found = rows.pair(sources(benchmark(), benchmark(runs=[run(median=11.0)])))
    assert [row.repeat for row in found] == [1, 2]
    assert "measurement 2" in text_of(rendered(benchmark(), benchmark(runs=[run(median=11.0)]))[PAGE])


def test_the_same_document_twice_counts_once(tmp_path):
    for name in ("a.json", "b.json"):
        measurements.write(benchmark_once, tmp_path / name)
    assert len(rows.read_sources([tmp_path / "a.json", tmp_path / "b.json"])) == 1


benchmark_once = benchmark()


def test_made_up_weights_have_no_accuracy_and_say_so():
    scored = evaluation(of=SYNTHETIC, ap=0.987)
    seen = text_of(rendered(scored, benchmark(of=SYNTHETIC))[PAGE])
    assert "98.7" not in seen
    assert "Made-up weights: the time is that of the architecture" in seen


def test_rows_stand_in_the_order_of_the_public_sizes():
    def timed(variant):
        return benchmark(
            of=subject(model=variant, variant=variant, model_sha256=variant.encode().hex().ljust(64, "0")[:64])
        )

    found = rows.pair(
        sources(*map(timed, ["yolov7-tiny", "yolov7x", "yolov7", "damo-yolo-l", "damo-yolo-t", "demo-yolov7"]))
    )
    assert [row.variant for row in found] == [
        "damo-yolo-t", "yolov7", "damo-yolo-l", "yolov7x", "yolov7-tiny", "demo-yolov7",
    ]  # fmt: skip
    assert [row.size for row in found] == ["n", "l", "l", "x", "", ""]


def test_nothing_to_compare_is_an_error(tmp_path):
    with pytest.raises(InvalidArgument, match="at least one result"):
        rows.read_sources([])
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DocumentError, match="expected a result of format"):
        rows.read_sources([tmp_path / "x.json"])


@pytest.mark.parametrize("change", [{"mean": None}, {"min": 0.0}, {"p50": -1.0}, {"max": None}])
def test_times_that_no_clock_gives_are_refused(tmp_path, change):
    usual = run()
    document = benchmark(runs=[run(), {**usual, "total": {**usual["total"], **change}}])
    measurements.write(document, tmp_path / "b.json")
    with pytest.raises(DocumentError, match=rf"b\.json: runs\.1\.total\.{next(iter(change))}"):
        rows.read_sources([tmp_path / "b.json"])


STRANGE = {
    "an unknown variant": {"variant": "yolov9"},
    "no interpolation": {"preprocess": {}},
    "an engine without a release": {"engine": ""},
    "a model without a name": {"model": "", "variant": None},
}


@pytest.mark.parametrize("change", STRANGE.values(), ids=STRANGE)
def test_a_strange_subject_makes_a_page_all_the_same(change):
    of = subject(**change)
    assert read_page(rendered(evaluation(of=of), benchmark(of=of))[PAGE]).open == []


def test_a_strange_host_makes_a_page_all_the_same():
    host = {"cpu": None, "gpu": {"name": ["T4"]}, "usable_processors": [1], "virtualised": {}}
    assert "unknown processor, 4 processors, 8 GiB" in text_of(rendered(benchmark(host=host))[PAGE])


# --- columns: unlike things never share one ---------------------------------------------------------------------------

HOSTS = st.builds(
    Host,
    cpu=st.sampled_from(["A", "B"]),
    processors=st.sampled_from([None, 2, 4]),
    memory_gib=st.sampled_from([8, 16]),
    gpu=st.sampled_from([None, "T4"]),
    virtualised=st.sampled_from([None, True, False]),
)
SPEED_COLUMNS = st.builds(
    SpeedColumn,
    hardware=HOSTS | st.sampled_from(["A", "NVIDIA T4"]),
    device=st.sampled_from(["cpu", "cuda:0", ""]),
    runtime=st.sampled_from(["OpenVINO 2026.4.1", "TensorRT 10", "unknown"]),
    build=st.sampled_from(["", "1", "2"]),
    precision=st.sampled_from(["fp32", "fp16", "unknown"]),
    batch=st.sampled_from([1, 8, "unknown"]),
    threads=st.sampled_from([1, 4, "unknown"]),
    loop=st.sampled_from(["closed", "paced", "unknown"]),
    rate_hz=st.sampled_from([None, 10.0, 10.5]),
    with_nms=st.sampled_from([True, False, "unknown"]),
    timed=st.sampled_from(["pixels to boxes", "network", "unknown"]),
    settings=st.sampled_from(["", "conf 0.25", "conf 0.001"]),
    images=st.sampled_from(["", "100 files"]),
    data=st.sampled_from([None, "aa", "bb"]),
)
ACCURACY_COLUMNS = st.builds(
    AccuracyColumn,
    dataset=st.sampled_from(["COCO", "mine"]),
    split=st.sampled_from(["val2017", "test-dev2017", "unknown"]),
    data=st.sampled_from([None, "aa/bb", "aa/cc"]),
    images=st.sampled_from([None, 1, 5000]),
    protocol=st.sampled_from(["yolov7", "damo-yolo"]),
    thresholds=st.sampled_from([None, "conf 0.001", "conf 0.05"]),
    weights=st.sampled_from(["the file's", "the authors'", "distilled"]),
    distilled=st.sampled_from([True, False, "unknown"]),
    host=st.none() | HOSTS,
)


@given(
    st.lists(SPEED_COLUMNS, min_size=1, max_size=6, unique=True)
    | st.lists(ACCURACY_COLUMNS, min_size=1, max_size=6, unique=True)
)
def test_heads_of_different_columns_differ(columns):
    """A reader sees every difference that keeps two columns apart."""
    shared, own = shared_and_own(columns)
    assert len({tuple(lines) for lines in own}) == len(columns)
    for line in shared:
        assert all(line in [text for _, text in column.facts()] for column in columns)


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "of": st.sampled_from(
            [
                subject(precision="fp16"),
                subject(engine="OpenVINO 2026.4.1-99 CPU f32"),
                subject(device="cuda:0"),
                subject(performance="throughput"),
                subject(isa="scalar"),
            ]
        ),
        "runs": st.sampled_from(
            [
                [run(threads=2)],
                [run(batch=8)],
                [run(loop="paced", rate_hz=20.0, late=None)],
                [run(loop="paced", rate_hz=30.0, late=None)],
                [run(timed=True)],
            ]
        ),
        "options": st.sampled_from(
            [{"conf": 0.001}, {"iou": 0.5}, {"max_det": 100}, {"multi_label": True}, {"class_agnostic": True}]
        ),
        "given": st.sampled_from([{"kind": "arrays"}, {"images": 3}, {"sha256": "7" * 64}]),
        "host": st.sampled_from([{"cpu": "Other CPU"}, {"usable_processors": 2}, {"virtualised": True}]),
    },
)


@given(OPTIONS, OPTIONS)
def test_two_benchmarks_share_a_column_only_if_nothing_of_how_they_were_made_differs(one, other):
    columns = [
        rows.speed_column(document, document["measured"]["runs"][0])
        for document in (benchmark(**one), benchmark(**other))
    ]
    assert (columns[0] == columns[1]) == (one == other)


EVALUATIONS = st.fixed_dictionaries(
    {},
    optional={
        "protocol": st.sampled_from(
            [RECTANGULAR, {"name": "mine"}, {"conf": 0.01}, {"iou": 0.5}, {"max_det": 100}, {"multi_label": False}]
        ),
        "dataset": st.sampled_from(
            [
                {"name": "other"},
                {"split": None},
                {"annotations_sha256": "9" * 64},
                {"images_sha256": "9" * 64},
                {"images": 7},
            ]
        ),
        "host": st.sampled_from([{"cpu": "Other CPU"}, {"memory_bytes": 64 << 30}]),
        "of": st.just(subject(variant=None)),
    },
)


@given(EVALUATIONS, EVALUATIONS)
def test_two_accuracies_share_a_column_only_if_data_protocol_and_weights_are_the_same(one, other):
    columns = [rows.accuracy_column(evaluation(**options)) for options in (one, other)]
    assert (columns[0] == columns[1]) == (one == other)


def test_two_hosts_stand_in_two_columns_that_name_them():
    here, there = benchmark(), benchmark(host={"cpu": "Other CPU"})
    table = tables.measured_speed(rows.pair(sources(here, there)), Notes())
    assert [head.lines for head in table.heads] == [
        ["Imagined CPU, 4 processors, 8 GiB"],
        ["Other CPU, 4 processors, 8 GiB"],
    ]


def test_published_test_dev_and_val_never_share_a_column():
    columns = {figure.column for figure in published_tables.load().accuracies}
    assert {column.split for column in columns} == {"val2017", "test-dev2017"}
    table = tables.published_accuracy(Notes())
    by_title = {line.title: [cell.text for cell in line.cells] for line in table.lines}
    heads = [" ".join(head.lines) for head in table.heads]
    test_dev = next(i for i, head in enumerate(heads) if "test-dev2017" in head)
    val = next(i for i, head in enumerate(heads) if "val2017" in head and "yolov7" in head)
    assert (by_title["YOLOv7"][test_dev], by_title["YOLOv7"][val]) == ("51.4", "51.2")
    assert (by_title["YOLOv7-X"][test_dev], by_title["YOLOv7-X"][val]) == ("53.1", "52.9")


# --- plots ------------------------------------------------------------------------------------------------------------


def labels_of(panel, monkeypatch):
    """The boxes of the names in a panel's plot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Annotation

    boxes = {}

    def look(figure, *_):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        (axes,) = figure.axes
        names = [text for text in axes.texts if isinstance(text, Annotation) and text.get_text()]
        boxes.update((name.get_text(), name.get_window_extent(canvas.get_renderer())) for name in names)
        return "<svg/>"

    monkeypatch.setattr(drawing, "_svg", look)
    drawing._accuracy_plot(panel, "plot")
    return boxes


def test_the_interval_of_ap_is_drawn(monkeypatch):
    """Upright whiskers, and room for them; a document of before has none."""
    drawn = []
    monkeypatch.setattr(drawing, "_whisker", lambda _axes, x, y, end, _colour: drawn.append((x, y, end)))
    for interval in (None, (0.31, 0.89)):
        drawn.clear()
        found = sources(evaluation(interval=interval), benchmark())
        (panel,) = panels.measured(rows.pair(found))
        (point,) = panel.series[0].points
        drawing.draw(panel, f"plot {interval}")
        upright = [(x, [pytest.approx(ap) for ap in y]) for x, y, end in drawn if end == "_"]
        assert upright == ([] if interval is None else [([point.ms] * 2, [31.0, 89.0])])


def test_no_name_covers_another(monkeypatch):
    for panel in panels.published(Notes()):
        boxes = list(labels_of(panel, monkeypatch).values())
        assert len(boxes) == len({point.label for series in panel.series for point in series.points})
        assert not any(box.count_overlaps(boxes[i + 1 :]) for i, box in enumerate(boxes)), panel.title


def test_a_crowd_of_points_has_a_name_each(monkeypatch):
    """More of them than fit beside one another: none is lost."""
    point = panels.Point(label="", family="yolov7", ap=50.0, ms=5.0, low=5.0, high=5.0, hollow=False)
    points = [dataclasses.replace(point, label=f"model {i}", ms=5.0 + 0.01 * i) for i in range(40)]
    panel = next(panels.published(Notes()))
    panel = dataclasses.replace(panel, series=(dataclasses.replace(panel.series[0], points=tuple(points)),))
    assert set(labels_of(panel, monkeypatch)) == {point.label for point in points}


# --- published figures ------------------------------------------------------------------------------------------------


def test_the_public_comparison_is_there_figure_by_figure():
    found = published_tables.load()
    table = "DAMO-YOLO vs YOLOv7"
    expected = {
        "damo-yolo-t": ("n", 42.0, "val2017", 2.32),
        "damo-yolo-s": ("s", 46.0, "val2017", 3.45),
        "damo-yolo-m": ("m", 49.2, "val2017", 5.09),
        "damo-yolo-l": ("l", 50.8, "val2017", 7.18),
        "yolov7": ("l", 51.4, "test-dev2017", 6.84),
        "yolov7x": ("x", 53.1, "test-dev2017", 11.57),
    }
    accuracies = {figure.variant: figure for figure in found.accuracies if figure.table == table}
    latencies = {figure.variant: figure for figure in found.latencies if figure.table == table}
    assert {
        variant: (
            found.sizes[variant],
            accuracies[variant].percent["AP"],
            accuracies[variant].column.split,
            latencies[variant].ms,
        )
        for variant in accuracies
    } == expected
    assert set(latencies) == set(expected)
    assert {figure.column.hardware for figure in latencies.values()} == {"NVIDIA T4"}
    assert {figure.column.with_nms for figure in latencies.values()} == {"unknown"}


def test_published_tables_and_the_catalogue_agree():
    """Whatever a table says of an accuracy that the authors publish too, it says the same."""
    catalogued = {
        (name, figure.split, figure.distilled): figure.ap for name in zoo.names() for figure in zoo.info(name).accuracy
    }
    compared = 0
    for figure in published_tables.load().accuracies:
        if figure.column.weights in {published_tables.AUTHORS, published_tables.DISTILLED}:
            key = (figure.variant, figure.column.split, figure.column.distilled)
            assert round(catalogued[key], 1) == round(figure.percent["AP"], 1), key
            compared += bool(figure.table)
    assert compared == 6
    taken = {
        (figure.variant, figure.column.split, figure.column.distilled)
        for figure in published_tables.load().accuracies
        if not figure.table
    }
    assert taken == set(catalogued)


def test_a_published_figure_has_all_typed_fields_a_source_and_caveats_that_exist():
    found = published_tables.load()
    for figure in (*found.accuracies, *found.latencies):
        assert figure.variant in zoo.names()
        assert figure.source
        assert all(caveat.text.endswith(".") for caveat in figure.caveats)
    for figure in found.latencies:
        assert figure.column.batch in {1, 32, "unknown"}
        assert figure.column.with_nms in {True, False, "unknown"}
        assert 1.0 < figure.ms < 40.0
        assert figure.published.endswith(" fps") == ("from-fps" in {caveat.key for caveat in figure.caveats})
    assert {figure.column.split for figure in found.accuracies} == {"val2017", "test-dev2017"}


def test_frames_per_second_become_milliseconds():
    (figure,) = [f for f in published_tables.load().latencies if (f.variant, f.column.batch) == ("yolov7", 1)]
    assert figure.published == "161 fps"
    assert figure.ms == pytest.approx(6.211, abs=1e-3)


def test_what_the_authors_publish_stands_beside_a_measured_accuracy_of_the_same_kind():
    of = subject(model="y.pt", variant="yolov7", imgsz=[640, 640])
    coco = {"name": "COCO 2017 Dataset", "split": "val2017", "images": 5000}
    same = tables.measured_accuracy(rows.pair(sources(evaluation(of=of, dataset=coco, protocol=RECTANGULAR))), Notes())
    assert same.heads[0].parts[-1] == "published AP"
    assert same.lines[0].cells[-1].text == "51.2"
    for other in ({**coco, "images": 4999}, {**coco, "split": "train2017"}, {**coco, "name": "Mine"}):
        table = tables.measured_accuracy(
            rows.pair(sources(evaluation(of=of, dataset=other, protocol=RECTANGULAR))), Notes()
        )
        assert table.heads[0].parts[-1] == "APl"
    fixed = tables.measured_accuracy(rows.pair(sources(evaluation(of=of, dataset=coco))), Notes())
    assert fixed.heads[0].parts[-1] == "APl"


# --- footnotes --------------------------------------------------------------------------------------------------------

FAULTS_OF_THE_PUBLIC_PAGE = {
    "They are YOLOv7's AP on test-dev2017",
    'Headed "mAP val 50" in one version',
    "The page gives no method",
    "does not say whether NMS was timed",
    'row "n" is DAMO-YOLO-T',
    "neither resizing nor NMS is in it",
}


def test_the_known_faults_of_the_public_page_are_footnotes():
    files = rendered(benchmark())
    for name in (PAGE, MARKDOWN):
        seen = text_of(files[name]).replace("\\", "").replace("&#34;", '"').replace("&#39;", "'")
        assert {fault for fault in FAULTS_OF_THE_PUBLIC_PAGE if fault not in seen} == set()


NEEDED = {
    "no class for some categories": (evaluation(unknown=["chimney"]), benchmark()),
    "Made-up weights": (benchmark(of=SYNTHETIC),),
    "Not timed": (evaluation(),),
    "its accuracy was not measured": (benchmark(),),
    "Too few calls for this percentile": (evaluation(), benchmark(runs=[run(count=9)])),
    "The machine was disturbed while this was measured": (
        evaluation(),
        benchmark(runs=[run(warnings=("a loud neighbour",))]),
    ),
    "resizes images otherwise": (evaluation(protocol=RECTANGULAR), benchmark()),
}


@pytest.mark.parametrize("text", NEEDED)
def test_a_footnote_is_there_exactly_when_it_is_needed(text):
    assert text in text_of(rendered(*NEEDED[text])[PAGE])
    assert text not in text_of(rendered(evaluation(), benchmark())[PAGE])


@pytest.mark.parametrize("documents", [(evaluation(), benchmark()), (benchmark(of=SYNTHETIC, runs=[run(count=3)]),)])
def test_every_mark_has_its_note_and_every_note_its_mark(documents):
    text = rendered(*documents)[PAGE]
    marks = {int(number) for number in re.findall(r'href="#note-(\d+)"', text)}
    notes = [int(number) for number in re.findall(r'id="note-(\d+)"', text)]
    assert notes == sorted(marks) == list(range(1, len(notes) + 1))


def test_percentiles_of_too_few_calls_are_no_figures():
    table = tables.measured_speed(rows.pair(sources(benchmark(runs=[run(count=99)]))), Notes())
    cells = dict(zip(table.heads[0].parts, table.lines[0].cells, strict=True))
    assert (cells["p50"].text, cells["p90"].text, cells["calls"].text) == ("10.0", "–", "99")  # noqa: RUF001
    assert cells["p90"].notes
    assert "p99" not in cells
    full = tables.measured_speed(rows.pair(sources(benchmark())), Notes())
    assert full.heads[0].parts[:3] == ["p50", "p90", "p99"]


# --- files ------------------------------------------------------------------------------------------------------------


class Reader(html.parser.HTMLParser):
    """What a page asks for, which elements it has, and whether they are closed in order."""

    VOID = frozenset({"meta", "link", "br", "use", "path"})

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses, self.ids, self.handlers = [], set(), [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.addresses += [
            value for name, value in attrs if name in {"src", "href", "action", "data", "srcset", "poster"}
        ]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def read_page(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


ALL = (
    evaluation(),
    benchmark(runs=[run(), run(threads=2), run(batch=8), run(loop="paced", rate_hz=20.0, late=None)]),
    benchmark(of=SYNTHETIC, runs=[run(median=300.0, count=30)]),
    evaluation(of=subject(family="damo-yolo", variant="demo-damo-yolo", model="demo-damo-yolo", model_sha256="8" * 64)),
    benchmark(of=subject(family="damo-yolo", variant="demo-damo-yolo", model="demo-damo-yolo", model_sha256="8" * 64)),
    verification(),
    verification(passed=False),
)


def test_the_page_is_well_formed_and_asks_for_nothing():
    text = rendered(*ALL)[PAGE]
    reader = read_page(text)
    assert reader.open == []
    assert {"svg", "details", "table"} <= reader.tags
    assert not reader.tags & {"script", "iframe", "img", "object", "embed", "form", "video", "audio", "base"}
    assert {a for a in reader.addresses if not a.startswith("#")} == {"data:,"}
    assert reader.handlers == []
    assert len(reader.ids) == len(set(reader.ids))
    assert {a.removeprefix("#") for a in reader.addresses if a.startswith("#")} <= set(reader.ids)
    style = "".join(re.findall(r"<style>(.*?)</style>", text, re.DOTALL))
    assert not re.search(r"url\(|@import|http", style)
    assert set(re.findall(r"url\((.)", text)) <= {"#"}


HOSTILE = "<script>alert(1)</script>\"'&|`*_[x](y)$^{2}$ \x1b[31m\n# h"


def test_hostile_names_are_text_everywhere():
    documents = (
        evaluation(of=subject(model=HOSTILE, variant=None), dataset={"name": HOSTILE}, protocol={"name": HOSTILE}),
        benchmark(
            of=subject(model=HOSTILE, variant=None, engine=HOSTILE, precision=HOSTILE),
            host={"cpu": HOSTILE},
            runs=[run(warnings=(HOSTILE,))],
        ),
    )
    files = rendered(*documents, skipped=[HOSTILE])
    reader = read_page(files[PAGE])
    assert "script" not in reader.tags
    assert not any(
        tag.startswith("h") and tag not in {"html", "head", "header", "h1", "h2", "h3", "h4"} for tag in reader.tags
    )
    assert "<script" not in files[PAGE]
    assert "\x1b" not in files[PAGE] + files[MARKDOWN]
    assert "<script" not in files[MARKDOWN].replace("\\<script", "")
    assert "\n# h" not in files[MARKDOWN].replace("\n# Detectors compared", "").replace("\n## ", "")
    widths = {
        line.count("|") - line.count("\\|")
        for line in files[MARKDOWN].split("### Accuracy, measured")[1].split("###")[0].splitlines()
        if line.startswith("|")
    }
    assert len(widths) == 1  # no name adds a cell


def test_a_name_that_a_spreadsheet_would_run_is_text():
    text = csv_file.write(rows.pair(sources(benchmark(of=subject(model="=cmd|' /C calc'!A0", variant=None)))))
    models = {record["model"] for record in csv.DictReader(io.StringIO(text)) if record["origin"] == "measured"}
    assert models == {"'=cmd|' /C calc'!A0"}


def test_csv_has_every_figure_with_its_typed_fields():
    records = list(csv.DictReader(io.StringIO(rendered(*ALL)[CSV])))
    measured = [record for record in records if record["origin"] == "measured"]
    ap = [record for record in measured if (record["metric"], record["variant"]) == ("AP", "demo-yolov7")]
    assert [(r["value"], r["protocol"], r["split"], r["pairing"]) for r in ap] == [
        ("65.5", "yolov7-fixed", "val", "paired")
    ]
    medians = [r for r in measured if r["metric"] == "total p50" and r["variant"] == "demo-yolov7"]
    assert [(r["threads"], r["batch"], r["loop"], r["with_nms"]) for r in medians] == [
        ("1", "1", "closed", "True"),
        ("2", "1", "closed", "True"),
        ("1", "8", "closed", "True"),
        ("1", "1", "paced", "True"),
    ]
    assert {r["weights_made_up"] for r in measured if r["variant"] == "yolov7"} == {"True"}
    published = {(r["variant"], r["metric"], r["value"]) for r in records if r["origin"] == "published"}
    assert ("damo-yolo-t", "total", "2.32") in published
    assert ("yolov7", "AP", "51.4") in published
    assert all(r["source"] for r in records if r["origin"] == "published")


def test_markdown_marks_published_rows_and_has_one_width_a_table():
    text = rendered(*ALL)[MARKDOWN]
    assert "| l | YOLOv7 *published* |" in text
    for block in re.split(r"\n\n", text):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) <= 1, block


@pytest.mark.parametrize(
    "document",
    [evaluation(), benchmark(), verification(), evaluation(of=SYNTHETIC)],
    ids=["val", "benchmark", "verify", "made up"],
)
def test_one_document_of_any_kind_makes_a_page(document):
    assert read_page(rendered(document)[PAGE]).open == []


def test_verifications_are_listed():
    seen = text_of(rendered(*ALL)[PAGE])
    assert "Verified" in seen
    assert "onnxruntime 1.32.0" in seen
    assert "failed min_match_rate" in seen
    assert "Verified" not in text_of(rendered(benchmark())[PAGE])


def test_the_same_documents_give_the_same_bytes(run_python, tmp_path):
    """In another process, whose hashes and clock are others: what `--check` relies on."""
    for i, document in enumerate(ALL[:2]):
        measurements.write(document, tmp_path / f"{i}.json")
    code = f"""
from pathlib import Path
from swiftdet import comparison
folder = Path({str(tmp_path)!r})
comparison.write(folder / "there", comparison.read_sources(sorted(folder.glob("*.json"))))
"""
    run_python(code, PYTHONHASHSEED="7")
    comparison.write(tmp_path / "here", comparison.read_sources(sorted(tmp_path.glob("*.json"))))
    for name in (PAGE, MARKDOWN, CSV, "report.lock.json"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes(), name


def test_stage_bars_add_up():
    from swiftdet.comparison.stages import stage_bars

    for chart in stage_bars(rows.pair(sources(*ALL))):
        for bar in chart.bars:
            assert sum(part.share for part in bar.parts) == pytest.approx(1.0)
            assert sum(part.ms for part in bar.parts) == pytest.approx(bar.ms, rel=0.02)


def test_the_page_tells_what_was_left_out_and_what_was_disturbed():
    documents = (benchmark(runs=[run(warnings=("a loud neighbour",))]),)
    seen = text_of(rendered(*documents, skipped=["yolov7-e6e: not timed."])[PAGE])
    assert "Not everything could be measured" in seen
    assert "Not measured yolov7-e6e: not timed." in seen
    assert "The machine was disturbed while times of demo-yolov7 were taken" in seen
    assert "demo-yolov7 : a loud neighbour" in seen


def test_fields_of_columns_are_those_of_the_csv():
    for kind in (AccuracyColumn, SpeedColumn):
        assert {field.name for field in dataclasses.fields(kind)} <= set(csv_file.HEADER)


def test_a_comparison_is_written_whole_with_copies(tmp_path):
    for i, document in enumerate(ALL):
        measurements.write(document, tmp_path / f"{i}.json")
    found = comparison.read_sources(sorted(tmp_path.glob("*.json")))
    written = comparison.write(tmp_path / "out", found, title="A title")
    assert written[0] == tmp_path / "out" / PAGE
    assert "<h1>A title</h1>" in written[0].read_text()
    assert len(list((tmp_path / "out" / "results").iterdir())) == len(ALL)
    assert Path(tmp_path / "out" / "report.lock.json").is_file()
