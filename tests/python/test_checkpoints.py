"""Checkpoints of every form against the arrays that were written into them."""

from __future__ import annotations

import errno
import io
import os
import pathlib
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from safetensors import numpy as safetensors

import checkpoint_files as files
from swiftdet import ModelError, checkpoints

FORMS = {"zip": files.zip_file, "legacy": files.legacy_file}


@pytest.fixture
def save(tmp_path):
    def write(data: bytes, name: str = "model.pt") -> pathlib.Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def assert_state(state, expected) -> None:
    """Same names in the same order, same dtypes, same values; every array row-major and its own."""
    assert list(state) == list(expected)
    for name, array in state.items():
        assert array.dtype == expected[name].dtype, name
        assert array.flags.c_contiguous, name
        assert array.flags.writeable, name
        np.testing.assert_array_equal(array, expected[name], err_msg=name, strict=True)


def small_state(dtype: str = "float32") -> tuple[dict, dict]:
    """A state dict to be written, and the arrays in it."""
    random = np.random.default_rng(1)
    arrays = {f"backbone.{i}.conv.weight": random.normal(size=(4, 3, i, i)).astype(dtype) for i in (1, 3)}
    arrays["head.bias"] = random.normal(size=4).astype(dtype)
    return OrderedDict({name: files.tensor(array) for name, array in arrays.items()}), arrays


# --- A pickled tree of modules, as YOLOv7 ships it -----------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_official_yolov7_form(save, form, protocol, dtype):
    model, expected = files.yolov7_model(dtype)
    file = {
        "epoch": -1,
        "best_fitness": np.array([0.51]),
        "training_results": None,
        "model": model,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "wandb_id": None,
    }
    path = save(FORMS[form](file, protocol=protocol))
    read = checkpoints.read(path)
    assert_state(read.state, expected)
    assert read.names == ("kind 0", "kind 1")
    assert read.num_classes == 2
    assert read.config["anchors"] == [[12, 16, 19, 36, 40, 28]]
    assert (read.container, read.wrapper, read.module_class) == (f"torch {form}", "model", "models.yolo.Model")
    assert read.path == path
    assert len(read.sha256) == 64
    assert_state(checkpoints.load(path), expected)


def test_everything_a_training_file_carries_is_passed_over(save):
    model, expected = files.yolov7_model()
    momentum = {0: {"momentum_buffer": files.tensor(np.ones(3, np.float32))}}
    file = {
        "epoch": 12,
        "best_fitness": np.float64(0.5),
        "training_results": "0/2 1.2G 0.05\n" * 500,
        "model": files.yolov7_model(seed=1)[0],
        "ema": model,
        "updates": 4000,
        "optimizer": {"state": momentum, "param_groups": [{"lr": 0.01, "params": [0]}]},
        "folder": pathlib.PurePosixPath("runs/train"),
        "windows": pathlib.PureWindowsPath("C:/runs"),
        "random": (np.arange(5), b"\x80\xff", b"", {1, 2}, frozenset("ab"), 2**70, -1, -1000, 70_000, 1.5, "é", True),
        "made by": files.instance("argparse.Namespace2", hyp={"lr0": 0.01}),
        ("a", "tuple"): 1,
    }
    for protocol in (2, 3, 4, 5):
        read = checkpoints.read(save(files.zip_file(file, protocol=protocol)))
        assert read.wrapper == "ema"
        assert_state(read.state, expected)


def test_data_parallel_and_its_prefix(save):
    model, expected = files.yolov7_model()
    wrapped = files.module("torch.nn.parallel.data_parallel.DataParallel", modules={"module": model})
    read = checkpoints.read(save(files.zip_file({"model": wrapped})))
    assert_state(read.state, expected)
    assert read.names == ("kind 0", "kind 1")


def test_a_module_alone(save):
    model, expected = files.yolov7_model()
    read = checkpoints.read(save(files.zip_file(model)))
    assert_state(read.state, expected)
    assert read.wrapper == ""


def test_buffers_that_are_not_persistent_and_absent_parameters(save):
    inner = files.module(
        "a.B", buffers={"kept": files.tensor(np.ones(2)), "left": files.tensor(np.ones(2))}, passing={"left"}
    )
    outer = files.module("a.C", modules={"x": inner, "nothing": None, "y": inner}, parameters={"bias": None})
    state = checkpoints.load(save(files.zip_file(outer)))
    assert_state(state, {"x.kept": np.ones(2), "y.kept": np.ones(2)})


@pytest.mark.parametrize("names", [["cat", "dog"], {0: "cat", 1: "dog"}, ("cat", "dog")])
def test_names_in_each_form(save, names):
    state, _ = small_state()
    read = checkpoints.read(save(files.zip_file({"model": state, "names": names})))
    assert read.names == ("cat", "dog")
    assert read.num_classes == 2


@pytest.mark.parametrize("names", [{1: "cat", 2: "dog"}, [1, 2], [], "cat", [["cat"]], {"0": "cat"}, None])
def test_names_that_are_none(save, names):
    state, _ = small_state()
    read = checkpoints.read(save(files.zip_file({"model": state, "names": names})))
    assert read.names is None
    assert read.num_classes is None


def test_names_cannot_command_a_terminal(save):
    state, _ = small_state()
    read = checkpoints.read(save(files.zip_file({"model": state, "names": ["\x1b[2Jcat"]})))
    assert read.names == ("\N{REPLACEMENT CHARACTER}[2Jcat",)


# --- State dicts, as DAMO-YOLO ships them --------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("wrap", "wrapper"),
    [
        (lambda state: state, ""),
        (lambda state: {"model": state, "epoch": 300, "optimizer": {}, "feature_loss": None}, "model"),
        (lambda state: {"state_dict": state}, "state_dict"),
        (lambda state: {"ema": {}, "model": state}, "model"),
        (lambda state: {"model": {"state_dict": state}}, "model.state_dict"),
        (lambda state: {"ema": state, "model": {"x": files.tensor(np.ones(1))}}, "ema"),
    ],
)
def test_state_dict_under_its_wrapper(save, form, wrap, wrapper):
    state, arrays = small_state()
    read = checkpoints.read(save(FORMS[form](wrap(state))))
    assert_state(read.state, arrays)
    assert read.wrapper == wrapper
    assert read.module_class is None


@pytest.mark.parametrize("prefix", ["module.", "module.module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_removed(save, prefix):
    state, arrays = small_state()
    state = {prefix + name: tensor for name, tensor in state.items()}
    assert_state(checkpoints.load(save(files.zip_file({"model": state}))), arrays)


def test_a_prefix_that_not_all_names_share_stays(save):
    arrays = {"module.a": np.ones(2), "b": np.zeros(2)}
    state = {name: files.tensor(array) for name, array in arrays.items()}
    assert_state(checkpoints.load(save(files.zip_file(state))), arrays)


def test_attributes_of_a_state_dict_and_of_parameters(save):
    state, arrays = small_state()
    carrying = OrderedDict(state)
    carrying._metadata = OrderedDict({"": {"version": 1}})
    assert_state(checkpoints.load(save(files.zip_file(carrying))), arrays)
    parameters = {name: files.Parameter(tensor) for name, tensor in state.items()}
    assert_state(checkpoints.load(save(files.zip_file(parameters))), arrays)


# --- Tensors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"])
def test_dtypes_stay_as_stored(save, form, dtype):
    values = np.random.default_rng(2).integers(0, 2 if dtype == "bool" else 100, size=(3, 5)).astype(dtype)
    assert_state(checkpoints.load(save(FORMS[form]({"x": files.tensor(values)}))), {"x": values})


@pytest.mark.parametrize("form", FORMS)
def test_every_bfloat16_becomes_its_float32(save, form):
    bits = np.arange(1 << 16, dtype=np.uint16)
    state = checkpoints.load(save(FORMS[form]({"x": files.tensor(bits.reshape(256, 256), kind="bfloat16")})))
    expected = (bits.astype(np.uint32) << 16).view(np.float32).reshape(256, 256)
    assert state["x"].dtype == np.float32
    np.testing.assert_array_equal(state["x"].view(np.uint32), expected.view(np.uint32))


def test_a_bool_is_a_bool_whatever_the_byte(save):
    state = checkpoints.load(save(files.zip_file({"x": files.tensor(np.array([0, 1, 7], np.uint8), kind="bool")})))
    np.testing.assert_array_equal(state["x"].view(np.uint8), [0, 1, 1])


@pytest.mark.parametrize("form", FORMS)
def test_views_of_shared_storages(save, form):
    base = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    storage = files.Storage(base.reshape(-1), "float32")
    views = {
        "whole": base,
        "again": base,
        "transposed": base.transpose(3, 1, 0, 2),
        "strided": base[:, ::2, 1:3, ::3],
        "row": base[1, 2, 3],
        "one": base[1, 2, 3, 4:].reshape(()),
        "empty": base[:, 3:],
        "expanded": np.broadcast_to(base[0, 0, 0, :1], (6, 1)),
    }
    start = base.__array_interface__["data"][0]
    state = {
        name: files.view(storage, array, (array.__array_interface__["data"][0] - start) // 4 if array.size else 0)
        for name, array in views.items()
    }
    read = checkpoints.load(save(FORMS[form](state)))
    assert_state(read, views)
    names = list(read)
    shared = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if np.shares_memory(read[a], read[b])]
    assert shared == []


def test_storages_of_a_gpu(save):
    storage = files.Storage(np.ones(3, np.float16), "float16", module="torch.cuda")
    state = checkpoints.load(save(files.zip_file({"x": files.Tensor(storage, 0, (3,), (1,))})))
    assert_state(state, {"x": np.ones(3, np.float16)})


def test_a_tensor_without_an_array_hurts_only_when_it_is_a_weight(save):
    odd = files.tensor(np.ones(3, np.complex64))
    good = files.tensor(np.ones(3))
    for form in FORMS.values():
        assert_state(checkpoints.load(save(form({"model": {"x": good}, "other": odd}))), {"x": np.ones(3)})
        with pytest.raises(ModelError, match=r"tensor 'y' of complex64"):
            checkpoints.load(save(form({"model": {"x": good, "y": odd}})))


# --- safetensors ----------------------------------------------------------------------------------------------------


def test_safetensors_written_by_the_reference(save):
    random = np.random.default_rng(3)
    arrays = {
        f"layer.{dtype}": random.integers(0, 2, size=shape).astype(dtype)
        for dtype, shape in [
            ("float64", (2, 3)),
            ("float32", (4, 3, 3, 3)),
            ("float16", (5,)),
            ("int64", ()),
            ("int32", (1,)),
            ("int16", (3,)),
            ("int8", (2, 2)),
            ("uint8", (7,)),
            ("bool", (3,)),
            ("uint16", (0, 3)),
        ]
    }
    path = save(safetensors.save(arrays, metadata={"made by": "a test"}), "model.safetensors")
    read = checkpoints.read(path)
    assert_state({name: read.state[name] for name in arrays}, arrays)
    assert read.state.keys() == arrays.keys()
    assert read.metadata == {"made by": "a test"}
    assert (read.container, read.wrapper) == ("safetensors", "")


def test_safetensors_bfloat16(save):
    header = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    data = len(header).to_bytes(8, "little") + header + np.array([0x3F80, 0xC020], np.uint16).tobytes()
    assert_state(checkpoints.load(save(data)), {"x": np.array([1.0, -2.5], np.float32)})


@pytest.mark.parametrize("length", range(64, 140))
def test_safetensors_whatever_the_length_of_the_header(save, length):
    header = b'{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'.ljust(length)
    assert_state(
        checkpoints.load(save(length.to_bytes(8, "little") + header + b"ab")), {"x": np.array([97, 98], np.uint8)}
    )


# --- Files that are something else -----------------------------------------------------------------------------------


def test_zip64_and_checksums_left_out(save):
    state, arrays = small_state()
    data = files.zip_file(state)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    wide = io.BytesIO()
    with zipfile.ZipFile(wide, "w") as archive:
        for name, content in entries.items():
            with archive.open(name, "w", force_zip64=True) as entry:
                entry.write(content)
    assert_state(checkpoints.load(save(wide.getvalue())), arrays)
    without = bytearray(data)
    at = -1
    while (at := without.find(b"PK\x01\x02", at + 1)) >= 0:
        without[at + 16 : at + 20] = bytes(4)
    assert_state(checkpoints.load(save(bytes(without))), arrays)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"PK", "begins with b'PK'"),
        (b"<!DOCTYPE html><html>not found</html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\x08\x07\x12\x07pytorch", "expected a checkpoint"),
        (files.archive({"code/model.py": b"", "constants.pkl": b"", "data.pkl": b""}), "TorchScript.*ONNX"),
        (files.archive({"word/document.xml": b"<w/>"}), "without data.pkl"),
        (files.zip_of_pickle(b"\x80\x02K\x01."), "found int"),
        (files.zip_file({"epoch": 1, "hyp": {}}), "found only epoch, hyp"),
        (files.zip_file({}), "found nothing"),
        (files.zip_file({"model": {"epoch": 1}}), "found only epoch"),
        (files.zip_file([files.tensor(np.ones(1))]), "found list"),
        (files.archive({"data.pkl": b"\x80\x02}.", "byteorder": b"big"}), "big end first"),
        (files.pickle.dumps({"weight": [1.0]}, 2), "torch.save did not write"),
    ],
)
def test_files_that_are_no_checkpoint(save, data, message):
    path = save(data)
    with pytest.raises(ModelError, match=message) as caught:
        checkpoints.load(path)
    assert str(caught.value).startswith(f"checkpoint {path}: ")


def test_paths_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="no such file"):
        checkpoints.load(tmp_path / "missing.pt")
    with pytest.raises(ModelError, match="directory"):
        checkpoints.load(tmp_path)
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(ModelError, match="pipe"):
        checkpoints.load(str(tmp_path / "pipe.pt"))
    with pytest.raises(ModelError, match="no such file"):
        checkpoints.load("a\0b.pt")
    (tmp_path / "there.pt").write_bytes(b"PK")
    monkeypatch.setattr(pathlib.Path, "open", _failing_open)
    with pytest.raises(ModelError, match=r"cannot be read .*Input/output error"):
        checkpoints.load(tmp_path / "there.pt")


def _failing_open(*_):
    raise OSError(errno.EIO, os.strerror(errno.EIO))
