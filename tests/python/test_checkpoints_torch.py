"""Checkpoints that torch itself writes, against the arrays it says are in them."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from swiftdet import ModelError, checkpoints

# Writes each file beside a .npz of what torch has in it, bfloat16 as float32.
WRITER = """
import collections, copy, pathlib, sys
import numpy as np
import torch
from torch import nn

folder = pathlib.Path(sys.argv[1])
torch.manual_seed(0)


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = nn.ModuleList([nn.Conv2d(8, 21, 1)])
        self.register_buffer("anchors", torch.rand(1, 3, 2))
        self.register_buffer("passing", torch.rand(3), persistent=False)
        self.scale = nn.Parameter(torch.tensor(1.5))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        conv = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.SiLU(inplace=True))
        self.model = nn.Sequential(conv, nn.MaxPool2d(2), nn.Upsample(scale_factor=2), Head())
        self.names, self.nc, self.yaml = ["cat", "dog"], 2, {"nc": 2, "backbone": [[-1, 1, "Conv", [8, 3]]]}
        self.stride = torch.tensor([8.0])


def numbers(tensor):
    tensor = tensor.detach()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def save(name, value, state, **how):
    torch.save(value, folder / f"{name}.pt", **how)
    np.savez(folder / f"{name}.npz", **{key: numbers(tensor) for key, tensor in state.items()})


model = Model().eval()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
(model.model[0](torch.rand(2, 3, 8, 8)).sum() + model.model[3].scale).backward()
optimizer.step()
half, brain = copy.deepcopy(model).half(), copy.deepcopy(model).bfloat16()
training = {
    "epoch": 3, "best_fitness": np.array([0.5]), "score": np.float64(0.25), "ema": half, "model": model, "updates": 10,
    "optimizer": optimizer.state_dict(), "random": torch.get_rng_state(), "size": torch.Size([1, 2]),
    "device": torch.device("cpu"), "type": torch.float16, "folder": pathlib.Path("runs"), "hyp": {"lr0": 0.01},
    "arguments": __import__("argparse").Namespace(cfg="yolov7.yaml"), "wandb_id": None,
}
forms = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}, "protocol4": {"pickle_protocol": 4}}
for form, how in forms.items():
    save(f"{form}-training", training, half.state_dict(), **how)
    save(f"{form}-module", model, model.state_dict(), **how)
    save(f"{form}-state", {"model": model.state_dict()}, model.state_dict(), **how)
    save(f"{form}-bfloat16", brain.state_dict(), brain.state_dict(), **how)
    parallel = nn.DataParallel(model)
    save(f"{form}-parallel", parallel.state_dict(), model.state_dict(), **how)
    base = torch.arange(120.0).reshape(2, 3, 4, 5)
    views = {
        "whole": base, "transposed": base.permute(3, 1, 0, 2), "strided": base[:, ::2, 1:3, ::3], "row": base[1, 2],
        "one": base[1, 2, 3, 4], "empty": base[:, 3:], "expanded": base[0, 0, 0, :1].expand(6, 1),
        "last": torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    }
    save(f"{form}-views", views, views, **how)
    kinds = {str(kind): (torch.arange(6) % 2).to(getattr(torch, kind)) for kind in (
        "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")}
    save(f"{form}-kinds", kinds, kinds, **how)
save("zip-unsigned", {"x": torch.arange(6).to(torch.uint16)}, {"x": torch.arange(6).to(torch.int32)})
carrying = nn.Parameter(torch.rand(3))
carrying.note = "an attribute"
save("zip-carrying", {"x": carrying}, {"x": carrying})
noted = torch.rand(3)
noted.note = "an attribute"
save("zip-noted", {"x": noted}, {"x": noted})
if hasattr(torch.serialization, "set_crc32_options"):
    torch.serialization.set_crc32_options(False)
    save("zip-unchecked", model.state_dict(), model.state_dict())
torch.jit.trace(model.model[0], torch.rand(1, 3, 8, 8)).save(folder / "script.torchscript")
torch.save(torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.qint8), folder / "quantised.pth")
torch.save({"x": torch.rand(3).to_sparse()}, folder / "sparse.pth")
"""


@pytest.fixture(scope="session")
def written(torch_python, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("written")
    done = subprocess.run(
        [torch_python, "-W", "ignore", "-c", WRITER, folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_everything_torch_writes(written):
    names = sorted(path.stem for path in written.glob("*.npz"))
    assert len(names) >= 24
    for name in names:
        read = checkpoints.read(written / f"{name}.pt")
        with np.load(written / f"{name}.npz") as expected:
            assert list(read.state) == expected.files, name
            for key, array in read.state.items():
                wanted = expected[key].astype(np.uint16) if name == "zip-unsigned" else expected[key]
                np.testing.assert_array_equal(array, wanted, err_msg=f"{name}: {key}", strict=True)
        if name.endswith(("training", "module")):
            assert (read.names, read.num_classes, read.module_class) == (("cat", "dog"), 2, "__main__.Model")
            assert read.config == {"nc": 2, "backbone": [[-1, 1, "Conv", [8, 3]]]}
        assert read.container == ("torch legacy" if name.startswith("legacy") else "torch zip")
    assert "torch" not in sys.modules


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_torch_writes_and_no_detector_has(written):
    for name, message in {
        "script.torchscript": "TorchScript",
        "quantised.pth": r"calls torch\._utils\._rebuild_qtensor",
        "sparse.pth": r"calls torch\.serialization\._get_layout",
    }.items():
        with pytest.raises(ModelError, match=message):
            checkpoints.load(written / name)
