"""tests/gpu/doctest_subset, which stands in for doctest on GPU hosts without it: a test must be able to fail there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "gpu/doctest_subset"

CASES = """
#include <doctest/doctest.h>
#include <stdexcept>
using Error = std::runtime_error;
TEST_CASE("good") {
  CHECK(1 + 1 == 2);
  CHECK_THROWS_AS(throw Error("x"), Error);
  CHECK_THROWS_WITH_AS(throw Error("x"), "x", Error);
}
TEST_CASE("check") { const int i = 3; CAPTURE(i); CHECK(i == 4); }
TEST_CASE("require") { REQUIRE(false); CHECK(false); }
TEST_CASE("nothing thrown") { CHECK_THROWS_AS(static_cast<void>(0), Error); }
TEST_CASE("other words") { CHECK_THROWS_WITH_AS(throw Error("x"), "y", Error); }
TEST_CASE("other type") { CHECK_THROWS_AS(throw std::logic_error("x"), Error); }
TEST_CASE("thrown through") { throw Error("boom"); }
int main(int argc, char** argv) { return doctest::Context(argc, argv).run(); }
"""


@pytest.fixture(scope="module")
def compiler():
    return shutil.which("g++") or pytest.skip("g++ is not installed")


def run(compiler, folder, source):
    (folder / "cases.cpp").write_text(source)
    command = [compiler, "-std=c++20", "-Wall", "-Werror", "-I", FOLDER, "cases.cpp", "-o", "cases"]
    subprocess.run(command, cwd=folder, check=True)
    return subprocess.run([folder / "cases"], capture_output=True, text=True, check=False)


def test_every_kind_of_failure_fails_its_case(compiler, tmp_path):
    done = run(compiler, tmp_path, CASES)
    lines = done.stdout.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines if line.startswith("passed")] == ["good"]
    assert sum(line.startswith("FAILED") for line in lines) == 6
    assert "  i = 3" in lines
    assert lines[-1] == "7 cases, 8 checks, 6 failures"
    assert done.returncode == 1


def test_a_program_without_cases_fails(compiler, tmp_path):
    head, main = CASES.split("TEST_CASE", 1)[0], CASES[CASES.index("int main") :]
    assert run(compiler, tmp_path, head + main).returncode == 1
