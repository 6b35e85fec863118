"""Building engines with TensorRT 10 and 11: one code path, against a fake of each; the real builder of TensorRT for RTX
is in test_zoo_tensorrt.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn

from fake_tensorrt import FakeTensorRT
from swiftdet import cuda_devices, zoo
from swiftdet import model as models
from swiftdet.cli import main
from swiftdet.cli.progress import BuildBars
from swiftdet.cuda_devices import CudaDevice, CudaDriver
from swiftdet.engines.tensorrt import engines, library
from swiftdet.engines.tensorrt.building import build_plan
from swiftdet.engines.tensorrt.cache import EngineCache
from swiftdet.engines.tensorrt.options import Batches, BuildOptions
from swiftdet.engines.tensorrt.plan_files import read_plan
from swiftdet.errors import BackendError, BackendUnavailable, InvalidArgument, InvalidType, ModelError

T4 = CudaDevice(0, "NVIDIA T4", (7, 5), 15 << 30)
OLD = CudaDevice(1, "Tesla P4", (6, 1), 8 << 30)
DRIVER = CudaDriver((13, 0), "580.65.06", (T4, OLD))
OPTIONS = BuildOptions(precision="fp32", batches=Batches(1, 2, 4), size=(64, 64))


@pytest.fixture(params=["10.16.1.11", "11.4.0.106"])
def trt(request, monkeypatch):
    fake = FakeTensorRT(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    return fake


@pytest.fixture
def gpu(monkeypatch):
    """A T4 and a GPU that is too old; which one was current during a build."""
    used = []

    @contextlib.contextmanager
    def current(index):
        used.append(index)
        yield

    monkeypatch.setattr(cuda_devices, "driver", lambda: DRIVER)
    monkeypatch.setattr(cuda_devices, "current", current)
    return used


def conv_model(batch: int | str = "n", *, op: str = "Relu", inputs: int = 1, kind: int = TensorProto.FLOAT) -> bytes:
    dims = [batch, 3, 64, 64]
    names = [f"images{i or ''}" for i in range(inputs)]
    weight = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")
    nodes = [
        helper.make_node("Conv", [names[0], "w"], ["mid"], name="conv"),
        helper.make_node(op, ["mid"], ["out"], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in names],
        [helper.make_tensor_value_info("out", kind, None)],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


# --- the builder ----------------------------------------------------------------------------------------------------


def test_a_profile_and_no_tf32(trt):
    plan = build_plan(trt, conv_model(), dataclasses.replace(OPTIONS, workspace_bytes=1 << 28))
    assert plan.startswith(b"plan of " + trt.__version__.encode())
    (built,) = trt.builds
    assert built["shapes"] == [{"images": ((1, 3, 64, 64), (2, 3, 64, 64), (4, 3, 64, 64))}]
    assert "TF32" not in built["flags"]
    assert built["pools"] == {"WORKSPACE": 1 << 28}


def test_half_precision_leaves_tf32_alone_and_sets_no_flag(trt):
    build_plan(trt, conv_model(), dataclasses.replace(OPTIONS, precision="fp16"))
    assert trt.builds[0]["flags"] == {"TF32"}  # for what the graph leaves in float32
    assert trt.builds[0]["pools"] == {}


def test_a_fixed_input_needs_no_profile(trt):
    build_plan(trt, conv_model(2), dataclasses.replace(OPTIONS, batches=Batches(2, 2, 2)))
    assert trt.builds[0]["shapes"] == []


def test_a_fixed_input_of_another_shape_is_refused(trt):
    with pytest.raises(InvalidArgument, match=r"'images' is \[2, 3, 64, 64\]; it cannot take 1x3x64x64 to 4x3x64x64"):
        build_plan(trt, conv_model(2), OPTIONS)
    with pytest.raises(InvalidArgument, match="cannot take"):
        build_plan(trt, conv_model(), dataclasses.replace(OPTIONS, size=(64, 96)))
    assert trt.builds == []


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (conv_model(op="NoSuchOp"), r"parser refuses the graph: NoSuchOp last: no importer for it$"),
        (conv_model(op="EfficientNMS_TRT"), r"1 plugins \(last\)"),
        (conv_model(inputs=2), r"expected one input, the image; the graph has 2 \(images, images1\)"),
        (conv_model(kind=TensorProto.FLOAT16), r"'out' is DataType\.HALF"),
    ],
)
def test_graphs_that_are_no_detectors_are_refused(trt, model, words):
    with pytest.raises(ModelError, match=words):
        build_plan(trt, model, OPTIONS)


def test_a_refusal_carries_the_builders_own_words_once(trt):
    trt.fails = "Could not find any implementation\nfor node {ForeignNode}"
    with pytest.raises(BackendError, match=r"built no engine: Could not find any implementation for node"):
        build_plan(trt, conv_model(), OPTIONS)
    trt.fails = "something else"
    with pytest.raises(BackendError, match=r"built no engine: something else$"):
        build_plan(trt, conv_model(), OPTIONS)


class Listener:
    def __init__(self, *, answer=True, error=None):
        self.heard, self.answer, self.error = [], answer, error

    def start(self, phase, parent, steps):
        self.heard.append(("start", phase, parent, steps))

    def step(self, phase, done):
        self.heard.append(("step", phase, done))
        if self.error:
            raise self.error
        return self.answer

    def finish(self, phase):
        self.heard.append(("finish", phase))


def test_progress_is_heard_in_order(trt):
    listener = Listener()
    build_plan(trt, conv_model(), OPTIONS, progress=listener)
    assert listener.heard == [
        ("start", "Building engine", None, 2),
        ("start", "Timing", "Building engine", 1),
        ("step", "Timing", 1),
        ("finish", "Timing"),
        ("step", "Building engine", 1),
        ("step", "Building engine", 2),
        ("finish", "Building engine"),
    ]


def test_a_listener_may_stop_a_build_but_not_break_it(trt, caplog):
    with pytest.raises(BackendError, match="it was stopped"):
        build_plan(trt, conv_model(), OPTIONS, progress=Listener(answer=False))
    build_plan(trt, conv_model(), OPTIONS, progress=Listener(error=RuntimeError("no terminal")))
    assert len(trt.builds) == 1
    assert "showing the progress of a build failed" in caplog.text


def test_an_interruption_stops_the_build_and_is_raised_after_it(trt):
    listener = Listener(error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        build_plan(trt, conv_model(), OPTIONS, progress=listener)
    assert trt.builds == []
    assert listener.heard[-1] == ("finish", "Building engine")  # it was told to the end


def test_bars_of_a_build(trt):
    """One for each open phase, indented under its parent, taken away at its end."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100, highlight=False)
    with Progress(TextColumn("{task.description}"), MofNCompleteColumn(), console=console, auto_refresh=False) as bars:
        build = BuildBars(bars)
        build.start("Building engine", None, 2)
        build.start("Timing", "Building engine", 3)
        assert build.step("Timing", 1) is True
        assert [(task.description, task.completed, task.total) for task in bars.tasks] == [
            ("Building engine", 0, 2),
            ("  Timing", 1, 3),
        ]
        build.finish("Timing")
        build.step("Timing", 2)  # late news of a phase that is over
        build.finish("never started")
        assert [task.description for task in bars.tasks] == ["Building engine"]
    build_plan(trt, conv_model(), OPTIONS, progress=BuildBars(None))  # no terminal
    assert len(trt.builds) == 1


def test_messages_reach_logging(trt, caplog):
    trt.fails = "out of ideas"
    with pytest.raises(BackendError):
        build_plan(trt, conv_model(), OPTIONS)
    assert ("swiftdet.tensorrt", 40, "out of ideas") in caplog.record_tuples


def test_timings_are_kept_and_joined_with_those_of_others(trt, tmp_path):
    path = tmp_path / "new" / "timings.cache"
    options = dataclasses.replace(OPTIONS, timing_cache=path)
    build_plan(trt, conv_model(), options)
    first = path.read_bytes()

    def meanwhile(_config):
        path.write_bytes(first + b" of-a-neighbour")

    build_plan(trt, conv_model(op="Sigmoid"), options, configure=meanwhile)
    assert set(first.split()) | {b"of-a-neighbour"} < set(path.read_bytes().split())
    assert len(path.read_bytes().split()) == 3


def test_timings_of_another_gpu_are_left_aside(trt, tmp_path, caplog):
    path = tmp_path / "timings.cache"
    path.write_bytes(b"of-another-gpu")
    build_plan(trt, conv_model(), dataclasses.replace(OPTIONS, timing_cache=path))
    assert b"of-another-gpu" not in path.read_bytes()
    assert path.read_bytes()
    assert "started anew" in caplog.text


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ((0, 1, 1), InvalidArgument),
        ((2, 1, 4), InvalidArgument),
        ((1, 5, 4), InvalidArgument),
        ((1, 1.5, 4), InvalidType),
    ],
)
def test_batches_have_an_order(values, error):
    with pytest.raises(error, match="batch"):
        Batches(*values)


def test_options_outside_their_range():
    with pytest.raises(InvalidArgument, match="precision"):
        dataclasses.replace(OPTIONS, precision="int8")
    with pytest.raises(InvalidArgument, match="workspace"):
        dataclasses.replace(OPTIONS, workspace_bytes=-1)


# --- which TensorRT -------------------------------------------------------------------------------------------------


def test_a_tensorrt_of_an_unknown_major_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", FakeTensorRT("12.0.1"))
    with pytest.raises(BackendUnavailable, match=r"TensorRT 12\.0\.1 is installed; this version builds with 10 and 11"):
        library.load()


def test_without_tensorrt(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'swiftdet\[tensorrt\]'"):
        library.load()


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (1, r"Tesla P4 has compute capability 6\.1; 7\.5"),
        (2, r"no GPU cuda:2; the driver shows: cuda:0 NVIDIA T4, cuda:1"),
    ],
)
@pytest.mark.usefixtures("gpu", "trt")
def test_a_gpu_that_cannot_be_used(index, words):
    with pytest.raises(BackendUnavailable, match=words):
        engines.target(index)


# --- from a model to its engine ---------------------------------------------------------------------------------------


@pytest.fixture
def nano(tmp_path):
    path = tmp_path / "nano.onnx"
    path.write_bytes(zoo.build("damo-yolo-ns", imgsz="dynamic", num_classes=2).SerializeToString())
    return models.load(path, imgsz=64)


def test_the_size_is_fixed_before_the_builder_sees_the_graph(trt, gpu, nano):
    options = engines.options_for(nano, precision="fp32")
    plan, manifest = engines.build(nano, options, engines.target())
    (built,) = trt.builds
    assert built["shapes"] == [{"images": ((1, 3, 64, 64), (1, 3, 64, 64), (8, 3, 64, 64))}]
    graph = onnx.load_model_from_string(built["content"])
    onnx.checker.check_model(graph)
    assert [dim.dim_value for dim in graph.graph.input[0].type.tensor_type.shape.dim] == [0, 3, 64, 64]
    assert gpu == [0]
    assert manifest.spec == nano.spec
    assert (manifest.gpu, manifest.sm, manifest.driver) == ("NVIDIA T4", "sm_75", "580")
    assert (manifest.tensorrt, manifest.plan_bytes) == (trt.__version__, len(plan))


def test_a_range_of_sizes_leaves_the_graph_open(trt, gpu, nano):
    options = engines.options_for(nano, precision="fp32", smallest=32, largest=(128, 96))
    _, manifest = engines.build(nano, options, engines.target())
    (built,) = trt.builds
    shapes = ((1, 3, 32, 32), (1, 3, 64, 64), (8, 3, 128, 96))
    assert built["shapes"] == [{"images": shapes}]
    assert manifest.shapes == shapes
    assert manifest.spec.imgsz == (64, 64)
    dims = onnx.load_model_from_string(built["content"]).graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [0, 3, 0, 0]
    assert gpu == [0]


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"smallest": 50}, "imgsz: expected multiples of 32, got 50x50"),
        ({"smallest": 96}, "smallest <= best <= largest, in height and in width, got 96x96, 64x64, 64x64"),
        ({"largest": (128, 32)}, "got 64x64, 64x64, 128x32"),
        ({"largest": 1 << 20}, "imgsz: expected 1 to"),
    ],
)
def test_ranges_that_are_none(nano, sizes, words):
    with pytest.raises(InvalidArgument, match=words):
        engines.options_for(nano, **sizes)


def test_a_fixed_size_is_kept(nano):
    fixed = dataclasses.replace(nano, dynamic_size=False)
    assert engines.options_for(fixed, smallest=64, largest=64).shapes()[2] == (8, 3, 64, 64)
    with pytest.raises(InvalidArgument, match="takes 64x64 and no other size; export it with a dynamic size"):
        engines.options_for(fixed, largest=128)


def test_a_variant_is_built_in_half_precision_by_us(trt, gpu):
    loaded = models.load("damo-yolo-ns", weights="synthetic", imgsz=64, precision="fp16")
    engines.build(loaded, engines.options_for(loaded), engines.target())
    kinds = {t.data_type for t in onnx.load_model_from_string(trt.builds[0]["content"]).graph.initializer if t.dims}
    assert TensorProto.FLOAT16 in kinds
    with pytest.raises(InvalidArgument, match="fp32 needs a float32 export"):
        engines.build(loaded, engines.options_for(loaded, precision="fp32"), engines.target())


def test_a_fixed_batch_is_kept(nano):
    fixed = dataclasses.replace(nano, input_shape=(2, 3, 64, 64), dynamic_batch=False)
    assert engines.options_for(fixed).batches == Batches(2, 2, 2)
    with pytest.raises(InvalidArgument, match="takes 2 images at a time and no other number"):
        engines.options_for(fixed, batches=Batches(1, 1, 4))


def test_an_openvino_ir_is_refused(nano):
    with pytest.raises(ModelError, match="built from ONNX"):
        engines.graph_for(dataclasses.replace(nano, weights=b"bin"), engines.options_for(nano, precision="fp32"))


@pytest.mark.usefixtures("gpu")
def test_the_cache_builds_once_for_each_thing_that_matters(trt, nano, tmp_path):
    cache, where = EngineCache(tmp_path / "cache"), engines.target()

    def get(model=nano, target=where, **options):
        return engines.cached(model, engines.options_for(model, **{"precision": "fp32", **options}), target, cache)

    first = get()
    assert get().data == first.data
    assert len(trt.builds) == 1
    assert first.manifest.spec == nano.spec
    others = [
        get(precision="fp32", batches=Batches(1, 4, 8)),
        get(largest=128),
        get(workspace_bytes=1 << 30),
        get(target=dataclasses.replace(where, driver="590")),
        get(target=dataclasses.replace(where, device=dataclasses.replace(T4, name="NVIDIA L4", capability=(8, 9)))),
        get(model=dataclasses.replace(nano, model=zoo.build("damo-yolo-nm", imgsz=64).SerializeToString())),
    ]
    assert len(trt.builds) == 1 + len(others)
    assert len(cache.entries()) == 1 + len(others)
    assert len({entry.digest for entry in cache.entries()}) == 1 + len(others)
    assert (tmp_path / "cache" / "tensorrt" / f"timings-{trt.__version__}-sm_75.cache").exists()


# --- swiftdet build ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("gpu")
def test_build_writes_an_engine_and_its_manifest(trt, tmp_path, capsys):
    target = tmp_path / "out" / "nano.engine"
    options = ["--weights", "synthetic", "--imgsz", "64", "--max-batch", "4", "--workspace", "256", "--json"]
    assert main(["build", "damo-yolo-ns", "-o", str(target), *options]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["format"] == "swiftdet.build/1"
    assert (document["precision"], document["sm"], document["synthetic"]) == ("fp16", "sm_75", True)
    assert document["shapes"] == [[1, 3, 64, 64], [1, 3, 64, 64], [4, 3, 64, 64]]
    assert trt.builds[0]["pools"] == {"WORKSPACE": 256 << 20}
    plan = read_plan(target)
    assert plan.manifest.model == "damo-yolo-ns"
    loaded = models.load(target)
    assert loaded.spec == plan.manifest.spec
    assert (loaded.input_shape, loaded.dynamic_batch, loaded.model) == ((1, 3, 64, 64), True, b"")
    assert sorted(path.name for path in target.parent.iterdir()) == ["nano.engine", "nano.engine.json"]


@pytest.mark.usefixtures("gpu", "trt")
def test_build_prints_one_line_for_people(tmp_path, capsys):
    target = tmp_path / "nano.engine"
    assert main(["build", "damo-yolo-ns", "weights=synthetic", "imgsz=64", "precision=fp32", "-o", str(target)]) == 0
    out = capsys.readouterr().out
    assert "fp32  64x64  batch 1 to 8, best at 1  NVIDIA T4 (sm_75)" in out
    assert "made-up weights" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["damo-yolo-ns"], 1, "name without weights"),
        (["damo-yolo-ns", "--weights", "synthetic", "--precision", "int8"], 2, "'fp16' or 'fp32', got 'int8'"),
        (["damo-yolo-ns", "--weights", "synthetic", "--device", "cpu"], 2, "built on a GPU"),
        (["damo-yolo-ns", "--weights", "synthetic", "--device", "cuda:1"], 1, "compute capability 6.1"),
        (["damo-yolo-ns", "--weights", "synthetic", "--device", "cuda:x"], 2, "device"),
        (
            ["damo-yolo-ns", "--weights", "synthetic", "--min-batch", "4", "--max-batch", "2"],
            2,
            "least <= best <= most",
        ),
        (["damo-yolo-ns", "--weights", "synthetic", "--workspace", "-1"], 2, "workspace"),
        (["damo-yolo-ns", "--weights", "synthetic", "--max-imgsz", "320"], 2, "smallest <= best <= largest"),
        (["damo-yolo-ns", "--weights", "synthetic", "--min-imgsz", "large"], 2, "expected a size such as 640"),
    ],
)
@pytest.mark.usefixtures("gpu", "trt")
def test_build_refuses(tmp_path, capsys, arguments, code, words):
    target = tmp_path / "never.engine"
    assert main(["build", *arguments, "-o", str(target)]) == code
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not target.exists()


def test_build_needs_an_engines_name(tmp_path, capsys):
    assert main(["build", "damo-yolo-ns", "--weights", "synthetic", "-o", str(tmp_path / "out.onnx")]) == 2
    assert "expected a name ending in .engine" in capsys.readouterr().err


def test_build_without_a_gpu_says_what_is_missing(tmp_path, capsys, monkeypatch):
    def no_driver():
        raise BackendUnavailable("no NVIDIA driver: libcuda.so.1 is not there")

    monkeypatch.setattr(cuda_devices, "driver", no_driver)
    monkeypatch.setitem(sys.modules, "tensorrt", None)  # importing it would come second
    assert main(["build", "damo-yolo-ns", "--weights", "synthetic", "-o", str(tmp_path / "x.engine")]) == 1
    assert capsys.readouterr().err == "error: no NVIDIA driver: libcuda.so.1 is not there\n"
