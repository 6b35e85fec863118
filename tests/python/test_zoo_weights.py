"""From the name of a variant, or a checkpoint, to a detector and an exported file."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest

import swiftdet
from network_states import random_fill, state_of
from swiftdet import model as models
from swiftdet import zoo
from swiftdet.cli import main
from swiftdet.errors import InvalidArgument, ModelError
from swiftdet.spec import ModelSpec
from swiftdet.zoo import weights as zoo_weights

DATA = Path(__file__).parents[1] / "data"


def save_safetensors(path, state, metadata=None):
    """The published format: length of the header, header, data."""
    names = {"float32": "F32", "float16": "F16", "int64": "I64"}
    header, offset = {"__metadata__": metadata} if metadata else {}, 0
    for key, array in state.items():
        end = offset + array.nbytes
        header[key] = {"dtype": names[array.dtype.name], "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    data = b"".join(np.ascontiguousarray(array).tobytes() for array in state.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def tiny(folder):
    return save_safetensors(folder / "tiny.safetensors", state_of("yolov7-tiny", random_fill, num_classes=3))


@pytest.fixture(scope="module")
def nano(folder):
    return save_safetensors(folder / "nano.safetensors", state_of("damo-yolo-ns", random_fill))


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(1).integers(0, 256, (90, 120, 3), dtype=np.uint8)


# --- Finding ----------------------------------------------------------------------------------------------------------


def test_a_name_without_weights_says_how_to_get_them():
    with pytest.raises(ModelError, match=r"downloads none: .*WongKinYiu/yolov7 has yolov7x\.pt; .*weights='synthetic'"):
        swiftdet.Detector("yolov7x")
    with pytest.raises(ModelError, match="tinyvision/DAMO-YOLO"):
        models.load("damo-yolo-s")


def test_an_alias(tiny):
    with pytest.raises(ModelError, match=r"not those of yolov7: .*they fit yolov7-tiny"):
        models.load("yolov7l", weights=tiny)


def test_a_checkpoint_tells_its_variant(tiny, nano):
    assert zoo_weights.find(tiny).variant.name == "yolov7-tiny"
    found = zoo_weights.find(nano)
    assert found.variant.name == "damo-yolo-ns"
    assert found.sha256 == hashlib.sha256(nano.read_bytes()).hexdigest()
    with pytest.raises(InvalidArgument, match="holds weights already"):
        zoo_weights.find(tiny, nano)


def test_a_checkpoint_of_no_variant_is_compared_with_the_nearest(folder):
    state = state_of("damo-yolo-ns", random_fill) | {"head.more": np.zeros(2, np.float32)}
    path = save_safetensors(folder / "other.safetensors", state)
    with pytest.raises(ModelError, match=r"of no variant .* nearest is damo-yolo-ns, with 1 unknown: head\.more \[2\]"):
        models.load(path)


def test_weights_beside_a_file_that_has_its_own(folder, tiny):
    path = folder / "made.onnx"
    path.write_bytes(zoo.build("damo-yolo-ns").SerializeToString())
    with pytest.raises(InvalidArgument, match="carries its weights"):
        models.load(path, weights=tiny)
    with pytest.raises(InvalidArgument, match="no name of the zoo"):
        models.load("yolov7-huge", weights=tiny)
    with pytest.raises(ModelError, match="no name of the zoo"):
        models.load("yolov7-huge")


def test_a_checkpoint_that_contradicts_itself_about_its_classes():
    weights = zoo_weights.Weights(
        zoo.info("damo-yolo-ns"), state_of("damo-yolo-ns", random_fill), ("cat", "dog"), "x.pt"
    )
    with pytest.raises(ModelError, match=r"x\.pt: it names 2 classes, but its head has 80"):
        weights.build()
    with pytest.raises(InvalidArgument, match="multiples of 32"):
        zoo_weights.Weights(weights.variant, weights.state).build(imgsz=100)


def test_another_family_than_asked_for(tiny):
    with pytest.raises(ModelError, match="family 'damo-yolo' was asked for"):
        models.load(tiny, family="damo-yolo")


@pytest.mark.parametrize(("layers", "variant"), [("nn.LeakyReLU(0.1)", "yolov7-tiny"), ("None", "yolov7-tiny-silu")])
def test_the_two_tiny_variants_are_told_apart_by_the_description(layers, variant):
    config = {"backbone": [[-1, 1, "Conv", [32, 3, 2, "None", 1, layers]]]}
    assert zoo_weights._tiny_by_config(config) == variant
    assert zoo_weights._tiny_by_config(None) is None
    assert zoo_weights._tiny_by_config({"nc": 80}) is None


# --- Loading and detecting --------------------------------------------------------------------------------------------


def test_a_loaded_variant_describes_itself(tiny):
    loaded = models.load("yolov7-tiny", weights=tiny, imgsz=(320, 416))
    assert loaded.spec.imgsz == (320, 416)
    assert loaded.input_shape == (1, 3, 320, 416)
    assert loaded.spec.names == ("class0", "class1", "class2")
    assert (loaded.dynamic_batch, loaded.dynamic_size) == (True, True)
    assert loaded.path == tiny
    description = models.describe(loaded)
    assert description["variant"] == "yolov7-tiny"
    assert description["synthetic"] is False
    json.dumps(description)
    with pytest.raises(InvalidArgument, match="multiples of 32; try 320x416"):
        models.load(tiny, imgsz=(310, 410))


@pytest.mark.parametrize("name", ["yolov7-tiny", "damo-yolo-ns"])
def test_a_detector_of_a_checkpoint_equals_that_of_its_export(name, tiny, nano, picture, folder):
    checkpoint = tiny if name == "yolov7-tiny" else nano
    exported = folder / f"{name}.onnx"
    assert main(["export", name, "--weights", str(checkpoint), "-o", str(exported), "--imgsz", "128x160"]) == 0
    everything = {"imgsz": (128, 160), "conf": 0.0, "iou": 1.0, "max_det": 10000}  # no threshold near which to differ
    with swiftdet.Detector(name, weights=checkpoint, **everything) as direct:
        expected = by_score(direct(picture))
    for engine in ("openvino", "onnxruntime"):
        with swiftdet.Detector(exported, engine=engine, **everything) as detector:
            found = by_score(detector(picture))
        assert len(found) == len(expected) > 400
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def by_score(detections):
    return np.sort(detections.conf)


def test_a_detector_with_made_up_weights(picture):
    with swiftdet.Detector("damo-yolo-ns", weights="synthetic", imgsz=128) as detector:
        assert detector.spec.synthetic
        assert detector.imgsz == (128, 128)
        assert len(detector(picture)) == 0
        assert len(detector(picture, conf=0.001, imgsz=160)) > 0


def test_a_pickle_that_would_run_code_is_refused(folder):
    class Hostile:
        def __reduce__(self):
            return (print, ("executed",))

    path = folder / "hostile.pt"
    path.write_bytes(pickle.dumps({"model": Hostile()}))
    with pytest.raises(ModelError, match=r"checkpoint .*hostile\.pt"):
        swiftdet.Detector("yolov7", weights=path)


# --- Exporting --------------------------------------------------------------------------------------------------------


def test_export_writes_a_model_that_describes_itself(folder, tiny, capsys):
    target = folder / "new" / "out.onnx"
    code = main(
        ["export", str(tiny), "-o", str(target), "--imgsz", "64x96", "--batch", "2", "--head", "decoded", "--json"]
    )
    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert document["format"] == "swiftdet.export/1"
    assert document["variant"] == "yolov7-tiny"
    assert document["inputs"] == {"images": [2, 3, 64, 96]}
    assert document["outputs"] == {"output": [2, 3 * (96 + 24 + 6), 8]}
    assert document["sha256"] == hashlib.sha256(target.read_bytes()).hexdigest()
    assert document["weights_sha256"] == hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert (document["synthetic"], document["bytes"]) == (False, target.stat().st_size)
    onnx.checker.check_model(onnx.load(target))
    spec = ModelSpec.from_json({p.key: p.value for p in onnx.load(target).metadata_props}["swiftdet.spec"])
    assert spec.imgsz == (64, 96)
    assert models.load(target).spec.head == spec.head
    assert [path.name for path in target.parent.iterdir()] == ["out.onnx"]


def test_export_of_made_up_weights_says_so(folder, capsys):
    target = folder / "made_up.onnx"
    assert main(["export", "damo-yolo-ns", "--weights", "synthetic", "-o", str(target), "imgsz=dynamic"]) == 0
    assert "fit for measuring latency, not for detecting" in capsys.readouterr().out
    assert models.load(target).spec.synthetic
    assert models.load(target, imgsz=64).input_shape == (1, 3, 64, 64)


def test_export_says_what_it_folded(folder, capsys):
    target = folder / "folded.onnx"
    options = ["--channel-order", "bgr", "--fold-divisor", "--json"]
    assert main(["export", "yolov7-tiny", "--weights", "synthetic", "-o", str(target), *options]) == 0
    label = json.loads(capsys.readouterr().out)["build"]
    assert (label["channel_order"], label["divisor_folded"]) == ("bgr", 255.0)
    preprocess = models.load(target).spec.preprocess
    assert (preprocess.channel_order, preprocess.divisor) == ("bgr", 1.0)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["yolov7-tiny"], 1, "name without weights"),
        (["yolov7-tiny", "--weights", "no.pt"], 1, "no.pt"),
        (["yolov7-tiny", "--weights", "synthetic", "--precision", "int8"], 2, "builds 'fp32' and 'fp16', got 'int8'"),
        (["yolov7-tiny", "--weights", "synthetic", "--imgsz", "100"], 2, "multiples of 32"),
        (["yolov7-tiny", "--weights", "synthetic", "--imgsz", "big"], 2, "expected a size"),
        (["yolov7-tiny", "--weights", "synthetic", "--batch", "0"], 2, "--batch"),
        (["yolov7-tiny", "--weights", "synthetic", "--head", "nms"], 2, "'raw' or 'decoded'"),
        (["yolov7-tiny", "--weights", "synthetic", "--channel-order", "gbr"], 2, "'rgb' or 'bgr'"),
        (["model.onnx"], 1, "no checkpoint and none of yolov7-tiny"),
    ],
)
def test_export_refuses(folder, capsys, arguments, code, words):
    target = folder / "never.onnx"
    assert main(["export", *arguments, "-o", str(target)]) == code
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not target.exists()


def test_export_needs_an_onnx_name(folder, capsys):
    assert main(["export", "yolov7-tiny", "--weights", "synthetic", "-o", str(folder / "out.engine")]) == 2
    assert "ending in .onnx" in capsys.readouterr().err


def test_models_prints_the_verified_totals(capsys):
    """Counted on the official definitions, not on our graphs; see tests/data/README.md."""
    totals = json.loads((DATA / "official_totals.json").read_text())
    assert main(["models", "--json"]) == 0
    printed = {v["name"]: v for v in json.loads(capsys.readouterr().out)["variants"]}
    assert list(printed) == zoo.names() == list(totals)
    for name, total in totals.items():
        side = printed[name]["imgsz"][0]
        scale = (side / total["size"]) ** 2  # every map of these networks is in proportion to the image
        assert printed[name]["params"] == total["params"], name
        rounding = 0.5 * 10.0 ** -total["decimals"] * scale + 0.005
        assert abs(printed[name]["gflops"] - total["gflops"] * scale) <= rounding + 1e-9, name


def test_a_folder_that_merely_has_a_model_s_name_is_not_the_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo-yolov7").mkdir()
    (tmp_path / "demo-yolov7/predictions.json").write_text("{}")
    with swiftdet.Detector("demo-yolov7") as detector:
        assert detector.spec.family == "yolov7"
    (tmp_path / "demo-yolov7/broken.xml").write_text("<net/>")
    with pytest.raises(swiftdet.ModelError):
        swiftdet.Detector("demo-yolov7")
