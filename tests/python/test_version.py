"""The version has one source, pyproject.toml."""

import importlib.metadata

import swiftdet
from swiftdet import _core


def test_package_core_and_metadata_agree():
    assert swiftdet.__version__ == _core.__version__ == importlib.metadata.version("swiftdet")


def test_build_config_names_the_version_and_the_instruction_sets():
    config = _core.build_config()
    assert config["version"] == swiftdet.__version__
    assert config["isas"][0] == "scalar"
    assert config["active_isa"] in config["isas"]


def test_forced_scalar_is_what_runs(forced_scalar):
    code = "from swiftdet import _core; print(_core.build_config()['active_isa'])"
    assert forced_scalar(code).strip() == "scalar"


def test_an_unknown_instruction_set_is_refused(run_python):
    code = """
from swiftdet import _core
from swiftdet.errors import InvalidArgument
try:
    _core.build_config()
except InvalidArgument as e:
    print(e)
"""
    message = run_python(code, SWIFTDET_FORCE_ISA="sse9")
    assert "SWIFTDET_FORCE_ISA: expected one of scalar" in message
    assert "'sse9'" in message
