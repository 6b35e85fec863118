"""Layers on which OpenVINO crashes are refused before it sees them, and they are all there are."""

from __future__ import annotations

import ast
import contextlib
import itertools
import multiprocessing
import os
import signal
import xml.etree.ElementTree as ET
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

import swiftdet
from swiftdet.errors import ModelError
from swiftdet.model_files.openvino_ir_checks import check_layers

NEWEST_OPSET = 16


def port(number):
    return f'<port id="{number}" precision="FP32"><dim>1</dim><dim>3</dim><dim>64</dim><dim>96</dim></port>'


def network(kind, inputs, *, opset=1, attributes="", inside=False):
    """The text of an IR: a picture, a layer that reads it so many times, its result."""
    reads = f"<input>{''.join(port(i) for i in range(inputs))}</input>" if inputs else ""
    layer = f"""<layer id="1" name="tried" type="{kind}" version="opset{opset}"><data {attributes}/>{reads}
        <output>{port(inputs)}</output></layer>"""
    if inside:
        layer = f'<layer id="1" name="loop" type="Loop" version="opset5"><body><layers>{layer}</layers></body></layer>'
    edges = "".join(f'<edge from-layer="0" from-port="0" to-layer="1" to-port="{i}"/>' for i in range(inputs))
    return f"""<?xml version="1.0"?><net name="n" version="11"><layers>
        <layer id="0" name="images" type="Parameter" version="opset1"><data shape="1,3,64,96" element_type="f32"/>
        <output>{port(0)}</output></layer>{layer}
        <layer id="2" name="out" type="Result" version="opset1"><input>{port(0)}</input></layer></layers>
        <edges>{edges}<edge from-layer="1" from-port="{inputs}" to-layer="2" to-port="0"/></edges></net>"""


REFUSED = {
    "Broadcast": (network("Broadcast", 1), "layer 'tried': Broadcast needs at least 2 inputs, got 1"),
    "MaxPool": (network("MaxPool", 0), "layer 'tried': MaxPool needs at least 1 inputs, got 0"),
    "ReadValue": (network("ReadValue", 1, opset=6), "layer 'tried': ReadValue keeps a state"),
    "Assign": (network("Assign", 1, opset=6, attributes='variable_id="a"'), "layer 'tried': Assign keeps a state"),
    "in a loop": (network("Broadcast", 1, inside=True), "layer 'tried': Broadcast needs at least 2 inputs, got 1"),
}


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_in_words(tmp_path, text, words):
    (tmp_path / "case.xml").write_text(text)
    (tmp_path / "case.bin").write_bytes(b"")
    with pytest.raises(ModelError) as refusal:
        swiftdet.Detector(tmp_path / "case.xml", device="cpu")
    assert words in str(refusal.value)
    assert str(tmp_path / "case.xml") in str(refusal.value)


def passes(text):
    try:
        check_layers(ET.fromstring(text))  # noqa: S314 - ours
    except ModelError:
        return False
    return True


@pytest.mark.parametrize(("kind", "inputs"), [("Broadcast", 2), ("Broadcast", 3), ("MaxPool", 1), ("Sigmoid", 0)])
def test_passed_on(kind, inputs):
    assert passes(network(kind, inputs))


def operations():
    """All that the installed OpenVINO's Python API can create, by the names that an IR gives them."""
    import openvino

    created = set()
    for file in Path(openvino.__file__).parent.rglob("opset*/*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "create":
                created |= {argument.value for argument in call.args[:1] if isinstance(argument, ast.Constant)}
    return sorted(created)


def dies(read, *texts):
    """Whether a process of its own ends by a signal where it reads these, whatever it says of each."""
    child = os.fork()  # of a process in which OpenVINO has not compiled anything, and so has no threads
    if child == 0:
        signal.alarm(30)
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        for text in texts:
            with contextlib.suppress(Exception):
                read(text)
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_what_dies_is_seen():
    assert dies(lambda _: os.kill(os.getpid(), signal.SIGKILL), "")
    assert not dies(int, "no number")


def everything_that_kills():
    """Names the layers on which OpenVINO's reader dies, whatever their number of inputs and operator set."""
    import openvino

    core = openvino.Core()
    read = lambda text: core.read_model(text.encode(), b"")  # noqa: E731
    found = []
    for kind, inputs in itertools.product(operations(), range(4)):
        texts = [network(kind, inputs, opset=opset) for opset in range(1, NEWEST_OPSET + 1)]
        if dies(read, *texts):
            found += [(f"{kind} with {inputs} inputs", text) for text in texts if dies(read, text)]
    return found


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a guard: seconds where nothing else runs
def test_no_other_layer_kills_openvino():
    """Else a file could end the process of whoever opens it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        killers = process.submit(everything_that_kills).result()
    assert [name for name, text in killers if passes(text)] == []
