"""Layers on which OpenVINO crashes are refused before it sees them."""

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


def network(kind, inputs, *, edges=None, opset=1, attributes="", inside=False):
    """The text of an IR: a picture, a layer that reads it so many times, its result. `edges`: fewer than inputs."""
    reads = f"<input>{''.join(port(i) for i in range(inputs))}</input>" if inputs else ""
    layer = f"""<layer id="1" name="tried" type="{kind}" version="opset{opset}"><data {attributes}/>{reads}
        <output>{port(inputs)}</output></layer>"""
    listed = range(inputs if edges is None else edges)
    joined = "".join(f'<edge from-layer="0" from-port="0" to-layer="1" to-port="{i}"/>' for i in listed)
    if inside:
        body = f"<body><layers>{layer}</layers><edges>{joined}</edges></body>"
        layer = f'<layer id="1" name="loop" type="Loop" version="opset5">{body}</layer>'
    return f"""<?xml version="1.0"?><net name="n" version="11"><layers>
        <layer id="0" name="images" type="Parameter" version="opset1"><data shape="1,3,64,96" element_type="f32"/>
        <output>{port(0)}</output></layer>{layer}
        <layer id="2" name="out" type="Result" version="opset1"><input>{port(0)}</input></layer></layers>
        <edges>{joined}<edge from-layer="1" from-port="{inputs}" to-layer="2" to-port="0"/></edges></net>"""


REFUSED = {
    "Broadcast": (network("Broadcast", 1), "layer 'tried': Broadcast needs at least 2 inputs, got 1"),
    "MaxPool": (network("MaxPool", 0), "layer 'tried': MaxPool needs at least 1 inputs, got 0"),
    "ReadValue": (network("ReadValue", 1, opset=6), "layer 'tried': ReadValue keeps a state"),
    "Assign": (network("Assign", 1, opset=6, attributes='variable_id="a"'), "layer 'tried': Assign keeps a state"),
    "in a loop": (network("Broadcast", 1, inside=True), "layer 'tried': Broadcast needs at least 2 inputs, got 1"),
    "ports without edges": (
        network("Broadcast", 2, edges=1),
        "layer 'tried': Broadcast needs at least 2 inputs, got 1",
    ),
    "another case": (network("broadCAST", 1), "layer 'tried': broadCAST needs at least 2 inputs, got 1"),
    "a state in another case": (network("readvalue", 1, opset=6), "layer 'tried': readvalue keeps a state"),
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
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)  # a hang is as bad
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            for text in texts:
                with contextlib.suppress(Exception):
                    read(text)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_what_dies_is_seen():
    assert dies(lambda _: os.kill(os.getpid(), signal.SIGKILL), "")
    assert not dies(int, "no number")


def everything_that_kills():
    """Names the layers on which OpenVINO's reader dies, whatever their inputs, edges, operator set, and case.

    For a process of its own, in which OpenVINO has compiled nothing and so has no threads when it forks.
    """
    import openvino

    core = openvino.Core()
    read = lambda text: core.read_model(text.encode(), b"")  # noqa: E731
    kinds = operations()
    assert len(kinds) > 100, "the installed OpenVINO tells them in another way"
    assert "Broadcast" in kinds
    found = []
    for kind, inputs in itertools.product(kinds, range(4)):
        for spelt, missing in ((kind, 0), (kind.lower(), 0), (kind, 1)):
            if missing > inputs:
                continue
            texts = [network(spelt, inputs, edges=inputs - missing, opset=i) for i in range(1, NEWEST_OPSET + 1)]
            if dies(read, *texts):
                label = f"{spelt} with {inputs} inputs, {missing} of them without an edge"
                found += [(label, text) for text in texts if dies(read, text)]
    return found


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a guard: seconds where nothing else runs
def test_no_other_layer_kills_openvino():
    """Else a file could end the process of whoever opens it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        killers = process.submit(everything_that_kills).result()
    assert [name for name, text in killers if passes(text)] == []
