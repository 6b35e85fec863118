"""The OpenVINO engine against onnxruntime, and on bad input, in threads and in forked processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engine_models import DYNAMIC, STATIC, conv_model, images, make_model, reference
from swiftdet import _core, engines
from swiftdet.engines import openvino
from swiftdet.errors import BackendUnavailable, InvalidArgument, InvalidType, ModelError

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def runtime():
    return openvino.runtime()


def assert_equals_reference(backend, model, batch, **tolerance):
    got = backend.infer(batch)
    want = reference(model, batch)
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == np.float32
        assert g.shape == w.shape
        np.testing.assert_allclose(g, w.astype(np.float32), **(tolerance or CLOSE))


@pytest.mark.parametrize("performance", ["latency", "throughput"])
def test_a_static_model_equals_onnxruntime(runtime, performance):
    model = conv_model()
    backend = runtime.compile(model, performance=performance)
    assert backend.input == ("images", STATIC)
    assert backend.outputs == [("features", (1, 4, 16, 24)), ("peaks", (1, 1, 16, 24))]
    for seed in range(3):
        assert_equals_reference(backend, model, images(seed=seed))


@pytest.mark.parametrize("shape", [(1, 3, 16, 24), (3, 3, 16, 24), (2, 3, 7, 9), (1, 3, 1, 1)])
def test_a_dynamic_model_takes_any_shape(runtime, shape):
    model = conv_model(DYNAMIC)
    backend = runtime.compile(model)
    assert backend.input == ("images", (-1, 3, -1, -1))
    assert backend.outputs[0] == ("features", (-1, 4, -1, -1))
    assert_equals_reference(backend, model, images(shape))


def test_float16_ports_become_float32(runtime):
    model = conv_model(dtype=np.float16)
    # onnxruntime accumulates in its own way in half precision; ours computes in float32.
    assert_equals_reference(runtime.compile(model), model, images(), rtol=5e-3, atol=5e-3)


def test_integer_ports_become_float32(runtime):
    model = make_model(
        [
            helper.make_node("Cast", ["images"], ["as_float"], to=TensorProto.FLOAT),
            helper.make_node("ArgMax", ["images"], ["best"], axis=1),
        ],
        ["as_float", ("best", TensorProto.INT64)],
        dtype=TensorProto.UINT8,
    )
    batch = np.floor(images() * 256)
    assert_equals_reference(runtime.compile(model), model, batch, rtol=0, atol=0)


def test_outputs_whose_shape_depends_on_the_data(runtime):
    model = make_model([helper.make_node("NonZero", ["images"], ["found"])], [("found", TensorProto.INT64)])
    session = runtime.compile(model).create_session(STATIC)
    for count in (3, 1, 0, 5):
        session.input[...] = 0
        session.input[0, 0, 0, :count] = 1
        session.infer()
        np.testing.assert_array_equal(session.outputs()[0][3], np.arange(count))


def test_an_input_shape_replaces_the_files(runtime):
    model = conv_model()
    backend = runtime.compile(model, input_shape=(2, 3, 8, 8))
    assert backend.input == ("images", (2, 3, 8, 8))
    assert backend.outputs[0] == ("features", (2, 4, 8, 8))
    assert_equals_reference(backend, conv_model(DYNAMIC), images((2, 3, 8, 8)))
    open_batch = runtime.compile(model, input_shape=(-1, 3, 8, 8))
    assert open_batch.input == ("images", (-1, 3, 8, 8))
    assert_equals_reference(open_batch, conv_model(DYNAMIC), images((4, 3, 8, 8)))


@pytest.mark.parametrize("shape", [(1, 4, 16, 24), (1, 3, 16), (1, 3, 0, 24), (1, 3, -2, 24), (1,) * 7])
def test_an_impossible_input_shape_is_refused(runtime, shape):
    with pytest.raises(InvalidArgument, match="input_shape"):
        runtime.compile(conv_model(), input_shape=shape)


def test_inspect_agrees_with_the_compiled_network(runtime):
    for model in (conv_model(), conv_model(DYNAMIC)):
        backend = runtime.compile(model)
        assert runtime.inspect(model) == ([backend.input], backend.outputs)
    inputs, outputs = runtime.inspect(conv_model(), input_shape=(5, 3, 8, -1))
    assert inputs == [("images", (5, 3, 8, -1))]
    assert outputs[1] == ("peaks", (5, 1, 8, -1))


def test_output_names_are_the_files_own(runtime):
    # An Identity makes both names one tensor to OpenVINO, which may then answer with either.
    for name in ("a_first", "z_last"):
        model = make_model(
            [
                helper.make_node("Relu", ["images"], ["inner"]),
                helper.make_node("Identity", ["inner"], [name]),
            ],
            [name, "inner"],
        )
        assert [n for n, _ in runtime.inspect(model)[1]] == [name, "inner"]
        assert_equals_reference(runtime.compile(model), model, images())


def test_an_output_that_is_the_input(runtime):
    model = make_model([helper.make_node("Identity", ["images"], ["same"])], ["same"])
    backend = runtime.compile(model)
    assert backend.outputs == [("same", STATIC)]
    assert_equals_reference(backend, model, images(), rtol=0, atol=0)


def test_several_inputs_are_refused_by_name(runtime):
    model = make_model(
        [helper.make_node("Add", ["images", "offset"], ["sum"])],
        ["sum"],
        extra_inputs=[helper.make_tensor_value_info("offset", TensorProto.FLOAT, [1])],
    )
    assert len(runtime.inspect(model)[0]) == 2
    with pytest.raises(ModelError, match=r"one input.*'images' \[1, 3, 16, 24\], 'offset' \[1\]"):
        runtime.compile(model)


# --- OpenVINO IR ----------------------------------------------------------------------------------

IR = """<?xml version="1.0"?>
<net name="scale" version="11">
  <layers>
    <layer id="0" name="images" type="Parameter" version="opset1">
      <data shape="1,3,4,4" element_type="f32"/>
      <output><port id="0" precision="FP32" names="images">
        <dim>1</dim><dim>3</dim><dim>4</dim><dim>4</dim></port></output>
    </layer>
    <layer id="1" name="factors" type="Const" version="opset1">
      <data element_type="f32" shape="1,3,1,1" offset="0" size="12"/>
      <output><port id="0" precision="FP32"><dim>1</dim><dim>3</dim><dim>1</dim><dim>1</dim></port></output>
    </layer>
    <layer id="2" name="times" type="Multiply" version="opset1">
      <data auto_broadcast="numpy"/>
      <input>
        <port id="0" precision="FP32"><dim>1</dim><dim>3</dim><dim>4</dim><dim>4</dim></port>
        <port id="1" precision="FP32"><dim>1</dim><dim>3</dim><dim>1</dim><dim>1</dim></port>
      </input>
      <output><port id="2" precision="FP32" {names}>
        <dim>1</dim><dim>3</dim><dim>4</dim><dim>4</dim></port></output>
    </layer>
    <layer id="3" name="result" type="Result" version="opset1">
      <input><port id="0" precision="FP32"><dim>1</dim><dim>3</dim><dim>4</dim><dim>4</dim></port></input>
    </layer>
  </layers>
  <edges>
    <edge from-layer="0" from-port="0" to-layer="2" to-port="0"/>
    <edge from-layer="1" from-port="0" to-layer="2" to-port="1"/>
    <edge from-layer="2" from-port="2" to-layer="3" to-port="0"/>
  </edges>
</net>
"""
FACTORS = np.array([2, 3, 5], np.float32)


def ir(names='names="scaled"') -> bytes:
    return IR.format(names=names).encode()


def test_an_ir_runs_with_its_weights(runtime):
    weights = FACTORS.tobytes()
    backend = runtime.compile(ir(), weights)
    del weights  # the engine keeps its own copy
    batch = images((1, 3, 4, 4))
    np.testing.assert_array_equal(backend.infer(batch)[0], batch * FACTORS[:, None, None])
    assert backend.outputs == [("scaled", (1, 3, 4, 4))]


def test_an_output_without_a_name_gets_one(runtime):
    backend = runtime.compile(ir(names=""), FACTORS.tobytes())
    assert backend.outputs == [("output_0", (1, 3, 4, 4))]


@pytest.mark.parametrize("weights", [b"", FACTORS.tobytes()[:5]])
def test_an_ir_without_all_its_weights_is_refused(runtime, weights):
    with pytest.raises(ModelError, match="OpenVINO"):
        runtime.compile(ir(), weights)


# --- files that are no networks -------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        b"",
        b"garbage",
        b"<net",
        b"<?xml version='1.0'?><html/>",
        b"\x00" * 100,
        conv_model()[:-20],
        conv_model()[:100],
    ],
    ids=["empty", "text", "cut xml", "other xml", "zeros", "nearly whole", "beginning"],
)
def test_unreadable_models_are_model_errors(runtime, model):
    for read in (runtime.inspect, runtime.compile):
        with pytest.raises(ModelError):
            read(model)


def test_every_truncation_is_a_model_error(runtime):
    model = conv_model()
    for length in range(0, len(model) - 1, 7):
        with pytest.raises(ModelError):
            runtime.inspect(model[:length])


@pytest.mark.parametrize("place", ["initializer", "constant", "branch"])
def test_data_in_other_files_is_never_read(runtime, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(np.ones(3, np.float32).tobytes())
    tensor = TensorProto(name="factors", data_type=TensorProto.FLOAT, dims=[1, 3, 1, 1], data_location=1)
    tensor.external_data.add(key="location", value="secret.bin")
    constant = helper.make_node("Constant", [], ["factors"], value=tensor)
    times = helper.make_node("Mul", ["images", "factors"], ["scaled"])
    if place == "initializer":
        model = make_model([times], ["scaled"], initializers=[tensor])
    elif place == "constant":
        model = make_model([constant, times], ["scaled"])
    else:
        out = helper.make_tensor_value_info("scaled", TensorProto.FLOAT, None)
        branch = helper.make_graph([constant, times], "branch", [], [out])
        yes = onnx.numpy_helper.from_array(np.array(True), "yes")
        node = helper.make_node("If", ["yes"], ["result"], then_branch=branch, else_branch=branch)
        model = make_model([node], ["result"], initializers=[yes])
    with pytest.raises(ModelError, match="'factors' is in another file"):
        runtime.inspect(model)


def test_an_onnx_model_takes_no_weights(runtime):
    with pytest.raises(ModelError, match="takes no separate weights"):
        runtime.compile(conv_model(), b"1234")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("performance", "fast"),
        ("inference_precision", "int3"),
        ("inference_precision", ""),
        ("num_threads", -1),
    ],
)
def test_bad_options_are_refused(runtime, option, value):
    with pytest.raises(InvalidArgument, match=option):
        runtime.compile(conv_model(), **{option: value})


def test_the_number_of_threads_reaches_the_plugin(runtime):
    model = conv_model()
    assert_equals_reference(runtime.compile(model, num_threads=1), model, images(), **CLOSE)


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_a_reduced_precision_is_had_or_refused(runtime, precision):
    """Which of the two depends on the processor; what must not happen is that another one is run in silence."""
    model = conv_model()
    try:
        backend = runtime.compile(model, inference_precision=precision)
    except BackendUnavailable:
        with pytest.raises(BackendUnavailable, match=f"'{precision}' is asked for"):
            runtime.compile(model, inference_precision=precision)
        return
    assert backend.description.endswith(f"CPU {precision}")
    assert_equals_reference(backend, model, images(), rtol=2e-2, atol=2e-2)  # covers bf16's 8 bits


def test_compiled_networks_are_cached_on_request(runtime, tmp_path):
    cache = tmp_path / "cache"
    model = conv_model()
    assert_equals_reference(runtime.compile(model, cache_dir=cache), model, images())
    blobs = sorted(cache.iterdir())
    assert blobs
    assert_equals_reference(runtime.compile(model, cache_dir=cache), model, images())
    assert sorted(cache.iterdir()) == blobs


# --- sessions -------------------------------------------------------------------------------------


def test_sessions_have_aligned_views_that_are_used_in_place(runtime):
    model = conv_model()
    session = runtime.compile(model).create_session(STATIC)
    view = session.input
    assert view.shape == STATIC
    assert view.flags.writeable
    assert view.ctypes.data % 64 == 0
    session.infer()
    outputs = session.outputs()
    assert all(o.ctypes.data % 64 == 0 and not o.flags.writeable for o in outputs)
    for seed in range(3):
        view[...] = images(seed=seed)
        session.infer()
        for output, want in zip(outputs, reference(model, view), strict=True):
            np.testing.assert_allclose(output, want, **CLOSE)


@pytest.mark.parametrize("operation", ["Relu", "Sigmoid", "Mul", "Reshape", "Concat", "Split", "Identity", "Cast"])
def test_the_input_is_never_written(runtime, operation):
    """The detector counts on it: of frames of one size only the image is written, the border stays. Each network
    begins with an operation that a plugin may like to do in place."""
    nodes = {
        "Mul": [helper.make_node("Mul", ["images", "images"], ["y"])],
        "Reshape": [
            helper.make_node("Constant", [], ["shape"], value_ints=[1, -1]),
            helper.make_node("Reshape", ["images", "shape"], ["x"]),
            helper.make_node("Relu", ["x"], ["y"]),
        ],
        "Concat": [
            helper.make_node("Concat", ["images", "images"], ["x"], axis=1),
            helper.make_node("Relu", ["x"], ["y"]),
        ],
        "Split": [
            helper.make_node("Split", ["images"], ["a", "b", "c"], axis=1),
            helper.make_node("Relu", ["b"], ["y"]),
        ],
        "Cast": [
            helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT),
        ],
    }.get(operation, [helper.make_node(operation, ["images"], ["y"])])
    for performance in ("latency", "throughput"):
        session = runtime.compile(make_model(nodes, ["y"]), performance=performance).create_session(STATIC)
        given = images(seed=5) - np.float32(0.5)
        session.input[...] = given
        for _ in range(3):
            session.infer()
            np.testing.assert_array_equal(session.input, given)


def test_a_view_keeps_its_session_and_engine_alive(runtime):
    view = runtime.compile(conv_model()).create_session(STATIC).input
    view[...] = 7
    assert (view == 7).all()


def test_a_static_network_refuses_other_shapes_and_names_both(runtime):
    backend = runtime.compile(conv_model())
    with pytest.raises(InvalidArgument, match=r"\[1, 3, 16, 24\], got \[1, 3, 16, 16\]"):
        backend.create_session((1, 3, 16, 16))
    with pytest.raises(InvalidArgument, match=r"\[1, 3, 16, 24\]"):
        backend.infer(images((2, 3, 16, 24)))


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 3, 8), (0, 3, 8, 8), (1, 3, 8, -1), (1, 3, 2**31, 2**31)])
def test_a_dynamic_network_refuses_shapes_that_do_not_fit(runtime, shape):
    with pytest.raises(InvalidArgument):
        runtime.compile(conv_model(DYNAMIC)).create_session(shape)


@pytest.mark.parametrize(
    "batch",
    [images().astype(np.float64), images((1, 3, 24, 16)).transpose(0, 1, 3, 2)],
    ids=["float64", "strided"],
)
def test_infer_takes_only_contiguous_float32(runtime, batch):
    with pytest.raises(InvalidType, match="C-contiguous, aligned float32"):
        runtime.compile(conv_model()).infer(batch)


@pytest.mark.parametrize("performance", ["latency", "throughput"])
@pytest.mark.parametrize("shape", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_threads_share_one_engine(runtime, performance, shape):
    backend = runtime.compile(conv_model(shape), performance=performance)
    batches = [images(seed=seed) for seed in range(6)]
    serial = [backend.infer(batch) for batch in batches]
    barrier = threading.Barrier(len(batches))
    failures = []

    def work(index):
        session = backend.create_session(STATIC)
        barrier.wait()
        for _ in range(50):
            session.input[...] = batches[index]
            session.infer()
            if not all(np.array_equal(g, w) for g, w in zip(session.outputs(), serial[index], strict=True)):
                failures.append(index)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_provenance(runtime):
    backend = runtime.compile(conv_model())
    assert backend.description == f"OpenVINO {runtime.version} CPU f32"
    assert runtime.version[:2] == "20"
    assert "CPU" in runtime.devices
    assert backend.preferred_sessions >= 1
    threaded = runtime.compile(conv_model(), performance="throughput", num_threads=2)
    assert threaded.preferred_sessions >= backend.preferred_sessions


# --- the library and the process ------------------------------------------------------------------


def test_one_runtime_for_each_folder(runtime, tmp_path):
    folder = openvino.library_dir()
    assert _core.OpenVINORuntime.load(folder) is runtime
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert _core.OpenVINORuntime.load(link) is runtime


def test_a_missing_library_says_how_to_install_it(tmp_path):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(BackendUnavailable, match="pip install openvino"):
            _core.OpenVINORuntime.load(folder)


def test_a_broken_library_is_unavailable(tmp_path):
    (tmp_path / "libopenvino_c.so.1").write_bytes(b"not a library")
    with pytest.raises(BackendUnavailable, match="does not load"):
        _core.OpenVINORuntime.load(tmp_path)


def test_the_environment_names_another_folder(monkeypatch, tmp_path):
    monkeypatch.setenv(openvino.LIBRARY_VARIABLE, str(tmp_path))
    with pytest.raises(BackendUnavailable, match=openvino.LIBRARY_VARIABLE):
        openvino.library_dir()
    (tmp_path / "libopenvino_c.so.1").touch()
    assert openvino.library_dir() == tmp_path


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.delenv(openvino.LIBRARY_VARIABLE, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(BackendUnavailable, match="pip install 'openvino"):
        openvino.library_dir()


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    tests = os.path.dirname(__file__)  # noqa: PTH120
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_python_package_is_never_imported_and_nothing_is_printed():
    done = run_python(
        "import sys\n"
        "from engine_models import conv_model, images\n"
        "from swiftdet import engines\n"
        "backend = engines.compile(conv_model())\n"
        "backend.infer(images())\n"
        "try: engines.inspect(b'garbage')\n"
        "except Exception as e: assert type(e).__name__ == 'ModelError'\n"
        "loaded = [m for m in sys.modules if m.split('.')[0].startswith('openvino')]\n"
        "sys.exit(f'imported: {loaded}' if loaded else 0)\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_forked_child_is_told_not_to_go_on():
    done = run_python(
        "import gc, os, sys\n"
        "from engine_models import STATIC, conv_model, images\n"
        "from swiftdet import engines\n"
        "from swiftdet.errors import BackendError\n"
        "backend = engines.compile(conv_model())\n"
        "session = backend.create_session(STATIC)\n"
        "session.infer()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    calls = [session.infer, lambda: backend.infer(images()),\n"
        "             lambda: engines.compile(conv_model()), lambda: engines.inspect(conv_model())]\n"
        "    refused = 0\n"
        "    for call in calls:\n"
        "        try: call()\n"
        "        except BackendError as e: refused += 'spawn' in str(e)\n"
        "    del calls, call, session, backend\n"
        "    gc.collect()\n"
        "    os._exit(0 if refused == 4 else 1)\n"
        "_, status = os.waitpid(child, 0)\n"
        "session.infer()\n"
        "sys.exit(os.waitstatus_to_exitcode(status))\n"
    )
    assert done.returncode == 0, done.stderr


def test_engines_inspect_gives_a_signature():
    signature = engines.inspect(conv_model(DYNAMIC))
    assert signature.inputs == (engines.Port("images", (-1, 3, -1, -1)),)
    assert [p.name for p in signature.outputs] == ["features", "peaks"]
    narrowed = engines.inspect(conv_model(DYNAMIC), input_shape=(2, 3, 8, 8))
    assert narrowed.outputs[0] == engines.Port("features", (2, 4, 8, 8))
