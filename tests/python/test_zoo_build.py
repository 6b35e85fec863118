"""What `zoo.build` takes, refuses and promises about the model, beyond the numbers (test_zoo_goldens.py)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import swiftdet
from network_cost import cost, inferred, shape
from network_states import network_of, random_fill, state_of
from swiftdet import checkpoints, demo, engines, ops, zoo
from swiftdet.errors import InvalidArgument, InvalidType, ModelError
from swiftdet.spec import METADATA_KEY, ModelSpec
from swiftdet.zoo import yolov7
from swiftdet.zoo.parameters import required

OFFICIAL_KEYS = json.loads((Path(__file__).parents[1] / "data" / "official_keys.json").read_text())
LARGE = 20e6
VARIANTS = [pytest.param(name, marks=pytest.mark.slow if zoo.info(name).params > LARGE else ()) for name in zoo.names()]
LIGHT = ["yolov7-tiny", "damo-yolo-ns"]
ANCHORS = 3


@pytest.fixture(scope="module")
def tiny_state():
    return state_of("yolov7-tiny", random_fill)


@pytest.fixture(scope="module")
def nano_state():
    return state_of("damo-yolo-ns", random_fill)


def spec_of(model: onnx.ModelProto) -> ModelSpec:
    return ModelSpec.from_json({entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY])


def dimensions(values) -> dict[str, list[int | str]]:
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def run(model: onnx.ModelProto, images: np.ndarray, engine: str = "onnxruntime") -> list[np.ndarray]:
    backend = engines.compile(model.SerializeToString(), engine=engine, input_shape=list(images.shape))
    return backend.infer(images)


def pictures(count: int = 1, size: tuple[int, int] = (64, 96), scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(3).random((count, 3, *size)) * scale).astype(np.float32)


# --- Keys and figures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", OFFICIAL_KEYS)
def test_the_keys_and_shapes_are_the_official_ones(file):
    expected = OFFICIAL_KEYS[file]
    keys = required(network_of(file.removesuffix("-training"), training=file.endswith("-training")))
    lines = sorted(f"{key} {'x'.join(map(str, dims))}" for key, dims in keys.items())
    assert len(lines) == expected["keys"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == expected["sha256"]


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_and_gflops_are_those_of_the_catalogue(name):
    info = zoo.info(name)
    parameters, gflops = cost(zoo.build(name, imgsz=info.imgsz, batch=1))
    scales = 3 if info.family == "damo-yolo" else 0  # counted by convention, though folded into the convolutions
    assert parameters + scales == info.params
    assert gflops == pytest.approx(info.gflops, abs=0.0051)


@pytest.mark.parametrize("name", [*VARIANTS, *zoo.demo_names()])
def test_every_graph_is_valid_and_its_shapes_are_those_declared(name):
    state = checkpoints.load(demo.weights(name)) if name in zoo.demo_names() else None
    model = zoo.build(name, state, batch=2)
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)
    height, width = zoo.info(name).imgsz
    assert dimensions(model.graph.input) == {"images": [2, 3, height, width]}
    assert {value.name: list(shape(value)) for value in inferred(model).graph.output} == dimensions(model.graph.output)
    assert {node.op_type for node in model.graph.node} <= {
        *("Conv", "Sigmoid", "Mul", "Relu", "LeakyRelu", "MaxPool", "Concat", "Resize", "Add")
    }


@pytest.mark.parametrize(("name", "convolutions"), [("yolov7-tiny", 58), ("damo-yolo-t", 77)])
def test_the_deploy_graph_has_one_node_for_each_merged_convolution(name, convolutions):
    operators = [node.op_type for node in zoo.build(name).graph.node]
    assert operators.count("Conv") == convolutions
    assert "BatchNormalization" not in operators
    assert "Slice" not in operators
    unfused = [node.op_type for node in zoo.build(name, deploy=False).graph.node]
    assert unfused.count("BatchNormalization") > convolutions - 7


def test_the_variant_without_a_golden_runs(tiny_state):
    """yolov7-tiny-silu is yolov7-tiny, which has one, with another activation: the same weights, other numbers."""
    model = zoo.build("yolov7-tiny-silu", tiny_state, imgsz=(64, 96), head="decoded")
    (found,), (expected,) = (run(model, pictures(), engine) for engine in ("openvino", "onnxruntime"))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-2)
    (leaky,) = run(zoo.build("yolov7-tiny", tiny_state, imgsz=(64, 96), head="decoded"), pictures(), "openvino")
    assert np.abs(found - leaky).max() > 0.1
    operators = [node.op_type for node in model.graph.node]
    assert "LeakyRelu" not in operators
    assert operators.count("Mul") >= 55  # by the sigmoid, after each convolution but the head's three
    with swiftdet.Detector("yolov7-tiny-silu", weights="synthetic", imgsz=64, conf=0.0) as detector:
        assert len(detector(np.zeros((50, 60, 3), np.uint8))) > 0


# --- Names, order and shapes of the outputs ---------------------------------------------------------------------------


def test_raw_outputs_of_yolov7():
    model = zoo.build("yolov7-tiny", imgsz=(320, 640), batch=1)
    assert dimensions(model.graph.output) == {
        "p3": [1, 255, 40, 80],
        "p4": [1, 255, 20, 40],
        "p5": [1, 255, 10, 20],
    }
    head = spec_of(model).head
    assert (head.layout, head.outputs, head.strides) == ("anchor_maps", ("p3", "p4", "p5"), (8, 16, 32))
    assert head.anchors[0] == (10, 13)
    assert head.has_objectness


def test_raw_outputs_of_damo_yolo():
    model = zoo.build("damo-yolo-ns", batch=1)
    expected = {f"cls_p{i + 3}": [1, 80, side, side] for i, side in enumerate((52, 26, 13))}
    expected |= {f"reg_p{i + 3}": [1, 32, side, side] for i, side in enumerate((52, 26, 13))}
    assert list(dimensions(model.graph.output).items()) == list(expected.items())
    spec = spec_of(model)
    assert (spec.head.layout, spec.head.reg_max, spec.preprocess.divisor) == ("distribution_maps", 7, 1.0)
    assert spec.preprocess.mode == "stretch"
    assert spec.imgsz == (416, 416)


def test_decoded_outputs():
    model = zoo.build("yolov7-tiny", batch=1, head="decoded")
    assert dimensions(model.graph.output) == {"output": [1, 25200, 85]}
    assert spec_of(model).head.layout == "rows"
    model = zoo.build("damo-yolo-ns", batch=1, head="decoded")
    assert dimensions(model.graph.output) == {"scores": [1, 3549, 80], "boxes": [1, 3549, 4]}
    assert spec_of(model).head.box_format == "xyxy"


@pytest.mark.parametrize("head", ["raw", "decoded"])
@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_dynamic_model_takes_any_batch_and_any_multiple_of_its_stride(engine, name, head):
    dynamic = zoo.build(name, imgsz="dynamic", head=head)
    assert dimensions(dynamic.graph.input) == {"images": ["batch", 3, "height", "width"]}
    for size in ((64, 96), (96, 32)):
        images = pictures(2, size)
        fixed = zoo.build(name, imgsz=size, batch=2, head=head)
        for got, want in zip(run(dynamic, images, engine), run(fixed, images, engine), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_a_build_is_reproducible(tiny_state):
    first, second = (zoo.build("yolov7-tiny", tiny_state).SerializeToString() for _ in range(2))
    assert first == second


# --- Made-up weights --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_made_up_weights_are_well_conditioned_and_marked(name):
    model = zoo.build(name, imgsz=128, batch=1)
    assert spec_of(model).synthetic
    scale = 1.0 if name.startswith("yolov7") else 255.0
    smooth, noise = np.full((1, 3, 128, 128), 0.5 * scale, np.float32), pictures(1, (128, 128), scale)
    for output, other in zip(run(model, smooth), run(model, noise), strict=True):
        for values in (output, other):
            assert np.isfinite(values).all()
            assert 0.1 < values.std() < 1.2
        assert np.abs(output - other).max() > 1e-4  # the image reaches the head
    rare = run(model, noise)[0]
    assert 1.0 / (1.0 + np.exp(-rare.max())) < 0.25


def test_made_up_weights_with_other_classes():
    spec = spec_of(zoo.build("damo-yolo-ns", num_classes=3))
    assert spec.names == ("class0", "class1", "class2")
    assert spec_of(zoo.build("yolov7-tiny", names=["cat", "dog"])).names == ("cat", "dog")


# --- Checkpoints of other forms and classes ---------------------------------------------------------------------------


def test_the_training_form_is_told_by_its_keys(tiny_state):
    training = state_of("yolov7-tiny", random_fill, training=True)
    implicit = [key for key in training if key.endswith(".implicit")]
    neutral = training | {key: np.full_like(training[key], 0.0 if ".ia." in key else 1.0) for key in implicit}
    images = pictures()
    plain, merged = (
        run(zoo.build("yolov7-tiny", tiny_state, imgsz=(64, 96)), images),
        run(zoo.build("yolov7-tiny", neutral, imgsz=(64, 96)), images),
    )
    for a, b in zip(plain, merged, strict=True):
        np.testing.assert_array_equal(a, b)
    changed = run(zoo.build("yolov7-tiny", training, imgsz=(64, 96)), images)
    assert np.abs(changed[0] - plain[0]).max() > 1e-2


@pytest.mark.parametrize("name", ["yolov7-tiny", "damo-yolo-t"])
def test_convolutions_that_are_merged_already(name):
    state = state_of(name, random_fill)
    deployed = zoo.build(name, state, imgsz=(64, 96))
    merged = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in deployed.graph.initializer}
    merged = {key: value for key, value in merged.items() if key.endswith((".weight", ".bias"))}
    if name.startswith("damo"):  # the deploy graph has folded the scale and the rearrangement of the stem into these
        merged |= {f"head.scales.{level}.scale": np.float32(1.0) for level in range(3)}
        stem = "backbone.block_list.0.conv"
        merged = {key: value for key, value in merged.items() if not key.startswith(stem)}
        merged |= {key: value for key, value in state.items() if key.startswith(stem)}
    for got, want in zip(
        run(zoo.build(name, merged, imgsz=(64, 96)), pictures()), run(deployed, pictures()), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_implicit_terms_of_a_fused_checkpoint_are_dead():
    """`fuse()` of the project merges them but leaves the tensors behind."""
    state = state_of("yolov7-tiny", random_fill, training=True)
    deployed = zoo.build("yolov7-tiny", state, imgsz=(64, 96))
    fused = {t.name: onnx.numpy_helper.to_array(t) for t in deployed.graph.initializer if t.name != "upsample.scales"}
    fused |= {key: value for key, value in state.items() if key.endswith(".implicit")}
    for got, want in zip(
        run(zoo.build("yolov7-tiny", fused, imgsz=(64, 96)), pictures()), run(deployed, pictures()), strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_half_precision_checkpoints_are_folded_in_double(tiny_state):
    half = {key: value.astype(np.float16) for key, value in tiny_state.items()}
    exact = {key: value.astype(np.float64) for key, value in half.items()}
    images = pictures()
    for a, b in zip(
        run(zoo.build("yolov7-tiny", half, imgsz=(64, 96)), images),
        run(zoo.build("yolov7-tiny", exact, imgsz=(64, 96)), images),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("classes", [1, 7])
def test_the_class_count_follows_from_the_head(classes):
    for name in LIGHT:
        state = state_of(name, random_fill, num_classes=classes)
        spec = spec_of(zoo.build(name, state))
        assert spec.head.num_classes == classes
        assert len(spec.names) == classes
        assert spec_of(zoo.build(name, state, names=[f"n{i}" for i in range(classes)])).names[0] == "n0"
        with pytest.raises(InvalidArgument, match=rf"head has {classes}"):
            zoo.build(name, state, names=["a", "b", "c"])
        with pytest.raises(InvalidArgument, match=rf"head has {classes}"):
            zoo.build(name, state, num_classes=classes + 1)


def test_coco_names_where_there_are_80_classes(tiny_state):
    assert spec_of(zoo.build("yolov7-tiny", tiny_state)).names[:2] == ("person", "bicycle")


def test_the_class_too_many_of_an_older_damo_yolo():
    older = state_of("damo-yolo-ns", random_fill, num_classes=81)
    model = zoo.build("damo-yolo-ns", older, imgsz=(64, 96), num_classes=80)
    assert spec_of(model).names[-1] == "toothbrush"
    full = run(zoo.build("damo-yolo-ns", older, imgsz=(64, 96)), pictures())
    for got, want in zip(run(model, pictures()), full, strict=True):
        np.testing.assert_array_equal(got, want[:, : got.shape[1]])


@pytest.mark.parametrize("key", ["anchors", "anchor_grid"])
def test_anchors_are_taken_from_the_checkpoint(tiny_state, key):
    head = yolov7.head_index(yolov7.ARCHITECTURES["yolov7-tiny"], training=False)
    px = np.arange(10.0, 28.0).reshape(3, 3, 2)
    stored = px / np.array([8, 16, 32])[:, None, None] if key == "anchors" else px.reshape(3, 1, 3, 1, 1, 2)
    spec = spec_of(zoo.build("yolov7-tiny", tiny_state | {f"model.{head}.{key}": stored.astype(np.float32)}))
    assert spec.head.anchors == tuple((float(w), float(h)) for w, h in px.reshape(-1, 2))


def test_another_number_of_anchors_per_cell():
    head, values = 77, 85
    state = state_of("yolov7-tiny", random_fill)
    for level, channels in enumerate((128, 256, 512)):
        state[f"model.{head}.m.{level}.weight"] = random_fill("w", (2 * values, channels, 1, 1))
        state[f"model.{head}.m.{level}.bias"] = random_fill("b", (2 * values,))
    state[f"model.{head}.anchor_grid"] = np.full((3, 1, 2, 1, 1, 2), 32, np.float32)
    for form in ("raw", "decoded"):
        model = zoo.build("yolov7-tiny", state, imgsz=64, head=form)
        spec = spec_of(model)
        assert spec.head.num_classes == 80
        outputs = [np.ascontiguousarray(output) for output in run(model, pictures(1, (64, 64)))]
        assert len(ops.decode(outputs, spec, 0.0)[0]) == 2 * (64 + 16 + 4)


# --- What the first convolution takes over ----------------------------------------------------------------------------

STEMS = ["yolov7-tiny", "yolov7-w6", "damo-yolo-t", "damo-yolo-ns"]  # plain, ReOrg, Focus, plain


def initializers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("deploy", [True, False], ids=["deploy", "unfused"])
@pytest.mark.parametrize("name", STEMS)
def test_a_network_that_takes_bgr(name, deploy):
    """The same products in another order of summation: nearly the same bits, and the same kernels but for one."""
    options = {"imgsz": 128, "batch": 1, "deploy": deploy}
    rgb, bgr = zoo.build(name, **options), zoo.build(name, channel_order="bgr", **options)
    assert spec_of(rgb).preprocess.channel_order == "rgb"
    assert spec_of(bgr).preprocess.channel_order == "bgr"
    images = pictures(1, (128, 128), 255.0 if name.startswith("damo") else 1.0)
    swapped = np.ascontiguousarray(images[:, ::-1])
    for got, want in zip(run(bgr, swapped), run(rgb, images), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert np.abs(run(bgr, images)[0] - run(rgb, images)[0]).max() > 1e-3  # it is not blind to the order
    first, second = initializers(rgb), initializers(bgr)
    (changed,) = [key for key in first if not np.array_equal(first[key], second[key])]
    np.testing.assert_array_equal(np.sort(first[changed], axis=None), np.sort(second[changed], axis=None))


@pytest.mark.parametrize("name", LIGHT)
def test_a_detector_feeds_a_bgr_network_what_it_wants(name, tmp_path):
    """Whatever the caller's order, both networks see the same picture."""
    picture = np.random.default_rng(5).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    state = state_of(name, random_fill, num_classes=2)
    found = {}
    for order in ("rgb", "bgr"):
        path = tmp_path / f"{order}.onnx"
        path.write_bytes(zoo.build(name, state, imgsz=128, channel_order=order).SerializeToString())
        with swiftdet.Detector(path, conf=0.01, max_det=20) as detector:
            found[order] = detector(picture)
            turned = detector(np.ascontiguousarray(picture[:, :, ::-1]), color="rgb")
            np.testing.assert_array_equal(turned.xyxy, found[order].xyxy)
    assert len(found["rgb"]) > 0
    np.testing.assert_allclose(found["bgr"].conf, found["rgb"].conf, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["bgr"].xyxy, found["rgb"].xyxy, rtol=0, atol=1e-2)


@pytest.mark.parametrize("name", ["yolov7-tiny", "yolov7-w6"])
def test_a_network_that_divides_its_pixels_itself(name):
    plain, folded = zoo.build(name, imgsz=128), zoo.build(name, imgsz=128, fold_divisor=True)
    assert (spec_of(plain).preprocess.divisor, spec_of(folded).preprocess.divisor) == (255.0, 1.0)
    labels = [json.loads({e.key: e.value for e in m.metadata_props}["swiftdet.build"]) for m in (plain, folded)]
    assert [label["divisor_folded"] for label in labels] == [1.0, 255.0]
    pixels = np.random.default_rng(1).integers(0, 256, (1, 3, 128, 128)).astype(np.float32)
    for got, want in zip(run(folded, pixels), run(plain, pixels / np.float32(255)), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def test_there_is_no_divisor_to_fold_in_damo_yolo(nano_state):
    plain, folded = (zoo.build("damo-yolo-ns", nano_state, fold_divisor=flag) for flag in (False, True))
    assert plain.SerializeToString() == folded.SerializeToString()


# --- Errors -----------------------------------------------------------------------------------------------------------


def test_weights_of_another_variant_name_the_one_that_fits(tiny_state, nano_state):
    with pytest.raises(ModelError, match=r"not those of yolov7: .*they fit yolov7-tiny and yolov7-tiny-silu"):
        zoo.build("yolov7", tiny_state)
    with pytest.raises(ModelError, match=r"not those of damo-yolo-nm: .*of another shape.*they fit damo-yolo-ns$"):
        zoo.build("damo-yolo-nm", nano_state)
    with pytest.raises(ModelError, match="they fit damo-yolo-ns"):
        zoo.build("yolov7", nano_state)
    assert zoo.identify(nano_state) == ["damo-yolo-ns"]


def test_differences_are_listed_with_their_number(tiny_state):
    lacking = {key: value for key, value in tiny_state.items() if not key.startswith(("model.1.", "model.2."))}
    with pytest.raises(
        ModelError,
        match=r"10 missing: model\.1\.conv\.weight \[64, 32, 3, 3\], .* and 7 more\. they fit no variant",
    ):
        zoo.build("yolov7-tiny", lacking)
    misshapen = tiny_state | {"model.0.conv.weight": np.zeros((32, 4, 3, 3), np.float32)}
    with pytest.raises(
        ModelError,
        match=r"1 of another shape: model\.0\.conv\.weight \[32, 4, 3, 3\] \(expected \[32, 3, 3, 3\]\)",
    ):
        zoo.build("yolov7-tiny", misshapen)
    with pytest.raises(ModelError, match=r"1 unknown: model\.200\.conv\.weight \[1\]"):
        zoo.build("yolov7-tiny", tiny_state | {"model.200.conv.weight": np.zeros(1)})
    with pytest.raises(ModelError, match="missing"):
        zoo.build("yolov7-tiny", {})


def test_what_no_variant_fits_is_compared_with_the_nearest(tiny_state):
    assert zoo.identify(tiny_state | {"extra": np.zeros(1)}) == []
    name, found = zoo.nearest(tiny_state | {"extra": np.zeros(1)})
    assert (name, found) == ("yolov7-tiny", "1 unknown: extra [1]")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(tiny_state, bad):
    broken = dict(tiny_state) | {"model.3.conv.weight": np.full((32, 64, 1, 1), bad, np.float32)}
    with pytest.raises(ModelError, match=r"model\.3\.conv: not finite"):
        zoo.build("yolov7-tiny", broken)
    negative = dict(tiny_state) | {"model.3.bn.running_var": np.full(32, -1.0, np.float32)}
    with pytest.raises(ModelError, match="not finite"):
        zoo.build("yolov7-tiny", negative)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"precision": "bf16"}, InvalidArgument, "builds 'fp32' and 'fp16', got 'bf16'"),
        ({"precision": "int8"}, InvalidArgument, "builds 'fp32'"),
        ({"head": "nms"}, InvalidArgument, "'raw' or 'decoded'"),
        ({"channel_order": "BGR"}, InvalidArgument, "'rgb' or 'bgr', got 'BGR'"),
        ({"fold_divisor": 1}, InvalidType, "fold_divisor"),
        ({"imgsz": 100}, InvalidArgument, "multiples of 32"),
        ({"imgsz": 0}, InvalidArgument, "multiples of 32"),
        ({"imgsz": 1 << 20}, InvalidArgument, "up to 16384"),
        ({"imgsz": "640"}, InvalidType, "expected a side"),
        ({"imgsz": (640,)}, InvalidType, "expected a side"),
        ({"batch": 0}, InvalidArgument, "batch"),
        ({"batch": True}, InvalidArgument, "batch"),
        ({"batch": "two"}, InvalidArgument, "batch"),
        ({"num_classes": 0}, InvalidArgument, "num_classes"),
        ({"num_classes": "80"}, InvalidType, "num_classes"),
        ({"names": ["a"], "num_classes": 2}, InvalidArgument, "1 were given"),
        ({"names": [1, 2]}, InvalidType, "strings"),
        ({"state": {"a": "text"}}, InvalidType, "arrays of numbers"),
    ],
)
def test_options_outside_their_range(options, error, words):
    with pytest.raises(error, match=words):
        zoo.build("yolov7-tiny", **options)


def test_p6_variants_need_multiples_of_64():
    with pytest.raises(InvalidArgument, match="multiples of 64"):
        zoo.build("yolov7-w6", imgsz=672)


def test_an_unknown_variant():
    with pytest.raises(InvalidArgument, match="unknown model 'yolov8'"):
        zoo.build("yolov8")


def test_building_leaves_the_state_as_it_was(tiny_state):
    before = {key: value.copy() for key, value in tiny_state.items()}
    zoo.build("yolov7-tiny", tiny_state)
    assert all(np.array_equal(before[key], tiny_state[key]) for key in before)
