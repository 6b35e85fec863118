"""README's examples in Python, run as they stand there; its commands are run by CI (tools/readme_block.py)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import swiftdet

README = Path(__file__).parents[2] / "README.md"


def example(name: str) -> str:
    """The fenced block after `<!-- test: name -->`."""
    found = re.findall(rf"^<!-- test: {name} -->\n```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", ["threads", "asyncio"])
def test_the_examples_of_the_dispatcher(name):
    code = example(name)
    assert len([line for line in code.splitlines() if line]) <= 6
    paths = sorted((Path(swiftdet.__file__).parent / "demo/val").glob("*.jpg"))[:8]
    namespace = {"paths": paths}
    exec(compile(code, f"README.md, {name}", "exec"), namespace)  # noqa: S102 - our own text
    with swiftdet.Detector("demo-yolov7", conf=0.4) as detector:
        expected = [detector(path) for path in paths]
    assert sum(map(len, expected)) > 0
    assert len(namespace["results"]) == len(paths)
    for result, wanted in zip(namespace["results"], expected, strict=True):
        np.testing.assert_array_equal(result.xyxy, wanted.xyxy)
        np.testing.assert_array_equal(result.conf, wanted.conf)
