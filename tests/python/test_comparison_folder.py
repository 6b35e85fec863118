"""A comparison's folder under `--check`: whatever is changed in it is found, and named."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comparison_documents import benchmark, evaluation, subject
from swiftdet import comparison, demo, measurements
from swiftdet.cli import main
from swiftdet.comparison import folder as folders
from swiftdet.errors import DocumentError

FILES = ("index.html", "compare.md", "compare.csv", "report.lock.json")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model's file that may be changed."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    shutil.copy(demo.weights("demo-yolov7"), path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory, model):
    """A comparison's folder, to be copied."""
    where = tmp_path_factory.mktemp("comparison")
    of = subject(file=str(model), model_sha256=folders.model_sha256(model))
    for name, document in {"val": evaluation(of=of), "bench": benchmark(of=of)}.items():
        measurements.write(document, where / f"{name}.json")
    comparison.write(where / "page", comparison.read_sources([where / "val.json", where / "bench.json"]))
    return where / "page"


@pytest.fixture
def page(made, tmp_path):
    return shutil.copytree(made, tmp_path / "page")


@pytest.fixture
def quick(monkeypatch):
    """Rendering again is for the tests that are about it."""
    monkeypatch.setattr(folders, "_renderer", lambda: {"swiftdet": "another"})


def all_files(page):
    return sorted(path for path in page.rglob("*") if path.is_file())


def test_an_untouched_folder_is_sound_wherever_it_lies(page, tmp_path, capsys):
    moved = page.rename(tmp_path / "elsewhere")
    report = comparison.check(moved)
    assert report.faults == []
    assert report.notes == []
    assert report.files == 7  # three that people read, two documents, the lock, the model
    assert main(["compare", "--check", str(moved)]) == 0
    assert "7 files are as they were" in capsys.readouterr().out


def test_the_command_on_the_page_makes_it_again(page, tmp_path, monkeypatch):
    titled = tmp_path / "titled"
    comparison.write(titled, comparison.read_sources(sorted(page.glob("results/*.json"))), title="It's ours & <new>")
    before = {path: path.read_bytes() for path in all_files(titled)}
    monkeypatch.chdir(titled)
    _, command = json.loads((titled / folders.LOCK).read_bytes())["commands"]
    words = shlex.split(command)
    pattern = words.index("results/*.json")
    words[pattern : pattern + 1] = sorted(str(path) for path in Path("results").glob("*.json"))
    assert main(words[1:]) == 0
    assert {path: path.read_bytes() for path in all_files(titled)} == before


@pytest.mark.usefixtures("quick")
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_changed_byte_anywhere_is_found_and_named(made, data):
    path = data.draw(st.sampled_from(all_files(made)))
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != content[place]))
    path.write_bytes(content[:place] + bytes([byte]) + content[place + 1 :])
    try:
        found = comparison.check(made).faults
    except DocumentError as e:  # the lock is no lock any more
        found = [str(e)]
    finally:
        path.write_bytes(content)
    assert any(path.name in fault for fault in found), found


@pytest.mark.usefixtures("quick")
def test_a_figure_that_is_edited_is_found(page, capsys):
    for path in all_files(page):
        text = path.read_text()
        changed = text.replace("65.5", "75.5", 1).replace("0.655", "0.755", 1)
        if changed == text:
            continue
        path.write_text(changed)
        assert main(["compare", "--check", str(page)]) == 1
        assert path.name in capsys.readouterr().err
        path.write_text(text)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(page, name, capsys):
    (page / name).unlink()
    assert main(["compare", "--check", str(page)]) == 1
    assert name in capsys.readouterr().err


def test_a_page_that_was_edited_together_with_its_lock_is_found(page):
    """The lock is in order then; but the documents give another page."""
    path = page / "index.html"
    path.write_text(path.read_text().replace("65.5", "75.5"))
    lock = json.loads((page / "report.lock.json").read_text())
    for entry in lock["outputs"]:
        entry["sha256"] = folders._sha256((page / entry["file"]).read_bytes())
    lock["sha256"] = measurements.content_sha256(lock)
    (page / "report.lock.json").write_bytes(folders._canonical(lock))
    assert comparison.check(page).faults == ["index.html: the documents give another content"]


@pytest.mark.usefixtures("quick")
def test_a_document_that_was_edited_together_with_the_lock_is_found(page):
    path = next((page / "results").glob("*evaluation*"))
    path.write_text(path.read_text().replace('"AP": 0.655', '"AP": 0.755', 1))
    lock = json.loads((page / "report.lock.json").read_text())
    for entry in lock["inputs"]:
        entry["sha256"] = folders._sha256((page / entry["file"]).read_bytes())
    lock["sha256"] = measurements.content_sha256(lock)
    (page / "report.lock.json").write_bytes(folders._canonical(lock))
    (fault,) = comparison.check(page).faults
    assert path.name in fault
    assert "changed after it was written" in fault


@pytest.mark.usefixtures("quick")
def test_a_model_that_changed_is_found_and_one_that_is_gone_is_told(page, model, capsys):
    content = model.read_bytes()
    model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    try:
        assert main(["compare", "--check", str(page)]) == 1
        assert f"{model}: the model changed" in capsys.readouterr().err
        model.unlink()
        assert main(["compare", "--check", str(page)]) == 0
        assert f"note: {model}: the model is not there any more" in capsys.readouterr().err
    finally:
        model.write_bytes(content)


@pytest.mark.usefixtures("quick")
def test_another_document_beside_the_others_is_told(page):
    (page / "results" / "stray.json").write_text("{}")
    report = comparison.check(page)
    assert report.faults == []
    assert any("stray.json" in note for note in report.notes)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"format": "swiftdet.comparison/2"}',
        b'{"format": "swiftdet.comparison/1", "inputs": 3}',
    ],
)
def test_a_lock_that_is_none_is_one_error(page, content, capsys):
    (page / "report.lock.json").write_bytes(content)
    assert main(["compare", "--check", str(page)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "report.lock.json" in line


def test_a_lock_leads_to_no_file_outside(page, capsys):
    lock = json.loads((page / "report.lock.json").read_text())
    lock["inputs"][0]["file"] = "results/../../secret.json"
    (page / "report.lock.json").write_text(json.dumps(lock))
    assert main(["compare", "--check", str(page)]) == 1
    assert "inputs.0.file" in capsys.readouterr().err


def test_a_folder_without_a_lock_is_one_error(tmp_path, capsys):
    assert main(["compare", "--check", str(tmp_path)]) == 1
    assert "is this a folder of `swiftdet compare`?" in capsys.readouterr().err


def test_a_name_that_is_no_text_makes_a_sound_page(tmp_path):
    measurements.write(benchmark(of=subject(model="\ud800.onnx", variant=None)), tmp_path / "b.json")
    comparison.write(tmp_path / "page", comparison.read_sources([tmp_path / "b.json"]), title="\udfff")
    assert comparison.check(tmp_path / "page").faults == []


def test_comparing_again_from_the_copies_changes_nothing(page):
    before = {path.name: path.read_bytes() for path in all_files(page)}
    lock = json.loads((page / "report.lock.json").read_text())
    copies = [page / entry["file"] for entry in lock["inputs"]]
    comparison.write(page, comparison.read_sources(copies))
    assert {path.name: path.read_bytes() for path in all_files(page)} == before
