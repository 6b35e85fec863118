"""Which device runs a network, and why; what the driver says, through a stand-in of its library."""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.util
import json
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import swiftdet
from fake_tensorrt import FakeTensorRT
from swiftdet import _core, cuda_devices, device_policy, zoo
from swiftdet.cli import main
from swiftdet.cuda_devices import CudaDevice, CudaDriver
from swiftdet.engines.tensorrt import library, running
from swiftdet.engines.tensorrt.cache import EngineCache
from swiftdet.engines.tensorrt.plan_files import read_plan
from swiftdet.errors import BackendUnavailable, InvalidArgument, ModelError
from test_tensorrt_cache import PLAN, manifest
from test_tensorrt_cache import write_plan as write_files

T4 = CudaDevice(0, "NVIDIA T4", (7, 5), 16 << 30)
A10 = CudaDevice(1, "NVIDIA A10", (8, 6), 24 << 30)
DRIVER = CudaDriver((13, 0), "580.65.06", (T4, A10))


# --- the chain --------------------------------------------------------------------------------------------------------


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A GPU host with everything; a test takes links away with `host(...)`."""

    def arrange(*, driver=DRIVER, cuda=True, majors=(10,), libraries=(10,), package="10.16.1.11"):
        def ask():
            if driver is None:
                raise BackendUnavailable("no NVIDIA driver: libcuda.so.1 is not there")
            return driver

        for major in libraries:
            (tmp_path / f"libnvinfer.so.{major}").touch()
        monkeypatch.setenv("SWIFTDET_TENSORRT_LIB", str(tmp_path))
        monkeypatch.setattr(cuda_devices, "driver", ask)
        monkeypatch.setattr(running, "visible_gpus", ask)
        monkeypatch.setattr(library, "has_cuda_part", lambda: cuda)
        monkeypatch.setattr(library, "runtime_majors", lambda: majors)
        monkeypatch.setattr(library, "installed_version", lambda: package)

    arrange()
    return arrange


def test_a_usable_gpu_is_used_by_itself(host):
    choice = device_policy.choose("auto")
    assert (choice.name, choice.kind, choice.index) == ("cuda:0", "cuda", 0)
    assert all(link.ok for link in device_policy.chain())
    assert [link.name for link in device_policy.chain()] == ["driver", "device", "CUDA part", "TensorRT", "builder"]
    assert device_policy.choose("cuda:1").name == "cuda:1"
    assert device_policy.choose("auto", "tensorrt").name == "cuda:0"


BROKEN = [
    ({"driver": None}, "no NVIDIA driver"),
    ({"driver": CudaDriver((13, 0), "", ())}, r"no GPU cuda:0; the driver shows: none"),
    ({"driver": CudaDriver((13, 0), "", (CudaDevice(0, "P4", (6, 1), 1),))}, r"P4 has compute capability 6\.1"),
    ({"cuda": False}, "built without CUDA"),
    ({"libraries": ()}, r"libnvinfer is not installed; install it with: pip install 'swiftdet\[tensorrt\]'"),
    ({"libraries": (11,)}, r"TensorRT 11 .* compiled for 10"),
    ({"majors": ()}, r"compiled for none"),
    ({"package": None}, "package tensorrt, which builds engines, is not installed"),
    ({"package": "9.3"}, r"package tensorrt 9\.3; engines are built with 10 and 11"),
    ({"package": "11.4"}, r"package tensorrt 11\.4; its engines do not run, 10 is compiled"),
]


@pytest.mark.parametrize(("missing", "words"), BROKEN, ids=[words for _, words in BROKEN])
def test_each_missing_link_is_told_and_nothing_falls_back(host, tmp_path, missing, words):
    for file in tmp_path.glob("libnvinfer*"):
        file.unlink()
    host(**missing)
    choice = device_policy.choose("auto")
    assert choice.name == "cpu"
    assert choice.reason.startswith("no usable GPU: ")
    for device, engine in (("cuda", "auto"), ("cuda:0", "tensorrt"), ("auto", "tensorrt")):
        with pytest.raises(BackendUnavailable, match=words + r".*Nothing falls back by itself"):
            device_policy.choose(device, engine)


def test_an_engine_that_is_there_needs_no_builder(host):
    host(package=None)
    assert device_policy.choose("cuda", "tensorrt", builds=False).name == "cuda:0"


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:99999", "CPU", "", 0, None])
def test_what_is_no_device(host, device):
    with pytest.raises(InvalidArgument, match="expected 'auto', 'cpu', 'cuda' or 'cuda:N'"):
        device_policy.choose(device)


@pytest.mark.parametrize(("device", "engine"), [("cpu", "tensorrt"), ("cuda", "openvino"), ("cuda:1", "onnxruntime")])
def test_devices_and_engines_that_exclude_each_other(host, device, engine):
    with pytest.raises(InvalidArgument, match=engine):
        device_policy.choose(device, engine)


def test_the_cpu_is_never_questioned(host):
    host(driver=None)
    assert device_policy.choose("cpu").name == "cpu"
    assert device_policy.choose("auto", "onnxruntime").reason == "device 'auto' with engine 'onnxruntime'"


def test_the_newest_library_that_fits_is_taken(host, tmp_path):
    host(libraries=(9, 10, 11), majors=(10, 11))
    assert library.runtime_library().path == tmp_path / "libnvinfer.so.11"
    host(majors=(10,))
    assert library.runtime_library().major == 10


def test_libraries_of_the_wheel_come_before_those_of_the_system(monkeypatch, tmp_path):
    monkeypatch.delenv("SWIFTDET_TENSORRT_LIB", raising=False)
    wheel, system = tmp_path / "tensorrt_libs", tmp_path / "system"
    for folder, major in ((wheel, 10), (system, 11)):
        folder.mkdir()
        (folder / f"libnvinfer.so.{major}").touch()
        (folder / f"libnvinfer_plugin.so.{major}").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(system))
    assert [found.major for found in library.runtime_libraries()] == [11]
    (wheel / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [found.path for found in library.runtime_libraries()] == [wheel / "libnvinfer.so.10"]


# --- a detector on a GPU, its compiled half in our place -------------------------------------------------------------


class FakeCuda(types.ModuleType):
    """What `swiftdet._cuda` offers to Python; the detector's answers come from a pipeline on the CPU."""

    def __init__(self):
        super().__init__("swiftdet._cuda")
        self.__file__ = str(Path(_core.__file__).with_name("_cuda.so"))
        self.__spec__ = importlib.machinery.ModuleSpec("swiftdet._cuda", None, origin=self.__file__)
        cuda, self.opened, self.made = self, [], []
        self.log = [("warning", "lazy loading is off")]

        class TensorRTRuntime:
            version = "10.16.1"

            @classmethod
            def load(cls, path, folder):
                cuda.loaded = (path, folder)
                return cls()

            def deserialize(self, plan, device):
                if plan != PLAN and not plan.startswith(b"plan of 10.16.1.11"):
                    raise ModelError("no plan")
                cuda.opened.append(device)
                return types.SimpleNamespace(
                    description="TensorRT 10.16.1, NVIDIA T4 (cuda:0)",
                    device=device,
                    input=("images", (-1, 3, 64, 96), "float32"),
                    outputs=[("output0", (-1, 6, 126), "float32")],
                )

        class Detector:
            def __init__(self, *described, max_sessions, max_batch):
                cuda.made.append((max_sessions, max_batch, described[-1]))
                self.sessions = (max_sessions or 8, 0, 0, 0)

            def close(self):
                cuda.closed = True

            def detect(self, images, **options):
                cuda.call = (images, options)
                return [cuda.answer] * len(images)

        self.TensorRTRuntime, self.Detector = TensorRTRuntime, Detector
        self.CudaImage = tuple
        self.DlpackTensor = object

    def versions(self):
        return (13000, 13000)

    def device_count(self):
        return 2

    def device(self, index):
        gpu = (T4, A10)[index]
        return types.SimpleNamespace(
            index=index, name=gpu.name, compute_capability=gpu.capability, memory_bytes=gpu.memory_bytes
        )

    def has_log(self):
        return bool(self.log)

    def take_log(self):
        log, self.log = self.log, []
        return log


@pytest.fixture
def cuda(host, monkeypatch):
    module = FakeCuda()
    monkeypatch.setitem(sys.modules, "swiftdet._cuda", module)
    monkeypatch.setattr(swiftdet, "_cuda", module, raising=False)
    return module


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "cat.engine"
    write_files(path, PLAN, manifest(tensorrt="10.16.1.11"))
    return path


def test_a_detector_runs_an_engine(cuda, engine, caplog):
    caplog.set_level("INFO", logger="swiftdet.tensorrt")
    with swiftdet.Detector(engine, device="cuda", max_batch=4, sessions=2) as detector:
        assert detector.device == "cuda:0"
        assert detector.names == {0: "cat", 1: "dog"}
        provenance = detector.provenance
        assert provenance["engine"] == "TensorRT 10.16.1, NVIDIA T4 (cuda:0)"
        assert provenance["device_reason"] == "everything that a GPU needs is there"
        assert provenance["model_sha256"] == read_plan(engine).sha256
        with pytest.raises(InvalidArgument, match="fixed at 64x96"):
            detector(np.zeros((8, 8, 3), np.uint8), imgsz=128)
    assert cuda.opened == [0]
    assert cuda.made == [(2, 4, (64, 96))]
    assert "lazy loading is off" in caplog.text


@pytest.fixture
def nano(tmp_path):
    path = tmp_path / "nano.onnx"
    path.write_bytes(zoo.build("damo-yolo-ns", imgsz="dynamic", num_classes=2).SerializeToString())
    return path


@pytest.fixture
def builder(monkeypatch):
    fake = FakeTensorRT("10.16.1.11")
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    monkeypatch.setattr(cuda_devices, "current", lambda _index: contextlib.nullcontext())
    return fake


def test_a_detector_builds_its_engine_once_and_finds_it_again(cuda, builder, nano, tmp_path):
    options = {"imgsz": 64, "precision": "fp32", "cache_dir": tmp_path / "cache", "max_batch": 4}
    for _ in range(2):
        with swiftdet.Detector(nano, device="auto", **options) as detector:
            assert detector.device == "cuda:0"
    (built,) = builder.builds
    assert built["shapes"] == [{"images": ((1, 3, 64, 64), (1, 3, 64, 64), (4, 3, 64, 64))}]
    assert cuda.opened == [0, 0]
    swiftdet.Detector(nano, device="cuda:1", performance="throughput", **options).close()
    assert builder.builds[1]["shapes"] == [{"images": ((1, 3, 64, 64), (4, 3, 64, 64), (4, 3, 64, 64))}]
    assert {entry.manifest.gpu for entry in EngineCache(tmp_path / "cache").entries()} == {"NVIDIA T4", "NVIDIA A10"}


def test_a_variant_runs_in_half_precision_by_itself(cuda, builder, tmp_path):
    options = {"weights": "synthetic", "imgsz": 64, "cache_dir": tmp_path}
    for precision, kind in (("auto", TensorProto.FLOAT16), ("fp16", TensorProto.FLOAT16), ("fp32", TensorProto.FLOAT)):
        swiftdet.Detector("damo-yolo-ns", device="cuda", precision=precision, **options).close()
        weights = onnx.load_model_from_string(builder.builds[-1]["content"]).graph.initializer
        assert {tensor.data_type for tensor in weights if len(tensor.dims) == 4} == {kind}
    assert len(builder.builds) == 2  # auto is fp16
    with pytest.raises(InvalidArgument, match="'fp16' or 'fp32', got 'bf16'"):
        swiftdet.Detector("damo-yolo-ns", device="cuda", precision="bf16", **options)


def test_the_users_cache_folder_is_the_default(cuda, builder, nano, tmp_path, monkeypatch):
    monkeypatch.delenv("SWIFTDET_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    swiftdet.Detector(nano, device="cuda", imgsz=64, precision="fp32").close()
    assert len(EngineCache(tmp_path / "home" / "swiftdet").entries()) == 1


def test_an_openvino_ir_stays_on_the_cpu_by_itself(host, tmp_path):
    with pytest.raises(ModelError, match=r"model .*missing\.xml"):  # it is looked for, and not sent to a GPU
        swiftdet.Detector(tmp_path / "missing.xml")
    with pytest.raises(ModelError, match=r"model .*missing\.xml"):
        swiftdet.Detector(tmp_path / "missing.xml", device="cuda")


def test_a_trusted_engine_is_loaded_once(cuda, engine):
    engine.with_name("cat.engine.json").unlink()
    with pytest.raises(ModelError, match="trust_plan=True"):
        swiftdet.Detector(engine, device="cuda")
    assert cuda.opened == []  # never shown to TensorRT
    with swiftdet.Detector(engine, device="cuda:1", trust_plan=True, imgsz=(64, 96)) as detector:
        assert detector.device == "cuda:1"
        assert detector.spec.head.layout == "columns"
    assert cuda.opened == [1]


def test_an_engine_is_verified_before_tensorrt_sees_it(cuda, engine):
    engine.write_bytes(PLAN[::-1])
    with pytest.raises(ModelError, match="damaged or was replaced"):
        swiftdet.Detector(engine, device="cuda", trust_plan=True)
    write_files(engine, PLAN, manifest(sm="sm_90", gpu="NVIDIA H100"))
    with pytest.raises(ModelError, match=r"built for sm_90 \(NVIDIA H100\); NVIDIA T4 is sm_75"):
        swiftdet.Detector(engine, device="cuda")
    write_files(engine, PLAN, manifest(tensorrt="10.14.1"))
    with pytest.raises(ModelError, match=r"built by TensorRT 10\.14\.1, here is 10\.16\.1"):
        swiftdet.Detector(engine)
    assert cuda.opened == []


def test_an_engine_needs_a_gpu(host, engine):
    with pytest.raises(InvalidArgument, match="it runs on a GPU"):
        swiftdet.Detector(engine, device="cpu")
    with pytest.raises(InvalidArgument, match="it runs on a GPU"):
        swiftdet.Detector(engine, engine="openvino")
    host(driver=None)
    with pytest.raises(BackendUnavailable, match="no NVIDIA driver"):
        swiftdet.Detector(engine)


# --- the driver -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def make_driver(tmp_path_factory):
    """Makes a `libcuda.so.1` of a source file; its folder."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++")

    def make(source):
        folder = tmp_path_factory.mktemp("driver")
        command = [compiler, "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(source)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return folder

    return make


@pytest.fixture(scope="module")
def fake_driver(make_driver):
    return make_driver(Path(__file__).with_name("fake_cuda_driver.cpp"))


SHOW = """
import dataclasses, json
from swiftdet import cuda_devices
from swiftdet.errors import BackendUnavailable
try:
    print(json.dumps(dataclasses.asdict(cuda_devices.driver())))
except BackendUnavailable as e:
    print(json.dumps(str(e)))
"""


def test_the_driver_is_asked(fake_driver, run_python):
    gpus = "NVIDIA T4/7/5/15360,NVIDIA A10/8/6/23028"
    shown = json.loads(run_python(SHOW, LD_LIBRARY_PATH=str(fake_driver), FAKE_GPUS=gpus))
    assert shown["cuda_version"] == [13, 0]
    assert shown["devices"] == [
        {"index": 0, "name": "NVIDIA T4", "capability": [7, 5], "memory_bytes": 15360 << 20},
        {"index": 1, "name": "NVIDIA A10", "capability": [8, 6], "memory_bytes": 23028 << 20},
    ]


def test_a_driver_without_a_gpu_or_that_does_not_work(fake_driver, run_python):
    shown = json.loads(run_python(SHOW, LD_LIBRARY_PATH=str(fake_driver), FAKE_INIT="100"))
    assert shown["devices"] == []
    shown = json.loads(run_python(SHOW, LD_LIBRARY_PATH=str(fake_driver), FAKE_INIT="999"))
    assert shown == "the NVIDIA driver refused cuInit: unknown error (CUDA error 999); check nvidia-smi"


def test_a_library_that_only_bears_the_driver_s_name(make_driver, tmp_path, run_python):
    source = tmp_path / "empty.cpp"
    source.write_text('extern "C" int cuInit(unsigned) { return 0; }\n')
    shown = json.loads(run_python(SHOW, LD_LIBRARY_PATH=str(make_driver(source))))
    assert shown.startswith("no NVIDIA driver: the libcuda.so.1 that is found lacks cuCtxPopCurrent_v2, ")
    assert "cuInit" not in shown


CURRENT = """
import ctypes
from swiftdet import cuda_devices
from swiftdet.errors import BackendUnavailable
fake = ctypes.CDLL("libcuda.so.1")
fake.fake_current.restype = ctypes.c_size_t
seen = []
with cuda_devices.current(1):
    seen += [hex(fake.fake_current()), fake.fake_retained()]
try:
    with cuda_devices.current(0):
        raise KeyError
except KeyError:
    pass
try:
    with cuda_devices.current(5):
        pass
except BackendUnavailable as e:
    seen.append(str(e))
print(seen + [fake.fake_current(), fake.fake_retained()])
"""


def test_a_gpu_is_current_for_the_body_alone(fake_driver, run_python):
    gpus = "NVIDIA T4/7/5/15360,NVIDIA A10/8/6/23028"
    shown = run_python(CURRENT, LD_LIBRARY_PATH=str(fake_driver), FAKE_GPUS=gpus).strip()
    error = "the NVIDIA driver refused cuDeviceGet: invalid device ordinal (CUDA error 101); check nvidia-smi"
    assert shown == str(["0x1000000047", 1, error, 0, 0])


def test_a_gpu_s_place_is_what_nvidia_s_other_libraries_know_it_by(fake_driver, run_python):
    code = "from swiftdet import cuda_devices; print(cuda_devices.pci_bus_id(1))"
    gpus = "NVIDIA T4/7/5/15360,NVIDIA A10/8/6/23028"
    assert run_python(code, LD_LIBRARY_PATH=str(fake_driver), FAKE_GPUS=gpus).strip() == "0000:47:00.0"


def test_doctor_shows_the_chain(fake_driver, run_python):
    code = "from swiftdet.cli import main; main(['doctor', '--json'])"
    gpus = "NVIDIA T4/7/5/15360"
    report = json.loads(
        run_python(code, LD_LIBRARY_PATH=str(fake_driver), FAKE_GPUS=gpus, SWIFTDET_TENSORRT_LIB="/none")
    )
    checks = {check["name"]: check for check in report["checks"]}
    assert report["ok"]
    if importlib.util.find_spec("swiftdet._cuda") is not None:
        pytest.skip("this build has a CUDA part, which does not ask this driver")
    assert checks["GPU: driver"]["status"] == "ok"
    assert checks["GPU: device"]["detail"] == "cuda:0 NVIDIA T4, sm_75, 15.0 GiB"
    assert checks["GPU: CUDA part"]["status"] == "warn"
    assert "SWIFTDET_WITH_CUDA=ON" in checks["GPU: CUDA part"]["fix"]
    assert checks["GPU: TensorRT"]["status"] == "warn"
    assert checks["device auto"]["detail"].startswith("cpu: no usable GPU: this installation was built without CUDA")


def test_asking_for_a_gpu_here_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(library, "has_cuda_part", lambda: False)
    monkeypatch.setattr(cuda_devices, "driver", lambda: CudaDriver((13, 0), "", (T4,)))
    (tmp_path / "a.png").write_bytes(b"")
    arguments = ["predict", str(tmp_path / "a.png"), "--model", "yolov7-tiny", "--weights", "synthetic"]
    assert main([*arguments, "--device", "cuda"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: device 'cuda': this installation was built without CUDA; build swiftdet")
    assert error.count("\n") == 1
