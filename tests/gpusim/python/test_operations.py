"""swiftdet.ops on the device "cuda": the CPU's answers bit for bit, its refusals word for word, typed failures."""

from __future__ import annotations

import ctypes
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import test_decode
import test_letterbox
import test_nms
import test_resize
from conftest import BUILD, picture
from stand_ins import (
    ILLEGAL_ADDRESS,
    INSUFFICIENT_DRIVER,
    INVALID_VALUE,
    LAUNCH_FAILURE,
    NO_DEVICE,
    OUT_OF_MEMORY,
    environment,
)
from swiftdet import device_policy, ops
from swiftdet.engines.tensorrt import running
from swiftdet.errors import BackendUnavailable, CudaError, InvalidArgument, ModelError, OutOfMemory
from swiftdet.spec import Head

settings.register_profile(
    "operations",
    derandomize=True,
    deadline=None,
    print_blob=True,
    # The fixture says at the end of the test whether anything was left on a device; nothing of it belongs to one case.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("operations")


def parts(answer):
    """The arrays and numbers of an answer."""
    return answer if isinstance(answer, tuple) else (answer,)


def assert_same_bits(a, b):
    """Arrays of the same type, shape and bytes; other values equal."""
    for one, other in zip(parts(a), parts(b), strict=True):
        if not isinstance(one, np.ndarray):
            assert one == other
            continue
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


def on_both(function, *arguments, **options):
    """What the GPU answers, after it was compared with what the CPU answers."""
    answer = function(*arguments, device="cuda", **options)
    assert_same_bits(answer, function(*arguments, device="cpu", **options))
    return answer


# --- the same answers -------------------------------------------------------------------------------------------------

sides = st.one_of(st.integers(1, 12), st.integers(1, 90))
sizes = st.tuples(sides, sides)
channel_counts = st.sampled_from([None, 1, 3, 4])
seeds = st.integers(0, 2**32 - 1)
views = st.sampled_from(list(test_resize.STRIDED.values()))
COLOURS = st.sampled_from(["bgr", "rgb"])
INTERPOLATIONS = st.sampled_from(["linear", "area"])
SCALINGS = [
    {},
    {"divisor": 1.0},
    {"divisor": -3.5, "mean": (0.4, -0.5, 0.6), "std": (0.2, 0.3, -0.4)},
    {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375), "divisor": 1.0},
]


@settings(max_examples=200)
@given(sizes, sizes, channel_counts, seeds, INTERPOLATIONS)
def test_resize_equals_opencv_and_the_cpu(cuda, size, to, channels, seed, interpolation):
    image = test_resize.make_image(*size, channels, seed)
    answer = on_both(ops.resize, image, to, interpolation=interpolation)
    np.testing.assert_array_equal(answer, test_resize.cv2_resize(image, to, interpolation))


@settings(max_examples=60)
@given(st.integers(1, 9), st.integers(1, 9), sizes, channel_counts, seeds)
def test_shrinking_by_whole_factors_equals_opencv_and_the_cpu(cuda, fy, fx, to, channels, seed):
    to = (min(to[0], 12), min(to[1], 12))
    image = test_resize.make_image(fy * to[0], fx * to[1], channels, seed)
    for interpolation in ("linear", "area"):
        answer = on_both(ops.resize, image, to, interpolation=interpolation)
        np.testing.assert_array_equal(answer, test_resize.cv2_resize(image, to, interpolation))


@settings(max_examples=200)
@given(
    sizes,
    sizes,
    channel_counts,
    seeds,
    st.sampled_from(test_letterbox.MODES),
    INTERPOLATIONS,
    COLOURS,
    st.integers(0, 255),
    st.sampled_from(SCALINGS),
)
def test_letterbox_equals_opencv_and_the_cpu(
    cuda, size, to, channels, seed, mode, interpolation, color, pad_value, scaling
):
    image = test_letterbox.make_image(*size, channels, seed)
    options = {"interpolation": interpolation, "pad_value": pad_value, "color": color}
    on_both(ops.letterbox, image, to, mode=mode, **options, **scaling)
    tensor, meta = on_both(ops.letterbox, image, to, mode=mode, dtype="uint8", **options)
    expected, expected_meta = test_letterbox.official_letterbox(image, to, mode, **options)
    np.testing.assert_array_equal(tensor, expected)
    assert tuple(meta) == expected_meta


@settings(max_examples=60)
@given(views, st.sampled_from([1, 3, 4]), sizes, COLOURS)
def test_any_strides(cuda, view, channels, to, color):
    image = view(test_resize.make_image(40, 53, channels))
    before = image.copy()
    on_both(ops.resize, image, to)
    on_both(ops.letterbox, image, to, color=color)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("size", "to"),
    [
        ((720, 1280), (180, 320)),
        ((1, 10000), (1, 64)),
        ((65535, 3), (70, 3)),
        ((49, 98), (1, 2)),
        ((70, 3), (65535, 2)),
        ((3, 70), (2, 65535)),
        ((60, 80), (240, 320)),
    ],
)
def test_large_sizes(cuda, size, to):
    image = picture(*size)
    for interpolation, code in test_resize.CV2_INTERPOLATION.items():
        answer = on_both(ops.resize, image, to, interpolation=interpolation)
        np.testing.assert_array_equal(answer, cv2.resize(image, to[::-1], interpolation=code))
    on_both(ops.letterbox, image, to)


def test_out_is_filled_and_returned(cuda):
    image = picture(30, 40)
    for dtype in ("float32", "uint8"):
        out = np.full((3, 33, 50), 7, dtype)
        tensor, meta = ops.letterbox(image, (33, 50), dtype=dtype, out=out, device="cuda")
        assert tensor is out
        assert_same_bits((tensor, meta), ops.letterbox(image, (33, 50), dtype=dtype))


@settings(max_examples=200)
@given(test_nms.cases, test_nms.thresholds, st.booleans(), st.sampled_from([None, 0, 1, 5, 300]))
def test_nms_equals_the_plain_loop_and_the_cpu(cuda, case, iou, agnostic, max_det):
    keep = on_both(ops.nms, *case, iou, class_agnostic=agnostic, max_det=max_det)
    np.testing.assert_array_equal(keep, test_nms.plain_nms(*case, iou, class_agnostic=agnostic, max_det=max_det))


@pytest.mark.parametrize("kind", test_nms.KINDS)
@pytest.mark.parametrize("count", [511, 512, 513, 2100])
def test_nms_of_more_boxes_than_a_block_takes_at_once(cuda, kind, count):
    for agnostic in (False, True):
        on_both(ops.nms, *test_nms.make_case(count, kind, count, 3), 0.6, class_agnostic=agnostic)


def test_nms_takes_any_classes(cuda):
    boxes, scores, _ = test_nms.make_case(5, "clusters", 60, 1)
    rng = np.random.default_rng(1)
    extremes = np.array([-(2**31), -1, 0, 7, 4095, 4096, 2**31 - 1], dtype=np.int32)
    for classes in (extremes[rng.integers(0, len(extremes), 60)], np.full(60, -(2**31), dtype=np.int32)):
        on_both(ops.nms, boxes, scores, classes, 0.5)


@pytest.mark.parametrize("name", test_decode.HEADS)
@settings(max_examples=200)
@given(
    seeds,
    st.sampled_from([1, 2, 3, 9, 17]),
    st.sampled_from([0.0, 0.001, 0.1, 0.25, 0.5, 1.0]) | st.floats(0, 1, width=32),
    st.booleans(),
    st.sampled_from([1, 5, 50, 30000]),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
)
def test_decode_equals_the_cpu(cuda, name, seed, c, conf, multi_label, max_candidates, image, coarse, damaged):
    head, outputs = test_decode.make(name, seed=seed, c=c, batch=3)
    rng = np.random.default_rng(seed)
    for output in outputs:
        if coarse:  # makes ties
            np.round(output, 1, out=output)
        if damaged:
            values = rng.choice(np.array([np.nan, np.inf, -np.inf, -0.0], np.float32), output.shape)
            np.copyto(output, values, where=rng.random(output.shape) < 0.02)
    options = {"multi_label": multi_label, "max_candidates": max_candidates, "image": image}
    on_both(ops.decode, outputs, head, conf, **options)
    on_both(ops.decode, outputs, head, conf, classes=rng.choice(c, rng.integers(0, c + 1), replace=False), **options)


@pytest.mark.parametrize("name", [name for name in test_decode.HEADS if "maps" not in name and "logits" not in name])
def test_decode_equals_numpy(cuda, name):
    """Heads without an exp, so that NumPy comes to the same bits."""
    head, outputs = test_decode.make(name, seed=4)
    found = 0
    for multi_label in (False, True):
        answer = ops.decode(outputs, head, 0.2, multi_label=multi_label, device="cuda")
        test_decode.assert_same(answer, test_decode.reference_decode(outputs, head, 0.2, multi_label=multi_label), head)
        found += len(answer[1])
    assert found > 0


@pytest.mark.parametrize("columns", [False, True])
def test_decode_of_nothing(cuda, columns):
    layout, shape = ("columns", (1, 9, 0)) if columns else ("rows", (1, 0, 9))
    head = Head(layout=layout, num_classes=5, outputs=("o",))
    boxes, scores, classes = on_both(ops.decode, [np.zeros(shape, np.float32)], head, 0.1)
    assert (boxes.shape, scores.shape, classes.shape) == ((0, 4), (0,), (0,))


def test_decode_takes_outputs_by_name(cuda):
    head, outputs = test_decode.make("anchor_maps", seed=2)
    named = dict(zip(head.outputs, outputs, strict=True))
    assert_same_bits(ops.decode(named, head, 0.1, device="cuda"), ops.decode(outputs, head, 0.1))


# --- devices ----------------------------------------------------------------------------------------------------------

BOXES, SCORES, CLASSES = test_nms.make_case(3, "clusters", 40, 2)
HEAD, OUTPUTS = test_decode.make("rows", seed=1)
IMAGE = picture(20, 31)
OPERATIONS = {
    "resize": lambda **options: ops.resize(IMAGE, (14, 15), **options),
    "letterbox": lambda **options: ops.letterbox(IMAGE, (32, 32), **options),
    "nms": lambda **options: ops.nms(BOXES, SCORES, CLASSES, 0.5, **options),
    "decode": lambda **options: ops.decode(OUTPUTS, HEAD, 0.1, **options),
}


@pytest.fixture(params=OPERATIONS)
def operation(request):
    return OPERATIONS[request.param]


def current(cuda):
    device = ctypes.c_int(-1)
    assert cuda.library.cudaGetDevice(ctypes.byref(device)) == 0
    return device.value


def test_an_operation_runs_on_the_device_that_is_named(cuda, operation):
    expected = operation()
    cuda.clear_log()
    assert_same_bits(operation(device="cuda:1"), expected)
    assert "cudaSetDevice 1" in cuda.log()
    assert current(cuda) == 0
    cuda.clear_log()
    assert_same_bits(operation(device="cuda:0"), expected)
    assert not any(line.startswith("cudaSetDevice") for line in cuda.log())
    assert sum(line.startswith("cudaLaunchKernel") for line in cuda.log()) >= 1


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "auto", "CUDA", None, 0])
def test_what_is_no_device(cuda, operation, device):
    with pytest.raises(InvalidArgument, match="device: expected 'cpu', 'cuda' or 'cuda:N'"):
        operation(device=device)


def test_a_device_that_is_not_there(cuda, operation):
    with pytest.raises(BackendUnavailable, match=r"device 'cuda:2': .*cuda:2.*device='cpu' gives the same values"):
        operation(device="cuda:2")


def test_the_compiled_half_looks_for_its_device_itself(cuda):
    for index in (-1, 2):
        with pytest.raises(BackendUnavailable, match=r"this machine has 2 GPUs, cuda:0 to cuda:1"):
            running.cuda_part().nms(
                BOXES, SCORES, CLASSES, iou_threshold=0.5, class_agnostic=False, max_det=-1, gpu=index
            )


@pytest.mark.parametrize(("error", "words"), [(INSUFFICIENT_DRIVER, "driver supports"), (NO_DEVICE, "sees no GPU")])
def test_without_a_usable_driver(cuda, operation, error, words):
    device_policy.kernels.cache_clear()
    cuda.fail(1, error, name="cudaGetDeviceCount", sticky=True)
    with pytest.raises(BackendUnavailable, match=rf"device 'cuda:0': .*{words}.*device='cpu' gives the same values"):
        operation(device="cuda")
    cuda.heal()
    cuda.fail(0, 0)
    assert_same_bits(operation(device="cuda"), operation())  # asked again, not remembered


def test_threads_do_not_disturb_one_another(cuda):
    expected = {name: run() for name, run in OPERATIONS.items()}
    with ThreadPoolExecutor(6) as pool:
        names = list(OPERATIONS) * 6
        answers = pool.map(lambda i: OPERATIONS[names[i]](device=f"cuda:{i % 2}"), range(len(names)))
        for name, answer in zip(names, answers, strict=True):
            assert_same_bits(answer, expected[name])


# --- the same refusals ------------------------------------------------------------------------------------------------

ROW = np.zeros((1, 3, 9), np.float32)
ROWS = Head(layout="rows", num_classes=5, outputs=("o",))


@pytest.mark.parametrize(
    ("function", "arguments", "options"),
    [
        (ops.resize, (IMAGE.astype(np.float32), (4, 4)), {}),
        (ops.resize, (IMAGE[:, :, :2], (4, 4)), {}),
        (ops.resize, (IMAGE[:0], (4, 4)), {}),
        (ops.resize, (IMAGE, (0, 4)), {}),
        (ops.resize, (IMAGE, (4, 65536)), {}),
        (ops.resize, (IMAGE, 4), {}),
        (ops.resize, (IMAGE, (4, 4)), {"interpolation": "cubic"}),
        (ops.letterbox, (None, (4, 4)), {}),
        (ops.letterbox, (IMAGE[:, :0], (4, 4)), {}),
        (ops.letterbox, (IMAGE, (4, 4)), {"mode": "crop"}),
        (ops.letterbox, (IMAGE, (4, 4)), {"color": "gbr"}),
        (ops.letterbox, (IMAGE, (4, 4)), {"dtype": "float16"}),
        (ops.letterbox, (IMAGE, (4, 4)), {"pad_value": 256}),
        (ops.letterbox, (IMAGE, (4, 4)), {"divisor": 0.0}),
        (ops.letterbox, (IMAGE, (4, 4)), {"mean": (0.0, float("nan"), 0.0)}),
        (ops.letterbox, (IMAGE, (4, 4)), {"std": (1.0, 0.0, 1.0)}),
        (ops.letterbox, (IMAGE, (4, 4)), {"out": np.zeros((3, 4, 5), np.float32)}),
        (ops.letterbox, (IMAGE, (4, 4)), {"out": np.zeros((3, 4, 4), np.uint8)}),
        (ops.nms, (BOXES[:, :3], SCORES, CLASSES, 0.5), {}),
        (ops.nms, (BOXES, SCORES[1:], CLASSES, 0.5), {}),
        (ops.nms, (BOXES.astype(np.float64), SCORES, CLASSES, 0.5), {}),
        (ops.nms, (BOXES, SCORES, CLASSES, 1.5), {}),
        (ops.nms, (BOXES, SCORES, CLASSES, float("nan")), {}),
        (ops.nms, (BOXES, SCORES, CLASSES, 0.5), {"max_det": -1}),
        (ops.nms, (BOXES, SCORES, CLASSES.astype(np.float32), 0.5), {}),
        (ops.decode, ([ROW], ROWS, -0.1), {}),
        (ops.decode, ([ROW], ROWS, 0.1), {"image": 1}),
        (ops.decode, ([ROW], ROWS, 0.1), {"max_candidates": 0}),
        (ops.decode, ([ROW], ROWS, 0.1), {"classes": [5]}),
        (ops.decode, ([ROW[:0]], ROWS, 0.1), {}),
        (ops.decode, ([ROW, ROW], ROWS, 0.1), {}),
        (ops.decode, ([ROW[..., :8]], ROWS, 0.1), {}),
        (ops.decode, ([ROW.astype(np.float64)], ROWS, 0.1), {}),
        (ops.decode, ([ROW[..., ::-1]], ROWS, 0.1), {}),
    ],
)
def test_refusals_are_those_of_the_cpu(cuda, function, arguments, options):
    with pytest.raises(Exception) as on_cpu:  # noqa: PT011 - whatever it is, the GPU's must be the same
        function(*arguments, device="cpu", **options)
    with pytest.raises(on_cpu.type) as on_gpu:
        function(*arguments, device="cuda", **options)
    assert on_gpu.type is on_cpu.type
    assert str(on_gpu.value) == str(on_cpu.value)


def test_more_anchors_than_the_kernels_hold(cuda):
    anchors = tuple((float(i + 1), 5.0) for i in range(65))
    head = Head(layout="anchor_maps", num_classes=2, outputs=("p",), strides=(8,), anchors=anchors)
    outputs = [np.zeros((1, 65 * 7, 2, 3), np.float32)]
    assert len(ops.decode(outputs, head, 0.1)[1]) == 65 * 6
    with pytest.raises(ModelError, match="expected at most 64 anchors on the GPU, got 65"):
        ops.decode(outputs, head, 0.1, device="cuda")


# --- failures ---------------------------------------------------------------------------------------------------------

TYPED = (BackendUnavailable, CudaError, OutOfMemory)


def attempt(operation):
    """What it raised, or None."""
    try:
        operation(device="cuda:1")
    except TYPED as error:
        return error
    return None


@pytest.mark.parametrize("error", [INVALID_VALUE, OUT_OF_MEMORY, ILLEGAL_ADDRESS])
def test_every_call_of_cuda_fails_once(cuda, operation, error):
    """From the question which GPUs there are on: a typed error, nothing left, and the next call works."""
    expected = operation()
    device_policy.kernels.cache_clear()
    cuda.clear_log()
    operation(device="cuda:1")
    total = cuda.calls()
    assert total > 10
    before = sorted(cuda.live())
    raised = 0
    for nth in range(1, total + 1):
        device_policy.kernels.cache_clear()
        cuda.heal()
        cuda.clear_log()
        cuda.fail(nth, error)
        raised += attempt(operation) is not None
        assert cuda.failed(), nth
        assert sorted(cuda.live()) == before, nth
        cuda.library.cudaSetDevice(0)  # the call that failed may be the one that gives the thread its device back
        assert_same_bits(operation(device="cuda:1"), expected)
    assert raised > total // 2  # the others were in destructors, or asked for no more than a version


def test_every_call_meets_a_lost_device(cuda, operation):
    operation(device="cuda:1")
    cuda.clear_log()
    operation(device="cuda:1")
    total = cuda.calls()
    before = sorted(cuda.live())
    for nth in range(1, total + 1):
        cuda.heal()
        cuda.clear_log()
        cuda.fail(nth, ILLEGAL_ADDRESS, sticky=True)
        attempt(operation)
        assert cuda.failed(), nth
        assert sorted(cuda.live()) == before, nth
    cuda.heal()
    assert_same_bits(operation(device="cuda:1"), operation())


@pytest.mark.parametrize("error", [ILLEGAL_ADDRESS, LAUNCH_FAILURE])
def test_work_that_fails_on_the_device(cuda, operation, error):
    """Copies and kernels run when they are waited for; each that fails is an error of its call, never an answer."""
    expected = operation()
    nth = 0
    while True:
        nth += 1
        assert nth < 100
        cuda.heal()
        cuda.fail_work(nth, error, sticky=True)  # work that fails while it runs takes its device along
        failure = attempt(operation)
        if not cuda.failed():
            break
        assert isinstance(failure, CudaError), nth
        assert "restart" in str(failure)
    assert nth > 3
    cuda.heal()
    cuda.fail(0, 0)
    assert_same_bits(operation(device="cuda:1"), expected)


def test_memory_errors_say_how_much_was_asked_for(cuda, operation):
    cuda.fail(1, OUT_OF_MEMORY, name="cudaMalloc")
    with pytest.raises(MemoryError, match=r"cudaMalloc.*asked for \d+ bytes"):
        operation(device="cuda")


# --- what GPU hosts run -----------------------------------------------------------------------------------------------

GPU_TESTS = Path(__file__).parents[2] / "gpu"


def test_the_program_for_gpu_hosts():
    program = BUILD / "tests/gpu/gpu_one_shot"
    if not program.exists():
        pytest.skip("this build has no gpu_one_shot")
    eager = os.environ.get("GPUSIM_EAGER") == "1"
    done = subprocess.run(
        [program], env=environment(BUILD, eager=eager), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_the_python_tests_for_gpu_hosts(in_new_process):
    file = GPU_TESTS / "test_gpu_operations.py"
    status, out, err = in_new_process(
        f"import pytest, sys\nsys.path.insert(0, {str(GPU_TESTS)!r})\n"
        "import test_gpu_operations\n"
        "test_gpu_operations.CASES, test_gpu_operations.SIDES = 6, [(12, 8), (6, 4), (3, 2)]  # kernels are slow here\n"
        f"sys.exit(pytest.main(['-c', {str(GPU_TESTS / 'pytest.ini')!r}, {str(file)!r}]))\n"
    )
    assert status == 0, out[-4000:] + err[-4000:]
    assert " passed" in out
    assert "skipped" not in out
