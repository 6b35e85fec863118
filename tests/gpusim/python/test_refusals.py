"""What the compiled half refuses, asked directly: Python in front of it refuses most of it first."""

from __future__ import annotations

import pytest

import plans
from conftest import BUILD, picture
from swiftdet import _core
from swiftdet.engines.tensorrt import library, running
from swiftdet.engines.tensorrt.plan_files import Plan
from swiftdet.errors import BackendUnavailable, InvalidArgument, ModelError

OPTIONS = {"conf": 0.1, "iou": 0.7, "max_det": 300, "class_agnostic": False, "multi_label": False, "classes": None}


@pytest.fixture
def open_plan(tmp_path):
    """An engine of a plan's bytes."""

    def open_bytes(data, device=0):
        return running.open_engine(Plan(data, tmp_path / "x.engine", "", None, {}), device)

    return open_bytes


def pipeline(engine, loaded, imgsz=None, **options):
    spec = loaded.spec
    preprocess = {name: value for name, value in vars(spec.preprocess).items() if name != "channel_order"}
    return running.cuda_part().Detector(
        engine, _core.Preprocess(**preprocess), _core.HeadSpec(**vars(spec.head)), imgsz or spec.imgsz, **options
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"output_type": "i32"}, "expected float32 or float16"),
        ({"input_type": "i64"}, "expected float32 or float16"),
        ({"extra": ("input second f32 2 1 4",)}, "one input and at least one output, got 2"),
    ],
)
def test_networks_that_are_no_detectors(cuda, read_model, open_plan, options, words):
    with pytest.raises(ModelError, match=words):
        open_plan(plans.plan_bytes(read_model("ultralytics-columns"), **options))


def test_an_input_that_is_no_image(cuda, open_plan):
    with pytest.raises(ModelError, match=r"image input \[N, 3, H, W\], got 'x' \[1, 4\]"):
        open_plan(b"gpusim-plan-1\ninput x f32 2 1 4\noutput y f32 2 1 4\nonnx 0\n")


def test_an_output_whose_shape_is_not_known_before_the_run(cuda, read_model, open_plan):
    loaded = read_model("ultralytics-columns")
    engine = open_plan(plans.plan_bytes(loaded, extra=("output unknown f32 2 -1 6",)))
    with pytest.raises(ModelError, match="no fixed shape"):
        pipeline(engine, loaded).detect([(picture(20, 20), False)], **OPTIONS)


def test_sizes_and_batches_outside_the_profiles(cuda, read_model, open_plan):
    loaded = read_model("ultralytics-columns")
    # Two profiles: one image, or four to eight. Three fit neither.
    both = "profile 4 4 3 64 96 4 4 3 64 96 4 8 3 64 96"
    engine = open_plan(plans.plan_bytes(loaded, batches=(1, 1, 1), extra=(both,)).replace(b"f32 4 1 3", b"f32 4 -1 3"))
    assert engine.batch_range((64, 96)) == (1, 8)
    assert engine.batch_range((64, 64)) == (0, 0)
    with pytest.raises(InvalidArgument, match="not built for images of 64x64"):
        pipeline(engine, loaded, imgsz=(64, 64))
    gpu = pipeline(engine, loaded)
    assert len(gpu.detect([(picture(20, 20), False)] * 5, **OPTIONS)) == 5
    assert gpu.capture_refusal == ""
    with pytest.raises(InvalidArgument, match=r"built for inputs of \[1, 3, 64, 96\] to \[1, 3, 64, 96\], \[4,"):
        gpu.detect([(picture(20, 20), False)] * 3, **OPTIONS)
    assert len(gpu.detect([(picture(20, 20), False)], **OPTIONS)) == 1


def test_devices(cuda):
    core = running.cuda_part()
    assert core.device_count() == 2
    device = core.device(1)
    assert (device.index, device.name, device.compute_capability) == (1, "Simulated GPU 1", (8, 6))
    assert device.memory_bytes == 16 << 30
    for index in (-1, 2):
        with pytest.raises(BackendUnavailable, match=r"this machine has 2 GPUs, cuda:0 to cuda:1"):
            core.device(index)


def test_build_config_and_ports(cuda, read_model, open_plan):
    config = running.cuda_part().build_config()
    assert config["cuda_runtime"] >= 12000
    assert config["tensorrt_headers"].startswith("10.")
    assert config["architectures"]
    engine = open_plan(plans.plan_bytes(read_model("ultralytics-columns"), output_type="f16"), device=1)
    assert engine.device == 1
    assert engine.input == ("images", (-1, 3, 64, 96), "float32")
    assert engine.outputs == [("output0", (-1, 7, 126), "float16")]
    assert "Simulated GPU 1 (cuda:1)" in engine.description


def test_what_is_not_tensorrt(cuda, tmp_path):
    core = running.cuda_part()
    modules = BUILD / "swiftdet"
    with pytest.raises(BackendUnavailable, match="getInferLibVersion"):
        core.TensorRTRuntime.load(BUILD / "gpusim/libgpusim_twins.so", modules)
    (tmp_path / "libnvinfer.so.10").symlink_to(library.runtime_library().path)
    with pytest.raises(BackendUnavailable, match="built without TensorRT"):
        core.TensorRTRuntime.load(tmp_path / "libnvinfer.so.10", tmp_path)


def test_what_tensorrt_says_reaches_logging(cuda, read_model, open_plan, caplog):
    with caplog.at_level("DEBUG", "swiftdet.tensorrt"):
        open_plan(
            plans.plan_bytes(read_model("ultralytics-columns"), extra=("profile 4 1 3 64 96 4 1 3 64 96 4 1 3 64 96",))
        )
    said = {(record.levelname, record.getMessage().split(":")[0]) for record in caplog.records}
    assert said == {("INFO", "Loaded engine size"), ("WARNING", "several optimization profiles")}
