"""Tensors on the GPU that their owner hands over by DLPack: ordered by streams, read in place, given back once."""

from __future__ import annotations

import ctypes
import threading
import weakref

import numpy as np
import pytest

import swiftdet
from conftest import assert_same, picture
from dlpack_producer import OldProducer, Producer
from stand_ins import ILLEGAL_ADDRESS, INVALID_VALUE
from swiftdet.engines.tensorrt import running
from swiftdet.errors import BackendError, CudaError, DetectorClosed, InvalidArgument, InvalidType, OutOfMemory
from test_calls import WARM_CALL, work
from test_device_arrays import DeviceArray

PIXELS = picture(60, 90, 5)


class Tensor(Producer):
    """A tensor whose pixels are still on their way when it is handed over; the consumer's stream is made to wait."""

    def __init__(self, cuda, array, shape, **options):
        interface = array.__cuda_array_interface__
        options = {"strides": interface["strides"], "device": (2, 0), **options}
        super().__init__(interface["data"][0], shape, **options)
        self._cuda, self._own = cuda, interface["stream"]
        self._events, self.log_at_deletion = [], []

    def synchronize(self, stream):
        runtime, event = self._cuda.library, ctypes.c_void_p()
        assert runtime.cudaEventCreateWithFlags(ctypes.byref(event), 2) == 0
        # Destroyed later: before the stand-in destroys an event, it runs everything, which would hide a missing wait.
        self._events.append(event)
        assert runtime.cudaEventRecord(event, ctypes.c_void_p(self._own)) == 0
        assert runtime.cudaStreamWaitEvent(ctypes.c_void_p(stream), event, 0) == 0

    def delete(self):
        super().delete()
        self.log_at_deletion = self._cuda.log()
        while self._events:
            assert self._cuda.library.cudaEventDestroy(self._events.pop()) == 0


class OldTensor(OldProducer, Tensor):
    """The same from before DLPack 1.0."""


class Ready(Producer):
    """A tensor whose pixels are there: it makes no call of CUDA, so that all calls that fail are the package's."""

    def __init__(self, array, shape, **options):
        super().__init__(array.__cuda_array_interface__["data"][0], shape, **options)


@pytest.fixture
def on_gpu(cuda):
    """An array in device memory for the length of the test."""
    arrays = []

    def make(pixels=PIXELS, **options):
        array = DeviceArray(cuda, pixels, **options)
        arrays.append((array, options.get("device", 0)))
        return array

    yield make
    cuda.heal()
    for array, device in arrays:
        cuda.library.cudaSetDevice(device)
        array.__exit__()
    cuda.library.cudaSetDevice(0)


@pytest.fixture
def finished(cuda, on_gpu):
    """An array whose pixels have arrived."""
    array = on_gpu()
    assert cuda.library.cudaStreamSynchronize(ctypes.c_void_p(array.__cuda_array_interface__["stream"])) == 0
    return array


@pytest.fixture
def gpu(columns_plan):
    with swiftdet.Detector(columns_plan, device="cuda", conf=0.05) as detector:
        yield detector


@pytest.mark.parametrize("kind", [Tensor, OldTensor])
@pytest.mark.parametrize(
    ("shape", "pitch"),
    [((70, 90, 3), None), ((70, 90, 3), 512), ((33, 41, 4), None), ((20, 31), 64), ((1, 31, 3), None), ((9, 1, 3), 8)],
)
def test_equal_to_the_same_pixels_on_the_host(cuda, gpu, on_gpu, kind, shape, pitch):
    pixels = picture(*shape[:2], 3, channels=shape[2] if len(shape) == 3 else 1).reshape(shape)
    for color in ("bgr", "rgb"):
        tensor = kind(cuda, on_gpu(pixels, pitch=pitch), shape)
        assert_same(gpu(tensor, color=color), gpu(pixels, color=color))
        assert (tensor.exported, tensor.deleted) == (1, 1)
    host, tensors = gpu(pixels), [kind(cuda, on_gpu(pixels, pitch=pitch), shape) for _ in range(3)]
    mixed = gpu([tensors[0], pixels, *tensors[1:], pixels])
    for result in mixed:
        assert_same(result, host)
    assert [(t.exported, t.deleted) for t in tensors] == [(1, 1)] * 3
    assert len({t.streams[0] for t in tensors}) == 3  # none waits for another's producer


@pytest.mark.parametrize("flags", [0, 1])
def test_versions_flags_and_what_may_be_null(cuda, gpu, on_gpu, flags):
    expected = gpu(PIXELS)
    tensor = Tensor(cuda, on_gpu(), PIXELS.shape, strides=None, flags=flags, version=(1, 3))
    assert_same(gpu(tensor), expected)
    assert tensor.versions_asked == [(1, 0)]
    old = OldTensor(cuda, on_gpu(), PIXELS.shape)
    assert_same(gpu(old), expected)
    assert old.versions_asked == [None]
    for offset in (1, 90 * 3 * 7):
        moved = Tensor(cuda, on_gpu(), (50, 90, 3), strides=None, byte_offset=offset)
        there = PIXELS.reshape(-1)[offset : offset + 50 * 90 * 3].reshape(50, 90, 3)
        assert_same(gpu(moved), gpu(there))
    managed = Tensor(cuda, on_gpu(), PIXELS.shape, device=(13, 0))
    assert_same(gpu(managed), expected)
    endless = Ready(on_gpu(), PIXELS.shape, deleter=False)
    gpu(endless)
    assert (endless.exported, endless.deleted) == (1, 0)


def test_one_row_or_column_may_have_any_stride_across(cuda, gpu, on_gpu):
    """PyTorch makes the strides of axes of length 1 to 1."""
    row, column = picture(1, 31, 3), picture(9, 1, 3)
    assert_same(gpu(Tensor(cuda, on_gpu(row), row.shape, strides=(1, 3, 1))), gpu(row))
    assert_same(gpu(Tensor(cuda, on_gpu(column), column.shape, strides=(3, 1, 1))), gpu(column))


def test_the_stream_is_ours_and_the_memory_is_returned_after_the_wait(cuda, gpu, on_gpu):
    gpu(Tensor(cuda, on_gpu(), PIXELS.shape))
    before = sorted(cuda.live())
    array = on_gpu()
    streams = set()
    for _ in range(3):
        tensor = Tensor(cuda, array, PIXELS.shape)
        cuda.clear_log()
        gpu(tensor)
        streams.update(tensor.streams)
        # The producer's own two calls, then ours: the session waits for that stream, copies descriptions, runs.
        others = {"cudaEventCreateWithFlags", "cudaEventDestroy", "cudaPointerGetAttributes", "cudaStreamIsCapturing"}
        calls = [line for line in work(cuda.log()) if line not in others]
        assert calls == [*2 * ["cudaEventRecord", "cudaStreamWaitEvent"], *WARM_CALL]
        at_deletion = work(tensor.log_at_deletion)
        assert at_deletion.index("cudaStreamSynchronize") > at_deletion.index("cudaGraphLaunch")
    assert len(streams) == 1  # lent again and again
    assert array.__cuda_array_interface__["stream"] not in streams
    assert not streams & {None, 0, 1, 2, -1}
    assert len([line for line in cuda.live() if line.startswith("stream")]) == (
        len([line for line in before if line.startswith("stream")]) + 1  # the array's own
    )


def test_dlpack_is_asked_before_the_cuda_array_interface(cuda, gpu, on_gpu):
    """PyTorch's `__cuda_array_interface__` names no stream, so pixels could be read before they are there."""
    array = on_gpu()
    tensor = Tensor(cuda, array, PIXELS.shape)
    tensor.__cuda_array_interface__ = {**array.__cuda_array_interface__, "stream": None}
    assert_same(gpu(tensor), gpu(PIXELS))
    assert (tensor.exported, tensor.deleted) == (1, 1)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"dtype": (2, 32, 1)}, InvalidType, "expected uint8, got float32"),
        ({"dtype": (1, 8, 3)}, InvalidType, "got uint8x3"),
        ({"dtype": (6, 8, 1)}, InvalidType, "got bool8"),
        ({"shape": (3, 60, 90), "strides": None}, InvalidArgument, r"permute \[3, H, W\]"),
        ({"shape": (1, 60, 90, 3), "strides": None}, InvalidArgument, r"got \[1, 60, 90, 3\]"),
        ({"shape": (60, 0, 3), "strides": None}, InvalidArgument, "1 to 65535"),
        ({"shape": (60, 45, 3), "strides": (270, 6, 1)}, InvalidArgument, "back to back"),
        ({"shape": (60, 90, 3), "strides": (1, 60, 5400)}, InvalidArgument, "contiguous copy"),
        ({"strides": (-270, 3, 1)}, InvalidArgument, "ascending order"),
        ({"pointer": 0}, InvalidArgument, "null"),
        ({"pointer": 0, "byte_offset": 64}, InvalidArgument, "null"),
        ({"pointer": 0x7000}, InvalidArgument, "memory of no GPU"),
        ({"version": (2, 0)}, InvalidArgument, r"DLPack 1, got one of 2\.0"),
        ({"tensor_device": (1, 0)}, InvalidArgument, "device of type 1"),
    ],
)
def test_what_is_refused_is_given_back(cuda, gpu, finished, options, error, words):
    options = dict(options)
    producer = Ready(
        finished, options.pop("shape", PIXELS.shape), **{k: v for k, v in options.items() if k != "pointer"}
    )
    if "pointer" in options:
        producer._described = (options["pointer"], *producer._described[1:])
    good = [Ready(finished, PIXELS.shape) for _ in range(2)]
    for batch in (producer, [good[0], producer, good[1]]):
        with pytest.raises(error, match=words):
            gpu(batch)
    assert (producer.exported, producer.deleted) == (2, 2)
    assert all(each.exported == each.deleted <= 1 for each in good)
    assert good[0].exported == 1
    assert_same(gpu(good[0]), gpu(PIXELS))


def test_a_tensor_on_another_gpu_is_not_asked_for(cuda, gpu, on_gpu):
    tensor = Ready(on_gpu(device=1), PIXELS.shape, device=(2, 1))
    with pytest.raises(InvalidArgument, match=r"memory of cuda:1, the detector runs on cuda:0"):
        gpu(tensor)
    assert tensor.exported == 0
    liar = Ready(on_gpu(device=1), PIXELS.shape)
    with pytest.raises(InvalidArgument, match=r"memory of cuda:1, the detector runs on cuda:0"):
        gpu(liar)
    assert (liar.exported, liar.deleted) == (1, 1)


def test_owners_that_refuse_or_give_something_else(cuda, gpu, finished):
    class Refuses(Ready):
        def synchronize(self, _):
            raise BufferError("it is being written")

    class Odd(Ready):
        answer = None

        def _capsule(self):
            return self.answer

    with pytest.raises(InvalidArgument, match="Refuses does not hand it over by DLPack: it is being written"):
        gpu(Refuses(finished, PIXELS.shape))
    with pytest.raises(InvalidType, match="nobody has taken yet from __dlpack__, got None"):
        gpu(Odd(finished, PIXELS.shape))
    source = Ready(finished, PIXELS.shape)
    twice = Odd(finished, PIXELS.shape)
    twice.answer = source._capsule()
    first = gpu(twice)
    assert source.deleted == 1
    with pytest.raises(InvalidType, match="used_dltensor_versioned"):
        gpu(twice)
    assert source.deleted == 1
    assert len(first) > 0


@pytest.mark.parametrize("kind", [None, (1, 0)])
def test_a_capsule_that_nobody_releases_is_released_with_its_object(cuda, finished, kind):
    producer = Ready(finished, PIXELS.shape, version=kind)
    tensor = running.cuda_part().DlpackTensor(producer._capsule())
    assert (tensor.device, tensor.dtype, tensor.shape, tensor.strides) == ((2, 0), (1, 8, 1), (60, 90, 3), None)
    assert producer.deleted == 0
    del tensor
    assert producer.deleted == 1
    tensor = running.cuda_part().DlpackTensor(producer._capsule())
    tensor.release()
    tensor.release()
    assert producer.deleted == 2
    assert (tensor.shape, tensor.pointer, tensor.strides) == ((), 0, None)


def test_a_result_does_not_keep_the_tensor(cuda, gpu, finished):
    producer = Ready(finished, PIXELS.shape)
    gone = weakref.ref(producer)
    result = gpu(producer)
    del producer
    assert gone() is None
    assert result.orig_shape == (60, 90)


def test_every_call_of_cuda_fails_once(cuda, columns_plan, finished):
    """Whatever fails, each tensor that was handed over is given back, once, and nothing else is left."""
    with swiftdet.Detector(columns_plan, device="cuda") as gpu:
        expected = gpu(PIXELS, conf=0.05)

    def life(producers, errors):
        result = None
        with swiftdet.Detector(columns_plan, device="cuda") as gpu:
            cuda.clear_log()
            cuda.fail(nth, error, sticky=error == ILLEGAL_ADDRESS)
            for _ in range(2):
                batch = [Ready(finished, PIXELS.shape) for _ in range(2)]
                producers += batch
                try:
                    result = gpu(batch, conf=0.05)[1]
                except swiftdet.SwiftdetError as e:
                    errors.append(e)  # with its frames, which name the tensors
                    result = None
        return result

    nth, error = 0, INVALID_VALUE
    life([], [])
    total = cuda.calls()
    assert total > 50
    raised = 0
    for error in (INVALID_VALUE, ILLEGAL_ADDRESS):
        for nth in range(1, total + 1, 1 if error == INVALID_VALUE else 5):
            cuda.heal()
            producers, errors = [], []
            result = life(producers, errors)
            assert all(type(e) in (BackendError, CudaError, OutOfMemory) for e in errors), (nth, errors)
            assert [p.exported for p in producers] == [p.deleted for p in producers], nth
            if error == INVALID_VALUE:
                assert len(errors) <= 1, (nth, errors)
                if result is not None:
                    assert_same(result, expected)
                raised += len(errors)
            else:
                assert errors or nth > total // 2, nth  # the later calls are destructors'
            errors.clear()
    assert raised > total // 4
    cuda.heal()


def test_a_lost_device_or_a_closed_detector_is_not_asked_for_a_stream(cuda, columns_plan, finished):
    with swiftdet.Detector(columns_plan, device="cuda") as gpu:
        gpu(PIXELS)
        cuda.fail(1, ILLEGAL_ADDRESS, name="cudaStreamCreateWithFlags", sticky=True)
        producer = Ready(finished, PIXELS.shape)
        with pytest.raises(CudaError, match="restart"):
            gpu(producer)
        cuda.clear_log()
        with pytest.raises(CudaError, match="dead"):
            gpu(producer)
        assert cuda.log() == []
        assert producer.exported == 0
        cuda.heal()
    with pytest.raises(DetectorClosed):
        gpu(producer)
    assert producer.exported == 0


def test_threads_have_streams_of_their_own(cuda, gpu, on_gpu):
    images = [picture(50 + i, 70, i) for i in range(4)]
    expected = [gpu(image) for image in images]
    arrays = [on_gpu(image) for image in images]
    tensors, failures = [[] for _ in images], []
    barrier = threading.Barrier(len(images))

    def run(i):
        try:
            barrier.wait()
            for _ in range(4):
                tensor = Tensor(cuda, arrays[i], images[i].shape)
                tensors[i].append(tensor)
                assert_same(gpu(tensor), expected[i])
        except (AssertionError, swiftdet.SwiftdetError) as e:
            failures.append(e)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert all((t.exported, t.deleted) == (1, 1) for own in tensors for t in own)
    assert len({t.streams[0] for own in tensors for t in own}) <= len(images)


def test_memory_of_the_host_goes_through_numpy(cuda, gpu):
    expected = gpu(PIXELS)
    for kind in (Producer, OldProducer):
        producer = kind(PIXELS.ctypes.data, PIXELS.shape, device=(1, 0))
        assert_same(gpu(producer), expected)
        assert producer.streams == [None]
        assert (producer.exported, producer.deleted) == (1, 1)
    with pytest.raises(InvalidType, match="uint8"):
        gpu(Producer(np.zeros((4, 4, 3), np.float32).ctypes.data, (4, 4, 3), dtype=(2, 32, 1), device=(1, 0)))
