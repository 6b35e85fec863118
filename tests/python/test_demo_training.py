"""The recipe of the demo models, with torch: what is trained is the network that ships, and the scripts run."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import swiftdet
from swiftdet import engines, zoo

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tools" / "demo"
CLASSES = 5

# Every layer kind of both families: the demos' own plans, and those with poolings, plain stems and depthwise layers.
NETWORKS = ["demo-yolov7", "demo-damo-yolo", "yolov7-tiny", "damo-yolo-ns"]
FORWARD = """
import sys
import numpy as np, torch
from swiftdet.zoo import damo_yolo, yolov7
from torch_network import TorchNetwork

name, out = sys.argv[1:]
torch.manual_seed(0)
if name in yolov7.ARCHITECTURES:
    layers = yolov7.network(yolov7.ARCHITECTURES[name], num_classes=5, training=True)
else:
    layers = damo_yolo.network(damo_yolo.ARCHITECTURES[name], num_classes=5)
network = TorchNetwork(layers).to(memory_format=torch.channels_last)
with torch.no_grad():
    for key, value in network.state_dict().items():
        if value.dtype.is_floating_point and value.ndim <= 1 or key.endswith(("added", "scale")):
            value.uniform_(0.5, 1.5) if key.endswith(("var", "norm.weight", "scale")) else value.normal_(0.0, 0.3)
    x = torch.rand(2, 3, 64, 96)
    maps = network.eval()(x.contiguous(memory_format=torch.channels_last))
np.savez(out, images=x.numpy(), **{f"map{i}": m.numpy() for i, m in enumerate(maps)})
np.savez(out + ".state", **network.official_state())
"""


# This interpreter's packages behind torch's own, editable installs included; then the script.
BOOTSTRAP = """
import runpy, site, sys
packages, scripts, *sys.argv = sys.argv[1:]
site.addsitedir(packages)
sys.path.insert(0, scripts)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def run(torch_python):
    """Runs a script by torch's interpreter; returns what it printed."""

    def call(*arguments: object) -> str:
        command = [torch_python, "-c", BOOTSTRAP, sysconfig.get_path("platlib"), SCRIPTS, *arguments]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return call


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", NETWORKS)
def test_torch_computes_what_the_graph_computes(run, tmp_path, name):
    (tmp_path / "forward.py").write_text(FORWARD)
    run(tmp_path / "forward.py", name, tmp_path / "forward.npz")
    with np.load(tmp_path / "forward.npz") as stored, np.load(tmp_path / "forward.npz.state.npz") as state:
        images = stored["images"]
        maps = [stored[f"map{i}"] for i in range(len(stored.files) - 1)]
        model = zoo.build(name, dict(state), imgsz=images.shape[2:], batch=len(images), num_classes=CLASSES)
    backend = engines.compile(model.SerializeToString(), engine="onnxruntime", input_shape=list(images.shape))
    outputs = backend.infer(images)
    assert len(outputs) == len(maps)
    for ours, theirs in zip(outputs, maps, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * max(1.0, np.abs(theirs).max()))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", zoo.demo_names())
def test_the_training_script_makes_a_checkpoint(run, tmp_path, name):
    run(SCRIPTS / "make_dataset.py", tmp_path / "data", "--train", 64, "--val", 8)
    log = run(SCRIPTS / "train.py", tmp_path / "data", name, "-o", tmp_path / "trained.safetensors", "--epochs", 8)
    box_losses = [float(loss) for loss in re.findall(r"box ([0-9.]+)", log)]
    assert len(box_losses) == 8
    assert box_losses[-1] < box_losses[0]
    with swiftdet.Detector(name, weights=tmp_path / "trained.safetensors") as detector:
        categories = json.loads((tmp_path / "data" / "val.json").read_text())["categories"]
        assert list(detector.names.values()) == [category["name"] for category in categories]
        detector(tmp_path / "data" / "val" / "val_00000.jpg", conf=0.0)
