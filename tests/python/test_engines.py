"""Choosing an engine, and engines written in Python: onnxruntime and any object of the protocol."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from onnx import TensorProto, helper

from engine_models import DYNAMIC, conv_model, images, make_model, reference
from swiftdet import _core, engines
from swiftdet.errors import BackendError, BackendUnavailable, InvalidArgument, InvalidType, ModelError

PIXELS = 2 * 3


class Doubler:
    """`images` [1, 3, 2, ?] to `doubled` and, summed over the width, `total`."""

    inputs = (("images", (1, 3, 2, None)),)
    outputs = (("doubled", (1, 3, 2, "width")), ("total", (1, 3, 2)))

    def __init__(self):
        self.seen = []

    def run(self, inputs):
        self.seen.append(inputs["images"])
        return {"total": inputs["images"].sum(-1), "doubled": inputs["images"] * 2}


def ramp(width=4) -> np.ndarray:
    return np.arange(PIXELS * width, dtype=np.float32).reshape(1, 3, 2, width)


# --- choosing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["auto", "openvino", "onnxruntime"])
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_every_cpu_engine_computes_the_same(engine, device):
    model = conv_model(DYNAMIC)
    backend = engines.compile(model, engine=engine, device=device)
    assert backend.input == ("images", (-1, 3, -1, -1))
    assert [name for name, _ in backend.outputs] == ["features", "peaks"]
    assert backend.description.startswith("ONNX Runtime" if engine == "onnxruntime" else "OpenVINO")
    for got, want in zip(backend.infer(images()), reference(model, images()), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{"engine": "tensorrt"}, {"device": "cuda"}, {"device": "cuda:1"}])
def test_nothing_falls_back_from_cuda(options):
    with pytest.raises((BackendUnavailable, InvalidArgument), match=r"device='cpu'|for the CPU"):
        engines.compile(conv_model(), **options)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime", Doubler()], ids=str)
def test_engines_of_the_cpu_refuse_a_gpu(engine):
    with pytest.raises(InvalidArgument, match=r"runs on the CPU; device 'cuda' needs engine='tensorrt'"):
        engines.compile(conv_model(), device="cuda", engine=engine)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("engine", "tflite"),
        ("device", "gpu"),
        ("device", "cuda:x"),
        ("device", 0),
        ("precision", "fp8"),
        ("performance", "fast"),
        ("num_threads", -1),
    ],
)
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_unknown_options_are_refused(engine, option, value):
    with pytest.raises(InvalidArgument, match=option):
        engines.compile(conv_model(), **{"engine": engine, option: value})


@pytest.mark.parametrize("precision", ["auto", "fp32", "fp16", "bf16"])
def test_openvino_takes_each_precision_that_the_processor_has(precision):
    try:
        backend = engines.compile(conv_model(), precision=precision)
    except BackendUnavailable:
        assert precision in ("fp16", "bf16")
        return
    got = backend.infer(images())
    tolerance = 1e-5 if precision in ("auto", "fp32") else 2e-2
    np.testing.assert_allclose(got[0], reference(conv_model(), images())[0], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("engine", ["onnxruntime", Doubler()])
def test_other_engines_refuse_a_precision_that_they_would_ignore(engine):
    with pytest.raises(InvalidArgument, match="precision"):
        engines.compile(conv_model(), engine=engine, precision="fp16")


@pytest.mark.parametrize("options", [{"input_shape": (1, 3, 2, 2)}, {"num_threads": 2}])
def test_a_loaded_engine_refuses_options_that_come_too_late(options):
    with pytest.raises(InvalidArgument, match="already loaded"):
        engines.compile(b"", engine=Doubler(), **options)


# --- onnxruntime ----------------------------------------------------------------------------------


def test_onnxruntime_converts_other_types_at_its_edges():
    for model in (
        conv_model(dtype=np.float16),
        make_model([helper.make_node("ArgMax", ["images"], ["best"], axis=1)], [("best", TensorProto.INT64)]),
    ):
        got = engines.compile(model, engine="onnxruntime").infer(images())
        for g, w in zip(got, reference(model, images()), strict=True):
            assert g.dtype == np.float32
            np.testing.assert_array_equal(g, w.astype(np.float32))


def test_onnxruntime_narrows_open_dimensions_only():
    backend = engines.compile(conv_model(DYNAMIC), engine="onnxruntime", input_shape=(2, 3, 8, 8), num_threads=1)
    assert backend.input == ("images", (2, 3, 8, 8))
    assert backend.infer(images((2, 3, 8, 8)))[0].shape == (2, 4, 8, 8)
    for shape in [(1, 3, 8, 8), (1, 3, 16), (1, 3, 16, 0)]:
        with pytest.raises(InvalidArgument, match="input_shape"):
            engines.compile(conv_model(), engine="onnxruntime", input_shape=shape)


@pytest.mark.parametrize("model", [b"", b"garbage", conv_model()[:-20]])
def test_onnxruntime_reports_unreadable_models(model):
    with pytest.raises(ModelError, match="ONNX Runtime"):
        engines.compile(model, engine="onnxruntime")


def test_onnxruntime_reads_no_ir():
    with pytest.raises(InvalidArgument, match="ONNX models only"):
        engines.compile(b"<net/>", b"weights", engine="onnxruntime")


def test_a_missing_onnxruntime_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'swiftdet\[onnxruntime\]'"):
        engines.compile(conv_model(), engine="onnxruntime")


def test_onnxruntime_reports_a_failing_run():
    # The file leaves the width open, but the graph can only take one.
    model = make_model(
        [helper.make_node("Add", ["images", "row"], ["sum"])],
        ["sum"],
        shape=(1, 3, 2, "w"),
        initializers=[helper.make_tensor("row", TensorProto.FLOAT, [5], np.ones(5, np.float32))],
    )
    backend = engines.compile(model, engine="onnxruntime")
    assert backend.infer(ramp(5))[0].shape == (1, 3, 2, 5)
    with pytest.raises(BackendError, match=r"engine\.run raised"):
        backend.infer(ramp(4))


# --- engines written in Python --------------------------------------------------------------------


def test_any_object_of_the_protocol_is_an_engine():
    engine = Doubler()
    assert isinstance(engine, engines.PythonEngine)
    backend = engines.compile(b"", engine=engine)
    assert backend.input == ("images", (1, 3, 2, -1))
    assert backend.outputs == [("doubled", (1, 3, 2, -1)), ("total", (1, 3, 2))]
    assert backend.description == "Doubler"
    doubled, total = backend.infer(ramp())
    np.testing.assert_array_equal(doubled, ramp() * 2)
    np.testing.assert_array_equal(total, ramp().sum(-1))


def test_the_engine_sees_the_sessions_own_buffer():
    engine = Doubler()
    session = _core.python_backend(engine).create_session((1, 3, 2, 4))
    assert session.input.ctypes.data % 64 == 0
    for seed in range(3):
        session.input[...] = ramp() + seed
        session.infer()
        np.testing.assert_array_equal(session.outputs()[0], (ramp() + seed) * 2)
    assert {array.ctypes.data for array in engine.seen} == {session.input.ctypes.data}
    # What an engine keeps stays valid memory when the session is gone.
    kept = engine.seen[0]
    del session
    gc.collect()
    np.testing.assert_array_equal(kept, ramp() + 2)


def test_outputs_are_not_copied_and_live_until_the_next_run():
    class Identity(Doubler):
        outputs = (("same", (1, 3, 2, -1)),)

        def run(self, inputs):
            result = inputs["images"].copy()
            self.seen.append(weakref.ref(result))
            self.address = result.ctypes.data
            return [result]

    engine = Identity()
    session = _core.python_backend(engine).create_session((1, 3, 2, 4))
    session.infer()
    assert session.outputs()[0].ctypes.data == engine.address
    assert engine.seen[0]() is not None
    session.infer()
    assert engine.seen[0]() is None
    assert engine.seen[1]() is not None
    del session
    gc.collect()
    assert engine.seen[1]() is None


def test_engine_and_backend_are_released():
    engine = Doubler()
    alive = weakref.ref(engine)
    session = _core.python_backend(engine).create_session((1, 3, 2, 4))
    del engine
    gc.collect()
    assert alive() is not None
    del session
    gc.collect()
    assert alive() is None


def engine_with(result, outputs=(("out", (1, -1)),)):
    class Fixed(Doubler):
        def run(self, _inputs):
            return result

    engine = Fixed()
    engine.outputs = outputs
    return _core.python_backend(engine)


GOOD = np.zeros((1, 4), np.float32)


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (
            [GOOD.astype(np.float64)],
            InvalidType,
            r"'out': expected a C-contiguous, aligned float32 array, got float64 \[1, 4\]",
        ),
        ([np.zeros((4, 1), np.float32).T[:, ::2]], InvalidType, "C-contiguous"),
        ([GOOD.tolist()], InvalidType, "got list"),
        ([None], InvalidType, "got NoneType"),
        (GOOD, InvalidType, "dict or a sequence of arrays, got numpy.ndarray"),
        (None, InvalidType, "dict or a sequence of arrays, got NoneType"),
        ([], BackendError, "expected 1 outputs, got 0"),
        ([GOOD, GOOD], BackendError, "expected 1 outputs, got 2"),
        ({"other": GOOD}, BackendError, "'out' is missing"),
        ([GOOD[0]], BackendError, r"expected \[1, \?\].*got \[4\]"),
        ([np.zeros((2, 4), np.float32)], BackendError, r"got \[2, 4\]"),
        ([np.zeros((1,) * 7, np.float32)], InvalidArgument, "at most 6 axes"),
        ([np.frombuffer(b"\0" * 17, np.uint8)[1:].view(np.float32).reshape(1, 4)], InvalidType, "aligned"),
    ],
    ids=range(13),
)
def test_wrong_results_are_refused(result, error, message):
    with pytest.raises(error, match=message):
        engine_with(result).infer(ramp())


@pytest.mark.parametrize("result", [[GOOD], (GOOD,), {"out": GOOD, "unused": None}])
def test_results_come_by_order_or_by_name(result):
    np.testing.assert_array_equal(engine_with(result).infer(ramp())[0], GOOD)


def test_an_exception_becomes_the_cause_of_a_backend_error():
    class Failing(Doubler):
        def run(self, inputs):
            raise KeyError("lost", inputs["images"].shape)

    backend = _core.python_backend(Failing())
    with pytest.raises(BackendError, match=r"KeyError.*lost") as caught:
        backend.infer(ramp())
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__cause__.__traceback__ is not None


def test_an_interrupt_is_no_engine_failure():
    class Interrupted(Doubler):
        def run(self, _inputs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _core.python_backend(Interrupted()).infer(ramp())


def test_run_is_called_from_several_threads_at_once():
    together = threading.Barrier(4, timeout=30)

    class Meeting(Doubler):
        def run(self, inputs):
            together.wait()  # returns only when four calls are inside
            return super().run(inputs)

    backend = _core.python_backend(Meeting())
    failures = []

    def work(seed):
        if not np.array_equal(backend.infer(ramp() + seed)[0], (ramp() + seed) * 2):
            failures.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_session_refuses_a_second_thread():
    inside, go_on = threading.Event(), threading.Event()

    class Slow(Doubler):
        def run(self, inputs):
            inside.set()
            go_on.wait(30)
            return super().run(inputs)

    session = _core.python_backend(Slow()).create_session((1, 3, 2, 4))
    thread = threading.Thread(target=session.infer)
    thread.start()
    assert inside.wait(30)
    with pytest.raises(InvalidArgument, match="one thread at a time"):
        session.infer()
    go_on.set()
    thread.join()
    session.infer()


def test_a_failed_run_leaves_no_outputs():
    class Flaky(Doubler):
        def run(self, inputs):
            return super().run(inputs) if not self.seen else None

    session = _core.python_backend(Flaky()).create_session((1, 3, 2, 4))
    session.infer()
    assert len(session.outputs()) == 2
    with pytest.raises(InvalidType):
        session.infer()
    with pytest.raises(InvalidArgument):
        session.outputs()


def test_outputs_before_the_first_run_are_refused():
    with pytest.raises(InvalidArgument, match=r"infer\(\) first"):
        _core.python_backend(Doubler()).create_session((1, 3, 2, 4)).outputs()


def altered(**attributes):
    return type("Altered", (Doubler,), attributes)()


@pytest.mark.parametrize(
    ("engine", "error", "message"),
    [
        (object(), InvalidType, "PythonEngine.*without outputs"),
        (altered(inputs=None), InvalidType, "sequence"),
        (altered(inputs=()), ModelError, "one input"),
        (altered(inputs=(("a", (1,)), ("b", (1,)))), ModelError, "one input.*'a' 'b'"),
        (altered(outputs=()), ModelError, "at least one output"),
        (altered(outputs=("ab",)), InvalidType, r"outputs\[0\]: expected \(name, shape\)"),
        (altered(outputs=((1, (1,)),)), InvalidType, "a str as name"),
        (altered(outputs=(("a", "shape"),)), InvalidType, "sequence as shape"),
        (altered(outputs=(("a", (1.5,)),)), InvalidType, "dimensions as int"),
        (altered(outputs=(("a", (-2,)),)), InvalidType, "-1"),
        (altered(outputs=(("a", (1,) * 7),)), InvalidType, "at most 6"),
        (altered(run=None), InvalidType, "run"),
    ],
    ids=range(12),
)
def test_objects_that_are_no_engines_are_refused(engine, error, message):
    with pytest.raises(error, match=message):
        _core.python_backend(engine)


def test_a_python_engine_refuses_shapes_that_do_not_fit():
    backend = _core.python_backend(Doubler())
    for shape in [(1, 3, 3, 4), (2, 3, 2, 4), (1, 3, 2), (1, 3, 2, 0)]:
        with pytest.raises(InvalidArgument, match="session shape"):
            backend.create_session(shape)
    assert backend.create_session((1, 3, 2, 9)).input.shape == (1, 3, 2, 9)
    assert backend.infer(images((1, 3, 2, 7)))[0].shape == (1, 3, 2, 7)


# --- errors that are hard to put into words -------------------------------------------------------


class MuteError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("raised", "words"),
    [(OSError("no file \udcff"), r"OSError: no file \\udcff"), (MuteError(), "MuteError: .*no message")],
    ids=["surrogate", "str raises"],
)
def test_an_error_without_plain_words_is_still_the_cause(raised, words):
    class Failing(Doubler):
        def run(self, _inputs):
            raise raised

    with pytest.raises(BackendError, match=words) as caught:
        _core.python_backend(Failing()).infer(ramp())
    assert caught.value.__cause__ is raised


def test_names_that_are_not_utf8_are_shown_and_not_raised():
    model = make_model([helper.make_node("Relu", ["images"], ["feXXures"])], ["feXXures"])
    outputs = engines.inspect(model.replace(b"feXXures", b"fe\xff\xfeures")).outputs
    assert [port.name for port in outputs] == ["fe\ufffd\ufffdures"]
    tensor = TensorProto(name="weXXhts", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="elsewhere.bin")
    model = make_model([helper.make_node("Mul", ["images", "weXXhts"], ["out"])], ["out"], initializers=[tensor])
    with pytest.raises(ModelError, match="we\ufffd\ufffdhts"):
        engines.inspect(model.replace(b"weXXhts", b"we\xff\xfehts"))


# --- the end of the interpreter -------------------------------------------------------------------

AT_EXIT = """
import sys, threading, time
import numpy as np
from swiftdet import _core, ops

class Engine:
    inputs = (("images", (1, 3, 8, 8)),)
    outputs = (("out", (1, 3, 8, 8)),)
    def run(self, inputs):
        return [inputs["images"] * 2]

engine = _core.python_backend(Engine())
frame, batch = np.zeros((1080, 1920, 3), np.uint8), np.zeros((1, 3, 8, 8), np.float32)
work = {"letterbox": lambda: ops.letterbox(frame, (640, 640)), "engine": lambda: engine.infer(batch)}[sys.argv[1]]

def forever():
    while True:
        work()

for _ in range(3):
    threading.Thread(target=forever, daemon=True).start()
time.sleep(0.3)
"""


@pytest.mark.parametrize("work", ["letterbox", "engine"])
def test_a_process_ends_well_while_daemon_threads_work(work):
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", AT_EXIT, work], check=False, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, "")
