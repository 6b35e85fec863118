"""Real inputs and peers for the benchmarks. Run them by tools/bench.sh, whose environment has the peers."""

from __future__ import annotations

import os
import shlex
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import other_work
import peers
import real_inputs

LIBRARIES = {
    *("av", "numpy", "onnxruntime", "opencv-python-headless", "openvino", "pillow", "torch", "torchvision"),
    "ultralytics-opencv-headless",
}


def pytest_benchmark_update_machine_info(config, machine_info):
    """What a figure depends on besides the machine, and how it was asked for."""
    found = {made.metadata["Name"].lower(): made.version for made in metadata.distributions()}
    machine_info["libraries"] = {name: found[name] for name in sorted(LIBRARIES & found.keys())}
    own = ("benchmarks", "--benchmark-", "--timeout=", "-q", "-v")
    chosen = [argument for argument in map(str, config.invocation_params.args) if not argument.startswith(own)]
    machine_info["command"] = shlex.join(["tools/bench.sh", "--record", *chosen])


def pytest_collection_modifyitems(items):
    # Peers warn about themselves; the suite's "a warning is an error" is for our own tests.
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="module")
def told_of_other_work():
    """Gathers the `extra_info` of a suite's tests, and writes into all of them what else the machine did meanwhile."""
    gathered = []
    with other_work.watched() as found:
        yield gathered
    for extra_info in gathered:
        extra_info.update(found)


@pytest.fixture(autouse=True)
def tell_of_other_work(benchmark, told_of_other_work):
    told_of_other_work.append(benchmark.extra_info)


@pytest.fixture(scope="session")
def real_model() -> Path:
    """YOLOv8s, float32 [1, 3, 640, 640] to [1, 6, 8400], as ONNX."""
    return real_inputs.fetch(real_inputs.FALL_DETECTOR) / "best_fp16.onnx"


@pytest.fixture(scope="session")
def exported_model(real_model, tmp_path_factory) -> Path:
    """The same network as a folder that ultralytics runs on OpenVINO."""
    return peers.save_for_ultralytics(real_model, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def frame() -> np.ndarray:
    """A photograph at 1920x1080, uint8 BGR, as a camera would hand it over."""
    cv2 = pytest.importorskip("cv2")
    image = cv2.imread(str(real_inputs.fetch(real_inputs.PHOTOGRAPHS) / "zidane.jpg"))
    return cv2.resize(image, (1920, 1080), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="session")
def ultralytics(tmp_path_factory):
    """The peer, kept from installing packages, from the network, and from the user's own settings."""
    os.environ["YOLO_CONFIG_DIR"] = str(tmp_path_factory.mktemp("ultralytics"))
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_VERBOSE="false")
    return pytest.importorskip("ultralytics", reason="the peers are installed by tools/bench.sh")


@pytest.fixture(scope="module")
def one_torch_thread():
    """For peers that are compared in one thread."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
