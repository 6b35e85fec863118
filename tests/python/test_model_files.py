"""Reading model files: what is refused, what is read, and that nothing outside the folder is touched."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import make_models
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_oracle
from swiftdet import model
from swiftdet.engines.signature import Port, Signature
from swiftdet.errors import BackendUnavailable, InvalidArgument, InvalidType, ModelError, SwiftdetError
from swiftdet.model_files.metadata import parse_metadata
from swiftdet.model_files.model_file import weights_precision
from swiftdet.model_files.names import COCO_80, parse_names

SIZE = (64, 96)


def save(folder: Path, layout: str = "yolov7-grid", **options) -> Path:
    path = folder / "model.onnx"
    onnx.save(make_models.build(layout, **{"size": SIZE, **options}), path)
    return path


def load(path: Path, **options) -> model.LoadedModel:
    return model.load(path, inspect=onnx_oracle.inspect, **options)


def never_inspected(*_args: object, **_options: object) -> Signature:
    raise AssertionError("the file should have been refused before an engine saw it")


# --- what is loaded ---


def test_an_untouched_file_is_handed_on_as_it_is(tmp_path):
    path = save(tmp_path)
    loaded = load(path)
    assert loaded.model == path.read_bytes()
    assert loaded.weights == b""
    assert loaded.path == path
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_path_may_be_text(tmp_path):
    assert load(str(save(tmp_path))).spec.family == "yolov7"


def test_describe_holds_only_json_types(tmp_path):
    loaded = load(save(tmp_path))
    described = model.describe(loaded)
    assert json.loads(json.dumps(described)) == json.loads(json.dumps(described, default=None))
    assert (described["family"], described["layout"], described["input_shape"]) == ("yolov7", "rows", [1, 3, 64, 96])
    assert json.loads(json.dumps(described)) == described
    assert described["spec"]["head"]["outputs"] == ["output"]
    assert described["format"] == "onnx"
    assert described["bytes"] == loaded.path.stat().st_size


def test_float16_ports_become_float32(tmp_path):
    """A model exported in half precision: the engine is fed and read in float32 all the same."""
    proto = make_models.build("yolov7-grid", size=SIZE)
    plain = onnx_oracle.run(proto.SerializeToString(), image())["output"]
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    path = tmp_path / "half.onnx"
    onnx.save(proto, path)
    loaded = load(path)
    assert (loaded.spec.head.layout, loaded.spec.head.outputs) == ("rows", ("output",))
    outputs = onnx_oracle.run(loaded.model, image())
    assert outputs["output"].dtype == np.float32
    np.testing.assert_allclose(outputs["output"], plain, rtol=0.02, atol=0.5)


@pytest.mark.parametrize("layout", ["yolov7-end2end-ort", "yolov7-end2end"])
def test_float16_graphs_are_cut_too(tmp_path, layout):
    proto = make_models.build(layout, size=SIZE)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for node in proto.graph.node:
        if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT:
            node.attribute[0].i = TensorProto.FLOAT16
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    path = tmp_path / "half.onnx"
    onnx.save(proto, path)
    outputs = onnx_oracle.run(load(path).model, image())
    assert {value.dtype for value in outputs.values()} == {np.dtype(np.float32)}


def test_a_float16_graph_between_float32_ports_is_cut(tmp_path):
    """As converters leave it that keep the types of inputs and outputs: the tensors before the suppression are half."""
    proto = make_models.build("yolov7-end2end", size=SIZE)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for node in proto.graph.node:
        for i, name in enumerate(node.input):
            if name == "images":
                node.input[i] = "half_images"
    proto.graph.node.insert(0, helper.make_node("Cast", ["images"], ["half_images"], to=TensorProto.FLOAT16))
    path = tmp_path / "half.onnx"
    onnx.save(proto, path)
    outputs = onnx_oracle.run(load(path).model, image())
    assert {value.dtype for value in outputs.values()} == {np.dtype(np.float32)}


def image() -> np.ndarray:
    return np.random.default_rng(2).random((1, 3, *SIZE), np.float32)


# --- what is no model ---


def test_missing_empty_and_foreign_files_are_told_apart(tmp_path):
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "text.onnx").write_text("this is not a model\n" * 10)
    cases = {
        "missing.onnx": "no such file",
        "missing.bin": "no such file",
        "empty.onnx": "0 bytes",
        "folder.onnx": "got a directory",
        "notes.txt": r"unknown suffix '.txt', expected .onnx or .xml",
        "text.onnx": "not an ONNX model, or a truncated one",
        ".": "a directory without an OpenVINO .xml",
    }
    for name, words in cases.items():
        with pytest.raises(ModelError, match=words):
            model.load(tmp_path / name, inspect=never_inspected)


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="regular file"):
        model.load(tmp_path / "model.onnx", inspect=never_inspected)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(tmp_path):
    path = save(tmp_path)
    path.chmod(0)
    with pytest.raises(ModelError, match="cannot be read"):
        model.load(path, inspect=never_inspected)


@pytest.mark.parametrize("name", ["bad\0name.onnx", "x" * 5000 + ".onnx", "x" * 5000, "x" * 5000 + ".xml"])
def test_impossible_names_are_refused(name):
    with pytest.raises(ModelError):
        model.load(name, inspect=never_inspected)


@pytest.mark.parametrize("suffix", [".engine", ".plan", ".trt"])
def test_engines_of_unknown_origin_are_refused_with_the_way_out(tmp_path, suffix):
    path = tmp_path / f"yolov7{suffix}"
    path.write_bytes(b"a plan of somebody")
    with pytest.raises(ModelError, match=r"no manifest .*`swiftdet build`, or pass trust_plan=True"):
        model.load(path, inspect=never_inspected)
    with pytest.raises(BackendUnavailable, match="only TensorRT can tell"):
        model.load(path, inspect=never_inspected, trust_plan=True)


@pytest.mark.parametrize("name", ["yolov8n", "yolov70", "./yolov7x"])
def test_other_names_are_missing_files(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no such file"):
        model.load(name, inspect=never_inspected)


@pytest.mark.parametrize("imgsz", [0, -32, (64, 0), 10**6])
def test_an_impossible_size_is_an_invalid_argument(tmp_path, imgsz):
    with pytest.raises(InvalidArgument, match="1 to 16384"):
        load(save(tmp_path), imgsz=imgsz)


@pytest.mark.parametrize("imgsz", [64.0, "64", (64,), (1, 2, 3), (64, True), True])
def test_a_size_of_another_type_is_an_invalid_type(tmp_path, imgsz):
    with pytest.raises(InvalidType, match="expected an int or"):
        load(save(tmp_path), imgsz=imgsz)


# --- damaged files ---


def declared(data: bytes, _weights: bytes = b"", *, input_shape: tuple[int, ...] | None = None) -> Signature:
    """Ports as the file declares them: an engine is not what is tested with damaged files."""
    graph = onnx.load_from_string(data).graph
    outputs = tuple(Port(o.name, tuple(d.dim_value or -1 for d in o.type.tensor_type.shape.dim)) for o in graph.output)
    return Signature((Port(graph.input[0].name, tuple(input_shape or ())),), outputs)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A truncation, or a copy with 1 to 32 flipped bits."""
    if rng.random() < 0.4:
        return data[: rng.integers(len(data))]
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 32))):
        out[rng.integers(len(out))] ^= 1 << int(rng.integers(8))
    return bytes(out)


@pytest.mark.parametrize("layout", ["ultralytics-columns", "yolov7-end2end-ort", "damo-end2end-trt7"])
@pytest.mark.parametrize("count", [300, pytest.param(3_000, marks=pytest.mark.slow)])
def test_damage_is_a_clear_error_or_harmless(tmp_path, layout, count):
    proto = make_models.build(layout, size=SIZE, classes=2)
    helper.set_model_props(proto, make_models.ultralytics_metadata(["a", "b"]))
    for tensor in proto.graph.initializer:  # mostly structure: flips in weights change nothing here
        if len(tensor.raw_data) > 512:
            del tensor.dims[:]
            tensor.dims.append(1)
            tensor.raw_data = b"\0" * 4
    data = proto.SerializeToString()
    rng, path, refused = np.random.default_rng(len(layout)), tmp_path / "model.onnx", 0
    for _ in range(count):
        path.write_bytes(damaged(data, rng))
        try:
            model.load(path, inspect=declared)
        except SwiftdetError:
            refused += 1
    assert refused > count // 10


def test_every_truncation_of_a_small_file_is_refused(tmp_path):
    data = save(tmp_path, "ultralytics-columns").read_bytes()
    path = tmp_path / "cut.onnx"
    for end in np.random.default_rng(3).integers(1, len(data) - 200, 60):
        path.write_bytes(data[:end])
        with pytest.raises(ModelError, match="not an ONNX model, or a truncated one"):
            model.load(path, inspect=never_inspected)


# --- external data ---


def with_external_data(folder: Path, location: str = "weights.bin", **entries: object) -> Path:
    """A model whose largest tensor lies in `location`; `entries` replace those of its description."""
    proto = make_models.build("yolov7-grid", size=SIZE)
    tensor = max(proto.graph.initializer, key=lambda t: len(t.raw_data))
    target = folder / location
    if location and ".." not in location and not Path(location).is_absolute() and target.parent.is_dir():
        target.write_bytes(b"\0" * 16 + tensor.raw_data)
    values = {"location": location, "offset": 16, "length": len(tensor.raw_data), **entries}
    for key, value in values.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("location", ["weights.bin", "sub/weights.bin", "./weights.bin"])
def test_external_data_in_the_folder_is_loaded(tmp_path, location):
    (tmp_path / "sub").mkdir()
    path = with_external_data(tmp_path, location)
    loaded = load(path)
    expected = onnx_oracle.run(make_models.build("yolov7-grid", size=SIZE).SerializeToString(), image())
    np.testing.assert_array_equal(onnx_oracle.run(loaded.model, image())["output"], expected["output"])
    assert loaded.sha256 != hashlib.sha256(path.read_bytes()).hexdigest()


def test_external_data_changes_the_digest(tmp_path):
    path = with_external_data(tmp_path)
    first = load(path).sha256
    data = bytearray((tmp_path / "weights.bin").read_bytes())
    data[20] ^= 1
    (tmp_path / "weights.bin").write_bytes(data)
    assert load(path).sha256 != first


def test_external_data_without_offset_and_length_is_the_whole_file(tmp_path):
    path = with_external_data(tmp_path, offset=None, length=None)
    data = (tmp_path / "weights.bin").read_bytes()[16:]
    (tmp_path / "weights.bin").write_bytes(data)
    assert load(path).spec.head.layout == "rows"


@pytest.mark.parametrize(
    "location",
    ["/etc/passwd", "../weights.bin", "sub/../../weights.bin", "C:\\weights.bin", "..\\weights.bin", "", "\\\\host\\x"],
)
def test_external_data_elsewhere_is_refused_by_name(tmp_path, location):
    (tmp_path / "models").mkdir()
    (tmp_path / "weights.bin").write_bytes(b"\0" * (1 << 20))
    path = with_external_data(tmp_path / "models", location)
    with pytest.raises(ModelError, match=r"external data of tensor '.*weight', location .*(inside the|relative to)"):
        model.load(path, inspect=never_inspected)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "models").mkdir()
    path = with_external_data(tmp_path / "models")
    (tmp_path / "models/weights.bin").rename(tmp_path / "weights.bin")
    (tmp_path / "models/weights.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(ModelError, match=r"location 'weights.bin': a link leads outside"):
        model.load(path, inspect=never_inspected)
    (tmp_path / "models/weights.bin").unlink()
    (tmp_path / "models/sub").symlink_to(tmp_path)
    with pytest.raises(ModelError, match="a link leads outside"):
        model.load(with_external_data(tmp_path / "models", "sub/weights.bin"), inspect=never_inspected)


def test_a_link_inside_the_folder_is_followed(tmp_path):
    path = with_external_data(tmp_path)
    (tmp_path / "weights.bin").rename(tmp_path / "blob")
    (tmp_path / "weights.bin").symlink_to("blob")
    assert load(path).spec.head.layout == "rows"


def test_missing_external_data_is_named(tmp_path):
    path = with_external_data(tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"tensor '.*weight', location 'weights.bin': no such file"):
        model.load(path, inspect=never_inspected)


@pytest.mark.parametrize(
    "entries", [{"length": 4}, {"offset": 10**9}, {"offset": -1}, {"length": "x"}, {"offset": 10**30}, {"length": -5}]
)
def test_external_data_of_another_size_is_refused(tmp_path, entries):
    with pytest.raises(ModelError, match="external data of tensor"):
        model.load(with_external_data(tmp_path, **entries), inspect=never_inspected)


def test_external_data_that_is_a_pipe_or_folder_is_refused(tmp_path):
    path = with_external_data(tmp_path)
    (tmp_path / "weights.bin").unlink()
    os.mkfifo(tmp_path / "weights.bin")
    with pytest.raises(ModelError, match="regular file"):
        model.load(path, inspect=never_inspected)


def test_external_data_of_a_constant_node_is_found_too(tmp_path):
    """Not only initialisers may point out of the file."""
    proto = make_models.build("yolov7-grid", size=SIZE)
    tensor = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=tensor))
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="tensor 'hidden', location '/etc/passwd'"):
        model.load(path, inspect=never_inspected)


# --- names and metadata ---


def test_coco_names():
    assert len(COCO_80) == len(set(COCO_80)) == 80
    assert (COCO_80[0], COCO_80[16], COCO_80[79]) == ("person", "dog", "toothbrush")


@pytest.mark.parametrize(
    ("literal", "names"),
    [
        ("{0: 'Normal', 1: 'Fall'}", ("Normal", "Fall")),
        ("['a', \"b's\"]", ("a", "b's")),
        ('{1: "y", 0: "x\\u00e9"}', ("xé", "y")),
        ('{"0": "x", "1": "y"}', ("x", "y")),
        ("  {0: 'a',}  ", ("a",)),
        ("{0: 'red\\x1b[31m'}", ("red\N{REPLACEMENT CHARACTER}[31m",)),
        ("{0: 'a', 2: 'b'}", None),
        ("{0: 'a', 0: 'b'}", ("b",)),
        ("{}", None),
        ("[]", None),
        ("", None),
        ("{0: __import__('os')}", None),
        ("['a' for _ in range(9)]", None),
        ("[[['a']]]", None),
        ("[" * 100_000, None),
        ("-" * 100_000 + "1", None),
        ("['\\N{no such name}']", None),
        ("['a'" + ", 'a'" * 400_000 + "]", None),
    ],
)
def test_names_are_read_from_flat_literals_only(literal, names):
    assert parse_names(literal) == names


@pytest.mark.timeout(120)  # guards against hanging alone
def test_names_do_not_take_quadratic_time():
    """A megabyte takes milliseconds; with a second look at each character it would take hours, and hit the limit."""
    for count in (10, 100_000):
        assert parse_names("{" + "0: 'a', " * count) is None
        assert parse_names("['" + "\\'" * 4 * count) is None
        assert parse_names("{" + "0: 'a', " * count + "1 'b'}") is None


def test_unreadable_names_are_an_error_not_a_guess(tmp_path):
    path = save(tmp_path, metadata={"names": "person,car", "stride": "32"})
    with pytest.raises(ModelError, match=r"metadata key 'names': expected a flat dict"):
        model.load(path, inspect=never_inspected)


@pytest.mark.parametrize(
    ("entries", "field", "value"),
    [
        ({"imgsz": "[640, 480]"}, "imgsz", (640, 480)),
        ({"imgsz": "640"}, "imgsz", (640, 640)),
        ({"imgsz": "[0, 640]"}, "imgsz", None),
        ({"imgsz": "[" * 1000}, "imgsz", None),
        ({"stride": "32"}, "stride", 32),
        ({"stride": "[8, 64]"}, "stride", 64),
        ({"stride": "big"}, "stride", None),
        ({"end2end": "True"}, "nms_done", True),
        ({"end2end": "False"}, "nms_done", False),
        ({"args": "{'batch': 1, 'nms': True}"}, "nms_done", True),
        ({}, "nms_done", None),
        ({"author": "Ultralytics"}, "ultralytics", True),
        ({"names": "['a']", "stride": "32"}, "ultralytics", True),
        ({"names": "['a']"}, "ultralytics", False),
        ({"task": "detect\x1b"}, "task", "detect\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_metadata_fields(entries, field, value):
    assert getattr(parse_metadata(entries), field) == value


# --- OpenVINO IR ---


@pytest.fixture(scope="module")
def write_ir():
    """Writes a model as IR in a process of its own: importing openvino has side effects that tests should not share."""

    def write(folder: Path, proto: onnx.ModelProto, name: str = "model") -> Path:
        source, target = folder / f"{name}.source", folder / f"{name}.xml"
        onnx.save(proto, source.with_suffix(".onnx"))
        code = "import sys, openvino as ov; ov.save_model(ov.Core().read_model(sys.argv[1]), sys.argv[2])"
        arguments = [sys.executable, "-c", code, str(source.with_suffix(".onnx")), str(target)]
        subprocess.run(arguments, check=True, capture_output=True, timeout=120)
        source.with_suffix(".onnx").unlink()
        return target

    return write


@pytest.mark.parametrize(
    "layout", ["yolov7-raw", "yolov7-raw-flat", "yolov7-tiny-raw", "yolov5-raw", "yolov7-grid", "damo-two-outputs"]
)
def test_an_ir_is_recognised_as_its_onnx_twin(tmp_path, write_ir, layout):
    proto = make_models.build(layout, size=SIZE)
    loaded = model.load(write_ir(tmp_path, proto))
    onnx.save(proto, tmp_path / "twin.onnx")
    twin = model.load(tmp_path / "twin.onnx")
    assert loaded.spec == twin.spec
    assert loaded.input_shape == twin.input_shape
    assert loaded.weights == (tmp_path / "model.bin").read_bytes()
    assert model.describe(loaded)["format"] == "openvino"


@pytest.mark.parametrize("layout", ["damo-raw", "damo-benchmark"])
def test_an_ir_of_maps_keeps_their_sigmoid(tmp_path, write_ir, layout):
    loaded = model.load(write_ir(tmp_path, make_models.build(layout, size=SIZE)))
    assert loaded.spec.head.scores_are_logits == (layout == "damo-raw")
    assert loaded.spec.head.layout == "distribution_maps"


def test_metadata_of_an_onnx_survives_its_conversion(tmp_path, write_ir):
    metadata = make_models.ultralytics_metadata(["cat", "dog's", 'a "b"'])
    loaded = model.load(write_ir(tmp_path, make_models.build("ultralytics-columns", size=SIZE, metadata=metadata)))
    assert loaded.spec.names == ("cat", "dog's", 'a "b"')


def test_an_ultralytics_folder_is_read_with_its_metadata(tmp_path, write_ir):
    folder = tmp_path / "yolo_openvino_model"
    folder.mkdir()
    write_ir(folder, make_models.build("ultralytics-columns", size=SIZE), "yolo")
    (folder / "metadata.yaml").write_text(
        "description: Ultralytics YOLO\nauthor: Ultralytics\ndate: '2026-01-01'\nstride: 32\ntask: detect\nbatch: 1\n"
        "imgsz:\n- 64\n- 96\nnames:\n  0: person\n  1: 'traffic light'\n  2: \"it's\"\nargs:\n  batch: 1\n"
    )
    loaded = model.load(folder)
    assert (loaded.spec.family, loaded.spec.names) == ("ultralytics", ("person", "traffic light", "it's"))
    assert loaded.path == folder


def test_labels_of_model_api_are_read(tmp_path, write_ir):
    path = write_ir(tmp_path, make_models.build("ultralytics-columns", size=SIZE))
    labels = '<rt_info><model_info><labels value="person traffic_light dog" /></model_info></rt_info></net>'
    path.write_text(path.read_text().replace("</net>", labels))
    assert model.load(path).spec.names == ("person", "traffic light", "dog")


def test_an_ir_of_half_precision_is_left_to_the_engine(tmp_path, write_ir):
    proto = make_models.build("yolov7-grid", size=SIZE)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    loaded = model.load(write_ir(tmp_path, proto))
    assert loaded.spec.head.layout == "rows"
    assert loaded.weights_precision == "fp16"


@pytest.mark.parametrize(
    ("counts", "precision"),
    [
        ({}, "fp32"),
        ({"int64": 900}, "fp32"),
        ({"float": 900, "float16": 100, "int64": 9000}, "fp32"),
        ({"float": 100, "FLOAT16": 900}, "fp16"),
        ({"f32": 10, "i8": 900}, "int8"),
        ({"bf16": 10}, "bf16"),
    ],
)
def test_most_numbers_decide_what_the_weights_are(counts, precision):
    assert weights_precision(counts) == precision


def test_what_the_weights_of_a_file_are(tmp_path, write_ir):
    """OpenVINO's own tools write weights in half precision unless told otherwise."""
    assert load(save(tmp_path)).weights_precision == "fp32"
    assert model.load(write_ir(tmp_path, make_models.build("yolov7-raw", size=SIZE))).weights_precision == "fp16"


def test_a_suppression_inside_an_ir_is_refused_with_the_way_out(tmp_path, write_ir):
    with pytest.raises(ModelError, match=r"stays open.*give swiftdet the ONNX file"):
        model.load(write_ir(tmp_path, make_models.build("yolov7-end2end-ort", size=SIZE)))


def test_incomplete_irs_are_refused(tmp_path, write_ir):
    path = write_ir(tmp_path, make_models.build("ultralytics-columns", size=SIZE))
    text = path.read_text()
    cases = {
        "cut": (text[: len(text) // 2], "truncated"),
        "doctype": (text.replace("<net ", '<!DOCTYPE net [<!ENTITY a "b">]><net ', 1), "document type"),
        "foreign": ("<html><layers/></html>", "holds <html>"),
        "no-layers": ("<net/>", "not <net> with layers"),
        "no-id": (text.replace(' id="1"', "", 1), "damaged"),
        "two-inputs": (text.replace('type="Const"', 'type="Parameter"', 1), "expected one input"),
        "binary": ("\0\1", "not an OpenVINO IR"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / f"{name}.xml").write_text(content)
        (tmp_path / f"{name}.bin").write_bytes((tmp_path / "model.bin").read_bytes())
        with pytest.raises(ModelError, match=words):
            model.load(tmp_path / f"{name}.xml", inspect=never_inspected)


def test_an_ir_needs_its_weights(tmp_path, write_ir):
    path = write_ir(tmp_path, make_models.build("ultralytics-columns", size=SIZE))
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="0 bytes"):
        model.load(path, inspect=never_inspected)
    (tmp_path / "model.bin").unlink()
    with pytest.raises(ModelError, match=r"keep model.bin beside it"):
        model.load(path, inspect=never_inspected)


def test_a_damaged_ir_is_a_clear_error_or_harmless(tmp_path, write_ir):
    path = write_ir(tmp_path, make_models.build("ultralytics-columns", size=SIZE))
    data, rng, refused = path.read_bytes(), np.random.default_rng(5), 0
    outputs = (Port("output0", (1, 7, 126)),)
    for _ in range(100):
        path.write_bytes(damaged(data, rng))
        try:
            model.load(path, inspect=lambda *_a, **_k: Signature((), outputs))
        except SwiftdetError:
            refused += 1
    assert refused > 20


# --- a real file ---


def test_a_real_export_is_recognised(real_model):
    loaded = load(real_model)
    assert (loaded.spec.family, loaded.spec.head.layout, loaded.spec.names) == (
        "ultralytics",
        "columns",
        ("Normal", "Fall"),
    )
    assert loaded.input_shape == (1, 3, 640, 640)
    assert not loaded.dynamic_batch
    assert loaded.model == real_model.read_bytes()
