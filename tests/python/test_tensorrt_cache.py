"""Engines on disk: verified before anyone uses them, built once however many ask, and managed by `swiftdet cache`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import stat
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftdet import model as models
from swiftdet.cli import main
from swiftdet.cuda_devices import CudaDevice
from swiftdet.engines.signature import Port, Signature
from swiftdet.engines.tensorrt.cache import EngineCache, EngineKey
from swiftdet.engines.tensorrt.plan_files import Manifest, manifest_path, read_plan, write_plan
from swiftdet.errors import BackendUnavailable, InvalidArgument, ModelError
from swiftdet.spec import Head, ModelSpec, Preprocess

SPEC = ModelSpec(
    family="ultralytics",
    names=("cat", "dog"),
    imgsz=(64, 96),
    stride=32,
    preprocess=Preprocess(),
    head=Head(layout="columns", num_classes=2, outputs=("output0",)),
)
KEY = EngineKey(
    graph_sha256="0" * 64,
    precision="fp16",
    shapes=((1, 3, 64, 96), (1, 3, 64, 96), (8, 3, 64, 96)),
    workspace_bytes=0,
    tensorrt="10.16.1.11",
    gpu="NVIDIA T4",
    sm="sm_75",
    driver="580",
)
PLAN = bytes(range(256)) * 40


def manifest(plan: bytes = PLAN, **changes) -> Manifest:
    made = Manifest(
        spec=SPEC,
        model="cat.onnx",
        graph_sha256="0" * 64,
        plan_sha256=hashlib.sha256(plan).hexdigest(),
        plan_bytes=len(plan),
        precision="fp16",
        shapes=KEY.shapes,
        tensorrt=KEY.tensorrt,
        gpu=KEY.gpu,
        sm=KEY.sm,
        driver=KEY.driver,
        created="2026-11-23T12:00:00+00:00",
        swiftdet="0.1.0",
    )
    return dataclasses.replace(made, **changes)


def build():
    return PLAN, manifest()


def never():
    raise AssertionError("built although it was there")


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "cat.engine"
    write_plan(path, PLAN, manifest())
    return path


# --- plans and manifests --------------------------------------------------------------------------------------------


def test_what_is_written_is_read(engine):
    plan = read_plan(engine)
    assert plan.data == PLAN
    assert plan.manifest == manifest()
    assert plan.sha256 == hashlib.sha256(engine.read_bytes()).hexdigest()
    assert sorted(path.name for path in engine.parent.iterdir()) == ["cat.engine", "cat.engine.json"]


@given(position=st.integers(0, len(PLAN) - 1), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(tmp_path_factory, position, bit):
    path = tmp_path_factory.mktemp("plan") / "cat.engine"
    write_plan(path, PLAN, manifest())
    damaged = bytearray(PLAN)
    damaged[position] ^= 1 << bit
    path.write_bytes(damaged)
    with pytest.raises(ModelError, match="damaged or was replaced"):
        read_plan(path, trust_plan=True)  # trust is about origin, not about damage


@pytest.mark.parametrize("length", [0, 1, len(PLAN) - 1, len(PLAN) + 1])
def test_another_length_is_found(engine, length):
    engine.write_bytes((PLAN + b"x")[:length])
    with pytest.raises(ModelError, match=f"{length} bytes"):
        read_plan(engine)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(format="swiftdet.engine/9"), "expected 'swiftdet.engine/1'"),
        (lambda d: d.pop("plan_sha256"), "plan_sha256"),
        (lambda d: d.update(extra=1), "extra"),
        (lambda d: d.update(plan_bytes="many"), "plan_bytes: expected int, got 'many'"),
        (lambda d: d.update(plan_bytes=True), "plan_bytes"),
        (lambda d: d.update(shapes=[[1, 3, 64, 96]]), "shapes"),
        (lambda d: d.update(shapes=[[1, 3, 64, 0]] * 3), "shapes"),
        (lambda d: d.update(gpu="\x1b[2J"), "gpu"),
        (lambda d: d["spec"].update(names=["cat"]), "1 class names for a head of 2"),
        (lambda d: d.update(spec="cat"), "spec"),
    ],
)
def test_a_manifest_that_is_none_is_refused(engine, change, words):
    document = json.loads(manifest_path(engine).read_text())
    change(document)
    manifest_path(engine).write_text(json.dumps(document))
    with pytest.raises(ModelError, match=words):
        read_plan(engine, trust_plan=True)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b" " * (9 << 20)], ids=lambda b: repr(b[:3])
)
def test_a_manifest_that_is_no_document_is_refused(engine, text):
    manifest_path(engine).write_bytes(text)
    with pytest.raises(ModelError, match="manifest"):
        read_plan(engine)


def test_a_plan_without_a_manifest_needs_trust(engine):
    manifest_path(engine).unlink()
    with pytest.raises(ModelError, match=r"no manifest \(cat\.engine\.json\).*trust_plan=True"):
        read_plan(engine)
    plan = read_plan(engine, trust_plan=True)
    assert (plan.data, plan.manifest, plan.metadata) == (PLAN, None, {})


def test_the_header_of_ultralytics_is_taken_off(tmp_path):
    header = json.dumps({"names": {"0": "cat", "1": "dog"}, "imgsz": [64, 96], "stride": 32, "task": "detect"}).encode()
    path = tmp_path / "yolo.engine"
    path.write_bytes(len(header).to_bytes(4, "little") + header + PLAN)
    plan = read_plan(path, trust_plan=True)
    assert plan.data == PLAN
    assert plan.metadata["stride"] == 32
    assert plan.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("start", [b"", b"\x05", b"\xff\xff\xff\xff{", b"\x03\x00\x00\x00{x}", b"\x02\x00\x00\x00[]"])
def test_what_only_looks_like_a_header_stays(tmp_path, start):
    path = tmp_path / "yolo.engine"
    path.write_bytes(start + PLAN)
    assert read_plan(path, trust_plan=True).data == start + PLAN


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"tensorrt": "10.16.1.99"}, ""),  # the build number does not matter
        ({"tensorrt": "10.14.1"}, r"built by TensorRT 10\.14\.1, here is 10\.16\.1"),
        ({"tensorrt": "11.4.0"}, "here is"),
        ({"sm": "sm_86", "gpu": "NVIDIA A10"}, r"built for sm_86 \(NVIDIA A10\); NVIDIA T4 is sm_75"),
    ],
)
def test_where_an_engine_runs(changes, words):
    t4, made = CudaDevice(0, "NVIDIA T4", (7, 5), 15 << 30), manifest(**changes)
    if not words:
        made.check_runs_on(t4, "10.16.1")
        return
    with pytest.raises(ModelError, match=words):
        made.check_runs_on(t4, "10.16.1")


# --- engines as models ----------------------------------------------------------------------------------------------


def test_an_engine_describes_itself(engine, capsys):
    loaded = models.load(engine)
    assert loaded.spec == SPEC
    assert loaded.plan.data == PLAN
    assert (loaded.input_shape, loaded.dynamic_batch, loaded.dynamic_size) == ((1, 3, 64, 96), True, False)
    with pytest.raises(InvalidArgument, match="built for 64x96; build another"):
        models.load(engine, imgsz=128)
    with pytest.raises(ModelError, match="describes itself as 'ultralytics'"):
        models.load(engine, family="yolov7")
    assert main(["models", str(engine), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["format"], document["bytes"]) == ("tensorrt", len(PLAN))


def test_an_engine_for_a_range_of_sizes(tmp_path):
    path = tmp_path / "range.engine"
    write_plan(path, PLAN, manifest(shapes=((1, 3, 32, 32), (1, 3, 64, 96), (1, 3, 128, 128))))
    loaded = models.load(path)
    assert (loaded.input_shape, loaded.dynamic_batch, loaded.dynamic_size) == ((1, 3, 64, 96), False, True)
    other = models.load(path, imgsz=128)
    assert (other.spec.imgsz, other.input_shape) == ((128, 128), (1, 3, 128, 128))
    with pytest.raises(InvalidArgument, match="multiples of"):
        models.load(path, imgsz=100)


def test_a_trusted_engine_is_recognised_by_its_ports(tmp_path):
    header = json.dumps({"names": {"0": "cat", "1": "dog"}, "imgsz": [64, 96], "stride": 32, "task": "detect"}).encode()
    path = tmp_path / "yolo.engine"
    path.write_bytes(len(header).to_bytes(4, "little") + header + PLAN)
    ports = Signature((Port("images", (-1, 3, 64, 96)),), (Port("output0", (-1, 6, 126)),))
    loaded = models.load(path, trust_plan=True, inspect_plan=lambda _plan, _size: ports)
    assert (loaded.spec.head.layout, loaded.spec.names, loaded.spec.imgsz) == ("columns", ("cat", "dog"), (64, 96))
    assert (loaded.input_shape, loaded.dynamic_batch) == ((1, 3, 64, 96), True)
    assert loaded.spec.source.startswith("inferred")
    with pytest.raises(BackendUnavailable, match="only TensorRT can tell"):
        models.load(path, trust_plan=True)
    odd = Signature((Port("images", (1, 64, 96, 3)),), ports.outputs)
    with pytest.raises(ModelError, match=r"no image \[N, 3, H, W\]"):
        models.load(path, trust_plan=True, inspect_plan=lambda _plan, _size: odd)


# --- the cache ------------------------------------------------------------------------------------------------------


def test_an_engine_is_built_once(tmp_path, caplog):
    caplog.set_level("INFO", logger="swiftdet.cache")
    cache = EngineCache(tmp_path)
    assert cache.get_or_build(KEY, build).data == PLAN
    assert caplog.text.count("building an engine for NVIDIA T4") == 1
    again = EngineCache(tmp_path).get_or_build(KEY, never)
    assert (again.data, again.manifest) == (PLAN, manifest())
    assert caplog.text.count("building an engine for NVIDIA T4") == 1
    assert [entry.digest for entry in cache.entries()] == [KEY.digest()]


@pytest.mark.parametrize(
    "change",
    [
        {"graph_sha256": "1" * 64},
        {"precision": "fp32"},
        {"shapes": ((1, 3, 64, 96), (2, 3, 64, 96), (8, 3, 64, 96))},
        {"workspace_bytes": 1},
        {"tensorrt": "10.16.1.12"},
        {"gpu": "NVIDIA T4G"},
        {"sm": "sm_86"},
        {"driver": "590"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_in_the_key_matters(change):
    assert set(change) <= {field.name for field in dataclasses.fields(EngineKey)}
    assert dataclasses.replace(KEY, **change).digest() != KEY.digest()
    assert dataclasses.replace(KEY).digest() == KEY.digest()


def test_a_build_that_fails_keeps_nothing(tmp_path):
    cache = EngineCache(tmp_path)

    def fail():
        raise ModelError("no")

    with pytest.raises(ModelError, match=r"^no$"):
        cache.get_or_build(KEY, fail)
    assert cache.entries() == []
    assert cache.get_or_build(KEY, build).data == PLAN


@pytest.mark.parametrize("damage", ["plan", "manifest", "no manifest", "no plan"])
def test_a_damaged_entry_is_told_and_built_again(tmp_path, caplog, damage):
    cache = EngineCache(tmp_path)
    path = cache.get_or_build(KEY, build).path
    if damage == "plan":
        path.write_bytes(PLAN[::-1])
    elif damage == "manifest":
        manifest_path(path).write_text("{")
    elif damage == "no manifest":
        manifest_path(path).unlink()
    else:
        path.unlink()
    assert [bool(entry.problem) for entry in cache.verify()] == [True]
    assert cache.get_or_build(KEY, build).data == PLAN
    assert [entry.problem for entry in cache.verify()] == [""]
    assert ("it is built again" in caplog.text) == (damage in {"plan", "manifest"})


def test_threads_that_ask_at_once_build_once(tmp_path):
    cache, built, barrier, found = EngineCache(tmp_path), [], threading.Barrier(8), []

    def slowly():
        built.append(1)
        time.sleep(0.2)
        return build()

    def ask():
        barrier.wait()
        found.append(cache.get_or_build(KEY, slowly).data)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [PLAN] * 8
    assert len(built) == 1


def _ask_in_a_process(folder, barrier, log):
    def slowly():
        with Path(log).open("a") as file:
            file.write("built\n")
        time.sleep(0.3)
        return build()

    barrier.wait()
    assert EngineCache(Path(folder)).get_or_build(KEY, slowly).data == PLAN


def test_processes_that_ask_at_once_build_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, log = context.Barrier(3), tmp_path / "log"
    processes = [context.Process(target=_ask_in_a_process, args=(str(tmp_path), barrier, str(log))) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert log.read_text() == "built\n"


def _die_while_building(folder):
    EngineCache(Path(folder)).get_or_build(KEY, lambda: os._exit(9))


def test_a_builder_that_died_blocks_nobody(tmp_path):
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_die_while_building, args=(str(tmp_path),))
    process.start()
    process.join(120)
    assert process.exitcode == 9
    assert EngineCache(tmp_path).get_or_build(KEY, build).data == PLAN


def test_the_folder_is_private_and_must_stay_so(tmp_path):
    cache = EngineCache(tmp_path)
    cache.get_or_build(KEY, build)
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    cache.folder.chmod(0o777)
    with pytest.raises(InvalidArgument, match=r"drwxrwxrwx; engines are machine code"):
        cache.get_or_build(KEY, never)


def test_a_reader_never_sees_half_an_engine(tmp_path):
    """While one writes again and again, others read a whole engine or none."""
    path, stop, seen, refusals = tmp_path / "cat.engine", threading.Event(), [], []
    plans = [bytes([value]) * 200_000 for value in (1, 2)]

    def write():
        for turn in range(60):
            write_plan(path, plans[turn % 2], manifest(plans[turn % 2]))
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not stop.is_set():
        try:
            seen.append(read_plan(path).data)
        except ModelError as e:
            refusals.append(str(e))
    writer.join()
    assert all(data in plans for data in seen)
    assert all("no manifest" in words or "damaged or was replaced" in words for words in refusals)
    assert read_plan(path).data == plans[1]


# --- swiftdet cache ---------------------------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A cache with two engines, at SWIFTDET_CACHE_DIR."""
    monkeypatch.setenv("SWIFTDET_CACHE_DIR", str(tmp_path))
    cache = EngineCache(tmp_path)
    cache.get_or_build(KEY, build)
    cache.get_or_build(dataclasses.replace(KEY, sm="sm_86"), lambda: (PLAN, manifest(gpu="NVIDIA A10", sm="sm_86")))
    return cache


def test_ls(kept, capsys):
    assert main(["cache", "ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"2 engines, 0.0 MB in {kept.folder}"
    (row,) = [line for line in lines if KEY.digest()[:12] in line]
    assert row.split() == [
        KEY.digest()[:12], "cat.onnx", "fp16", "64x96", "1-8", "NVIDIA", "T4", "sm_75", "10.16.1.11", "0.0",
        "2026-11-23", "ok",
    ]  # fmt: skip
    assert main(["cache", "ls", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["format"] == "swiftdet.cache/1"
    assert sorted(row["digest"] for row in document["engines"]) == sorted(e.digest for e in kept.entries())
    assert {row["manifest"]["sm"] for row in document["engines"]} == {"sm_75", "sm_86"}


def test_verify_finds_what_ls_does_not(kept, capsys):
    assert main(["cache", "verify"]) == 0
    kept.find(KEY.digest()[:8]).path.write_bytes(PLAN[::-1])  # of the same length
    capsys.readouterr()
    assert main(["cache", "ls", "--json"]) == 0
    assert [row["problem"] for row in json.loads(capsys.readouterr().out)["engines"]] == [None, None]
    assert main(["cache", "verify", "--json"]) == 1
    problems = {row["digest"]: row["problem"] for row in json.loads(capsys.readouterr().out)["engines"]}
    assert "damaged or was replaced" in problems.pop(KEY.digest())
    assert list(problems.values()) == [None]
    assert main(["cache", "rm", "--damaged"]) == 0
    assert "removed 1 engine," in capsys.readouterr().out
    assert [entry.manifest.sm for entry in kept.entries()] == ["sm_86"]


def test_rm(kept, capsys):
    assert main(["cache", "rm", KEY.digest()[:8], "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["removed"] == [KEY.digest()]
    assert document["freed_bytes"] > len(PLAN)
    assert len(kept.entries()) == 1
    assert main(["cache", "rm", "all=true"]) == 0
    assert kept.entries() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name engines, or pass --all or --damaged"),
        (["abc"], "it is too short"),
        (["zzzz"], "0 engines begin so"),
        (["every"], "0 engines begin so"),
    ],
)
def test_rm_wants_to_know_which(kept, capsys, arguments, words):
    assert main(["cache", "rm", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert len(kept.entries()) == 2


def test_an_empty_cache(tmp_path, capsys):
    assert main(["cache", "ls", "--cache-dir", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out.startswith("0 engines, 0.0 MB")
    assert main(["cache", "verify", "--cache-dir", str(tmp_path / "none")]) == 0
    assert not (tmp_path / "none").exists()
