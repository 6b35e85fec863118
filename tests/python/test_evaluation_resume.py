"""An interrupted evaluation goes on where it was, with the same result; and one holds a bounded number of images."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest
from PIL import Image

import swiftdet
from swiftdet import demo, images
from swiftdet.errors import ImageError, InvalidArgument
from swiftdet.evaluation import partial_file, running
from swiftdet.evaluation.dataset import survey
from swiftdet.evaluation.predictions import ImagePredictions

IMAGES = 24
STOP = 7


@pytest.fixture(scope="module")
def detector():
    with swiftdet.Detector("demo-yolov7", performance="throughput") as opened:
        yield opened


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The first images of the bundled sample."""
    whole = json.loads(demo.dataset().annotations.read_text())
    chosen = whole["images"][:IMAGES]
    ids = {image["id"] for image in chosen}
    path = tmp_path_factory.mktemp("sample") / "val.json"
    rows = [row for row in whole["annotations"] if row["image_id"] in ids]
    path.write_text(json.dumps({**whole, "images": chosen, "annotations": rows}))
    return demo.dataset().images, path


@pytest.fixture(scope="module")
def whole(detector, sample):
    """The result of an evaluation that nothing interrupts."""
    return swiftdet.evaluate(detector, *sample)


def result(report):
    """Everything measured but the time that it took."""
    measured = report.to_dict()["measured"]
    return {
        key: value for key, value in measured.items() if key not in {"duration_s", "images_per_s", "resumed_images"}
    }


def interrupted(detector, sample, folder, *, after=STOP, **options):
    """Begins an evaluation and interrupts it; the lines that it leaves."""

    def stop(done, total):
        if done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        swiftdet.evaluate(detector, *sample, save_dir=folder, on_progress=stop, **options)
    return (folder / "unfinished.jsonl").read_bytes().splitlines(keepends=True)


# -- as many at a time as are promised, and the same as one by one --------------------------------------------------


@pytest.mark.parametrize("protocol", ["yolov7", "yolov7-fixed"])
def test_images_in_flight_give_what_they_give_one_by_one(detector, sample, protocol):
    report = swiftdet.evaluate(detector, *sample, protocol=protocol)
    chosen = report.protocol
    todo = running.jobs(report.dataset.entries, survey(report.dataset).sizes, chosen, detector)
    rows = []
    for job in sorted(todo, key=lambda job: job.entry.image_id):
        found = detector(
            job.image, conf=chosen.conf, iou=chosen.iou, max_det=chosen.max_det, multi_label=True, **job.options
        )
        boxes = found.xyxy if job.to_source is None else job.to_source(found.xyxy)
        rows += [
            {
                "image_id": job.entry.image_id,
                "category_id": cls + 1,
                "bbox": [round(side, 3) for side in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(score, 5),
            }
            for (x1, y1, x2, y2), cls, score in zip(
                boxes.tolist(), found.cls.tolist(), found.conf.tolist(), strict=True
            )
        ]
    assert list(report.predictions) == rows
    assert len(rows) > 10 * IMAGES


def test_a_second_run_gives_the_same(detector, sample, whole):
    assert result(swiftdet.evaluate(detector, *sample)) == result(whole)


def test_only_so_many_images_are_in_memory(detector, tmp_path, monkeypatch):
    """However slow the caller: here it stands still until nothing more comes."""
    count = 3 * running.IMAGES_AT_ONCE
    rows = []
    for number in range(count):
        Image.fromarray(np.full((40, 60, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
        rows.append({"id": number + 1, "file_name": f"{number}.png"})
    truth = {"images": rows, "annotations": [], "categories": [{"id": 1, "name": "balloon"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))

    alive, loaded, most = [], 0, 0
    real_load = images.load

    def watched_load(source, **options):
        nonlocal loaded, most
        image = real_load(source, **options)
        alive.append(weakref.ref(image.pixels))
        loaded += 1
        most = max(most, sum(one() is not None for one in alive))
        return image

    def stand_still(done, total):
        seen = -1
        while done % 20 == 1 and seen != loaded:
            seen = loaded
            time.sleep(0.1)
        assert loaded <= done + running.IMAGES_AT_ONCE

    monkeypatch.setattr(images, "load", watched_load)
    report = swiftdet.evaluate(
        detector, tmp_path, tmp_path / "truth.json", protocol="yolov7-fixed", on_progress=stand_still
    )
    assert report.images == loaded == count
    assert 2 <= most <= running.IMAGES_AT_ONCE + 1


# -- the file ----------------------------------------------------------------------------------------------------------


SETTINGS = {"model_sha256": "0" * 64, "imgsz": [64, 64]}
TABLE = np.array([[3.0, 1.5, 2.25, 10.0, 1e-7, 0.1], [1.0, 0.0, 0.0, 1 / 3, 9.0, 0.05]])


def opened(folder, *, settings=SETTINGS, **options):
    """The file of a data set of images 1 to 9 and categories 1 to 3."""
    given = {"image_ids": range(1, 10), "categories": (1, 2, 3), "restart": False, **options}
    return partial_file.PartialFile(folder, settings, **given)


@pytest.fixture
def left_behind(tmp_path):
    """A file with the predictions of five images; its lines."""
    with opened(tmp_path) as kept:
        for image_id in (4, 2, 7, 1, 9):
            kept.add(image_id, ImagePredictions(TABLE[: image_id % 3], image_id))
    return (tmp_path / partial_file.NAME).read_bytes().splitlines(keepends=True)


@pytest.mark.usefixtures("left_behind")
def test_predictions_come_back_bit_for_bit(tmp_path):
    with opened(tmp_path) as kept:
        assert list(kept.found) == [4, 2, 7, 1, 9]
        for image_id, one in kept.found.items():
            assert np.array_equal(one.table, TABLE[: image_id % 3])
            assert one.truncated == image_id


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line[: len(line) // 2],
        lambda line: line[-1:],
        lambda line: b"[" + line.rstrip() + b"]\n",
        lambda line: line.replace(b"[[3.0", b"[[NaN"),
        lambda line: line.replace(b"[[3.0", b'[["3.0"'),
        lambda line: line.replace(b"[[3.0", b"[[9.0"),  # no category of the data set
        lambda line: line.replace(b"[[3.0", b"[[3.0, 3.0"),
        lambda line: line.replace(b": 7", b": 99"),  # no image of it
        lambda line: line.replace(b": 7", b": 4"),  # one that was there
        lambda line: line.replace(b": 7", b": [7]"),
        lambda line: line.replace(b'"rows"', b'"row"'),
        lambda line: b"[" * 100_000 + line,
    ],
)
def test_what_is_damaged_is_done_again(tmp_path, left_behind, damage):
    """A line that cannot be what was written ends what is taken over; what comes behind it is not trusted either."""
    damaged = damage(left_behind[3])
    assert damaged != left_behind[3]
    path = tmp_path / partial_file.NAME
    path.write_bytes(b"".join([*left_behind[:3], damaged, *left_behind[4:]]))
    with opened(tmp_path) as kept:
        assert list(kept.found) == [4, 2]
        kept.add(7, ImagePredictions(TABLE[:1], 7))
    assert path.read_bytes().splitlines(keepends=True) == left_behind[:4]


def test_a_file_of_other_settings_says_which(tmp_path, left_behind):
    with pytest.raises(InvalidArgument, match=r"something else \(other engine, imgsz\); finish that one"):
        opened(tmp_path, settings={**SETTINGS, "imgsz": [32, 32], "engine": "x"})
    assert (tmp_path / partial_file.NAME).read_bytes() == b"".join(left_behind)
    with opened(tmp_path, settings={}, restart=True) as kept:
        assert not kept.found


def test_a_folder_is_for_one_evaluation_at_a_time(tmp_path):
    with opened(tmp_path), pytest.raises(InvalidArgument, match="another evaluation writes to this folder"):
        opened(tmp_path, restart=True)
    with opened(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"my notes\n", b"{}\n", b"no end of line", b'{"format": "x"}\n'])
def test_a_file_of_that_name_that_is_not_ours_stays(tmp_path, content):
    path = tmp_path / partial_file.NAME
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match="is no unfinished evaluation of this version"):
        opened(tmp_path)
    assert path.read_bytes() == content


# -- the evaluation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["auto", "yolov7-fixed"])
def test_an_interrupted_evaluation_goes_on(detector, sample, tmp_path, protocol):
    expected = result(swiftdet.evaluate(detector, *sample, protocol=protocol))
    lines = interrupted(detector, sample, tmp_path, protocol=protocol)
    assert len(lines) == 1 + STOP
    calls = []
    report = swiftdet.evaluate(
        detector, *sample, save_dir=tmp_path, protocol=protocol, on_progress=lambda *call: calls.append(call)
    )
    assert calls == [(done, IMAGES) for done in range(STOP, IMAGES + 1)]
    assert report.resumed_images == STOP
    assert result(report) == expected
    assert not (tmp_path / "unfinished.jsonl").exists()
    saved = swiftdet.measurements.read(tmp_path / "report.json")["measured"]
    assert saved["predictions"] == {**expected["predictions"], "file": "predictions.json"}


def test_twice_interrupted_and_once_in_the_middle_of_a_line(detector, sample, whole, tmp_path):
    lines = interrupted(detector, sample, tmp_path)
    (tmp_path / "unfinished.jsonl").write_bytes(b"".join(lines)[:-20])
    assert interrupted(detector, sample, tmp_path, after=IMAGES)[:STOP] == lines[:STOP]
    report = swiftdet.evaluate(detector, *sample, save_dir=tmp_path)
    assert (report.resumed_images, report.images_per_s) == (IMAGES, None)
    assert result(report) == result(whole)


def test_other_settings_do_not_go_on_from_there(detector, sample, whole, tmp_path):
    lines = interrupted(detector, sample, tmp_path, protocol="yolov7-fixed")
    with pytest.raises(InvalidArgument, match=r"unfinished evaluation of something else \(other protocol\)"):
        swiftdet.evaluate(detector, *sample, save_dir=tmp_path)
    assert (tmp_path / "unfinished.jsonl").read_bytes() == b"".join(lines)
    report = swiftdet.evaluate(detector, *sample, save_dir=tmp_path, restart=True)
    assert report.resumed_images == 0
    assert result(report) == result(whole)


def test_another_model_or_data_set_does_not_go_on_from_there(detector, sample, tmp_path):
    interrupted(detector, sample, tmp_path)
    with (
        swiftdet.Detector("demo-damo-yolo") as other,
        pytest.raises(InvalidArgument, match=r"other .*family, .*model_sha256"),
    ):
        swiftdet.evaluate(other, *sample, save_dir=tmp_path)
    with pytest.raises(InvalidArgument, match=r"\(other annotations, images\)"):
        swiftdet.evaluate(detector, *demo.dataset(), save_dir=tmp_path)
    with (
        swiftdet.Detector("demo-yolov7", imgsz=192, performance="throughput") as other,
        pytest.raises(InvalidArgument, match=r"\(other imgsz\)"),
    ):
        swiftdet.evaluate(other, *sample, save_dir=tmp_path)


def test_an_image_that_cannot_be_read_loses_nothing_before_it(detector, sample, tmp_path):
    """An error ends an evaluation as an interruption does."""
    whole = json.loads(sample[1].read_text())
    folder = tmp_path / "images"
    folder.mkdir()
    for image in whole["images"]:
        (folder / image["file_name"]).write_bytes((sample[0] / image["file_name"]).read_bytes())
    bad = folder / whole["images"][20]["file_name"]
    good = bad.read_bytes()
    bad.write_bytes(good[:-2000])
    with pytest.raises(ImageError, match=bad.name):
        swiftdet.evaluate(detector, folder, sample[1], save_dir=tmp_path / "out", protocol="yolov7-fixed")
    lines = (tmp_path / "out" / "unfinished.jsonl").read_bytes().splitlines()
    assert len(lines) == 21
    # Other files are another data set, so that nothing of the damaged one is taken over.
    bad.write_bytes(good)
    with pytest.raises(InvalidArgument, match=r"\(other images\)"):
        swiftdet.evaluate(detector, folder, sample[1], save_dir=tmp_path / "out", protocol="yolov7-fixed")


@pytest.mark.parametrize("name", ["SIGINT", pytest.param("SIGKILL", marks=pytest.mark.slow)])
def test_a_process_that_is_ended_goes_on(tmp_path, name):
    arguments = ["val", "--model", "demo-yolov7", "--protocol", "yolov7-fixed", "--save-dir", str(tmp_path), "--json"]
    command = [sys.executable, "-m", "swiftdet", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
    path = tmp_path / "unfinished.jsonl"
    end = time.monotonic() + 60
    while not (path.exists() and path.read_bytes().count(b"\n") > 5):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(getattr(signal, name))
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == (130 if name == "SIGINT" else -signal.SIGKILL), stderr
    left = path.read_bytes().count(b"\n") - 1
    assert 5 <= left < 100
    done = subprocess.run(command, capture_output=True, check=True)
    measured = json.loads(done.stdout)["measured"]
    assert measured["resumed_images"] == left
    with swiftdet.Detector("demo-yolov7", performance="throughput") as detector:
        again = swiftdet.evaluate(detector, *demo.dataset(), protocol="yolov7-fixed")
    assert measured["scores"] == again.scores
    assert measured["predictions"]["sha256"] == again.predictions.sha256()
