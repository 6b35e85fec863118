"""The networks that we build compute what the official ones do, in two engines that share no code.

Checkpoints are in their official, unfused form, training and deploy; see golden.py.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

import golden
from network_states import state_of
from swiftdet import engines, ops, zoo
from swiftdet.spec import METADATA_KEY, ModelSpec

RAW_TOLERANCE = 1e-4
BOX_TOLERANCE_PX = 2e-2
SCORE_TOLERANCE = 1e-4

HEAVY = ("yolov7x", "yolov7-w6", "yolov7-e6", "yolov7-d6", "yolov7-e6e", "damo-yolo-l")
QUICK_ALTHOUGH_HEAVY = "yolov7-w6-training"  # a P6 network, in its training form, is in every run
GOLDENS = [
    pytest.param(
        name,
        marks=pytest.mark.slow if name.startswith(HEAVY) and name != QUICK_ALTHOUGH_HEAVY else (),
    )
    for name in golden.FILES
]
SMALL = ["yolov7-tiny", "yolov7-tiny-training", "damo-yolo-t", "damo-yolo-ns", "damo-yolo-n"]
DECODED = [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in golden.FILES if name not in SMALL)]
ENGINES = ["openvino", "onnxruntime"]


@functools.lru_cache(maxsize=1)
def official_state(name: str):
    g = golden.load(name)
    return state_of(g.variant, g.fill, training=g.is_training_form)


@functools.lru_cache(maxsize=2)
def built(name: str, head: str = "raw", *, deploy: bool = True, dynamic: bool = False) -> bytes:
    g = golden.load(name)
    model = zoo.build(
        g.variant,
        official_state(name),
        imgsz="dynamic" if dynamic else g.size,
        batch="dynamic" if dynamic else 1,
        head=head,
        deploy=deploy,
    )
    return model.SerializeToString()


def run(model: bytes, engine: str, image: np.ndarray) -> dict[str, np.ndarray]:
    backend = engines.compile(model, engine=engine, input_shape=list(image.shape))
    names = [name for name, _ in backend.outputs]
    return dict(zip(names, backend.infer(image), strict=True))


def spec_of(model: bytes) -> ModelSpec:
    import onnx

    return ModelSpec.from_json({p.key: p.value for p in onnx.load_from_string(model).metadata_props}[METADATA_KEY])


def assert_raw_equals(g: golden.Golden, outputs: dict[str, np.ndarray]) -> None:
    assert len(outputs) == len(g.outputs) - (1 if "decoded" in g.outputs else 2)
    for output, values in outputs.items():
        name, official = golden.official_name(output), golden.official_layout(output, values)
        assert g.worst(name, official) < RAW_TOLERANCE, output
        computed, recorded = g.projection(name, official)
        assert computed == pytest.approx(recorded, abs=RAW_TOLERANCE), output


def test_there_are_22_goldens():
    assert len(golden.FILES) == 22
    variants = {golden.load(name).variant for name in golden.FILES}
    assert variants == set(zoo.names()) - {"yolov7-tiny-silu"}


@pytest.mark.parametrize("name", SMALL)
def test_the_checkpoint_is_filled_as_recorded(name):
    g, state = golden.load(name), official_state(name)
    for key, expected in g.content["fill_check"].items():
        assert list(state[key].shape) == expected["shape"]
        np.testing.assert_allclose(state[key].ravel()[:4], expected["first"], rtol=1e-6)
        assert state[key].sum(dtype=np.float64) == pytest.approx(expected["sum"], rel=1e-6)
    image = g.image()
    np.testing.assert_allclose(image.ravel()[:4], g.content["input"]["first"], rtol=1e-6)
    assert image.sum(dtype=np.float64) == pytest.approx(g.content["input"]["sum"], rel=1e-7)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", GOLDENS)
def test_raw_outputs(name, engine):
    g = golden.load(name)
    assert_raw_equals(g, run(built(name), engine, g.image()))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", [*SMALL, pytest.param("yolov7-training", marks=pytest.mark.slow)])
def test_raw_outputs_of_the_unfused_graph(name, engine):
    g = golden.load(name)
    assert_raw_equals(g, run(built(name, deploy=False), engine, g.image()))


@pytest.mark.parametrize("name", DECODED)
def test_our_decoder_on_the_raw_outputs(name):
    g = golden.load(name)
    decoded = run(built(name, "decoded"), "onnxruntime", g.image())
    assert_decoded_equals(g, decoded)  # so that it is official, and known for every prediction
    boxes, scores, classes = best_of_each_prediction(decoded)
    model = built(name)
    found = ops.decode(run(model, "openvino", g.image()), spec_of(model), 0.0)
    assert len(found[0]) == len(boxes)
    box_error = np.abs(found[0][:, None] - boxes[None]).max(axis=2)
    score_error = np.abs(found[1][:, None] - scores[None])
    match = np.maximum(box_error / BOX_TOLERANCE_PX, score_error / SCORE_TOLERANCE).argmin(axis=1)
    assert sorted(match) == list(range(len(boxes)))
    rows = np.arange(len(match))
    assert box_error[rows, match].max() < BOX_TOLERANCE_PX
    assert score_error[rows, match].max() < SCORE_TOLERANCE
    assert (found[2] == classes[match]).mean() > 0.999  # two classes of one prediction may tie within rounding


def best_of_each_prediction(decoded: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x1 y1 x2 y2, score and class of every prediction."""
    if "output" in decoded:
        rows = decoded["output"][0].astype(np.float64)
        centre, half = rows[:, :2], rows[:, 2:4] / 2
        boxes, by_class = np.hstack([centre - half, centre + half]), rows[:, 4:5] * rows[:, 5:]
    else:
        boxes, by_class = decoded["boxes"][0], decoded["scores"][0]
    return boxes, by_class.max(axis=1), by_class.argmax(axis=1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", DECODED)
def test_the_decoded_head(name, engine):
    assert_decoded_equals(golden.load(name), run(built(name, "decoded"), engine, golden.load(name).image()))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["yolov7-tiny", "damo-yolo-ns", "yolov7-w6-training"])
def test_the_decoded_head_of_a_dynamic_model(name, engine):
    image = golden.load(name).image()
    assert_decoded_equals(golden.load(name), run(built(name, "decoded", dynamic=True), engine, image))


def assert_decoded_equals(g: golden.Golden, outputs: dict[str, np.ndarray]) -> None:
    if "decoded" in g.outputs:
        assert list(outputs) == ["output"]
        assert g.worst("decoded", outputs["output"]) < BOX_TOLERANCE_PX
        computed, recorded = g.projection("decoded", outputs["output"])
        assert computed == pytest.approx(recorded, abs=BOX_TOLERANCE_PX)
        return
    assert list(outputs) == ["scores", "boxes"]
    assert g.worst("scores", outputs["scores"]) < SCORE_TOLERANCE
    assert g.worst("boxes", outputs["boxes"]) < BOX_TOLERANCE_PX
    for name, tolerance in (("scores", SCORE_TOLERANCE), ("boxes", BOX_TOLERANCE_PX)):
        computed, recorded = g.projection(name, outputs[name])
        assert computed == pytest.approx(recorded, abs=tolerance)
