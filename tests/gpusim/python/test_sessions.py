"""How the runs of a call share sessions."""

from __future__ import annotations

import numpy as np
import pytest

import plans
from conftest import picture
from swiftdet import _core
from swiftdet.engines.tensorrt import running
from swiftdet.engines.tensorrt.plan_files import Plan

OPTIONS = {"conf": 0.05, "iou": 0.7, "max_det": 300, "class_agnostic": False, "multi_label": False, "classes": None}


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8])
def test_one_session_serves_runs_of_two_sizes(cuda, read_model, tmp_path, count):
    """Two runs are in flight where there are sessions for it; with one, each waits for the one before."""
    loaded = read_model("ultralytics-columns")
    engine = running.open_engine(Plan(plans.plan_bytes(loaded), tmp_path / "x.engine", "", None, {}), 0)
    preprocess = {name: value for name, value in vars(loaded.spec.preprocess).items() if name != "channel_order"}
    parts = (engine, _core.Preprocess(**preprocess), _core.HeadSpec(**vars(loaded.spec.head)), loaded.spec.imgsz)
    make = running.cuda_part().Detector
    images = [(picture(40 + seed, 70, seed), False) for seed in range(count)]
    free = make(*parts).detect(images, **OPTIONS)
    scarce = make(*parts, max_sessions=1, max_batch=3).detect(images, **OPTIONS)
    assert sum(len(conf) for _, conf, *_ in free) > count
    for a, b in zip(free, scarce, strict=True):
        for left, right in zip(a[:3], b[:3], strict=True):
            np.testing.assert_array_equal(left, right)
