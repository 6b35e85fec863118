"""Compiles every kernel for every architecture with the real nvcc, and checks what each one needs of a GPU.

    python tools/kernel_resources.py [--nvcc NVCC] [--output TABLE]

Warnings are errors. A kernel that runs for every frame may neither spill registers nor use a stack: both are memory
traffic that no test of values would show. The table goes to TABLE and to the standard output.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "cpp/src").rglob("*.cu"))
CMAKE = (ROOT / "cmake/cuda.cmake").read_text()

# Kernels that may spill or use a stack, each with the reason. None does.
EXCEPTIONS: dict[str, str] = {}


@dataclasses.dataclass(frozen=True)
class Resources:
    """What ptxas says of one kernel on one architecture; bytes, save for the registers of a thread."""

    kernel: str
    architecture: int
    registers: int
    stack: int
    spills: int
    shared: int


def set_in_cmake(pattern: str) -> list[str]:
    """Words that cmake/cuda.cmake, the one place that lists them, sets a variable to."""
    found = re.search(rf"set\({pattern}\)", CMAKE)
    if found is None:
        raise SystemExit(f"cmake/cuda.cmake no longer has: set({pattern})")
    return found[1].split()


def architectures() -> list[int]:
    """Those of a release."""
    return [int(number) for number in set_in_cmake(r"SWIFTDET_ALL_CUDA_ARCHITECTURES ([\d ]+)")]


def flags() -> list[str]:
    """The package's own for device code."""
    return set_in_cmake(r"options (--fmad=false [^)]*)")


def find_nvcc() -> str | None:
    """Where CMake would find it."""
    names = ("CUDAToolkit_ROOT", "CUDA_PATH")
    roots = [*(os.environ.get(name) for name in names), "/usr/local/cuda"]
    return shutil.which("nvcc") or shutil.which("nvcc", path=os.pathsep.join(f"{root}/bin" for root in roots if root))


def compile_for(nvcc: str, source: Path, architecture: int, *, ptx: bool) -> str:
    """Compiles `source` and returns what ptxas says. Raises CalledProcessError with the compiler's words."""
    code = [f"sm_{architecture}", *([f"compute_{architecture}"] if ptx else [])]
    command = [
        nvcc,
        "-std=c++20",
        "-O3",
        *flags(),
        "-Werror=all-warnings",
        "-Xptxas=-v",
        f"-gencode=arch=compute_{architecture},code=[{','.join(code)}]",
        *(f"-I{ROOT / folder}" for folder in ("cpp/include", "cpp/src")),
        "-c",
        str(source),
        "-o",
    ]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*command, f"{folder}/kernels.o"], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def readable(mangled: list[str]) -> dict[str, str]:
    """Names of kernels without their parameters: `swiftdet::ops::cuda::scan_kernel<float>`."""
    demangler = shutil.which("c++filt") or "c++filt"
    done = subprocess.run([demangler], input="\n".join(mangled), capture_output=True, text=True, check=True)
    lines = [line.removeprefix("void ") for line in done.stdout.splitlines()]
    return {name: re.sub(r"\(.*", "", line) for name, line in zip(mangled, lines, strict=True)}


ENTRY = re.compile(
    r"Compiling entry function '(?P<kernel>\w+)' for 'sm_(?P<architecture>\d+)'"
    r".*?(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers(?:[^\n]*?(?P<shared>\d+) bytes smem)?",
    re.DOTALL,
)


def parse(words: str) -> Iterator[Resources]:
    """The kernels that ptxas reports."""
    found = list(ENTRY.finditer(words))
    names = readable([match["kernel"] for match in found])
    for match in found:
        yield Resources(
            kernel=names[match["kernel"]],
            architecture=int(match["architecture"]),
            registers=int(match["registers"]),
            stack=int(match["stack"]),
            spills=int(match["stores"]) + int(match["loads"]),
            shared=int(match["shared"] or 0),
        )


def faults(table: list[Resources]) -> list[str]:
    """What the table must not hold, and what it must."""
    found = [
        f"{row.kernel} on sm_{row.architecture}: {row.spills} bytes of spills, {row.stack} bytes of stack"
        for row in table
        if (row.spills or row.stack) and row.kernel not in EXCEPTIONS
    ]
    for kernel in sorted({row.kernel for row in table}):
        missing = set(architectures()) - {row.architecture for row in table if row.kernel == kernel}
        found += [f"{kernel}: not compiled for sm_{architecture}" for architecture in sorted(missing)]
    unknown = set(EXCEPTIONS) - {row.kernel for row in table}
    found += [f"{kernel}: an exception for a kernel that is not there" for kernel in sorted(unknown)]
    return found or ([] if table else ["no kernel was found"])


def printed(table: list[Resources]) -> str:
    """One line for each kernel and architecture."""
    lines = [f"{'kernel':58} {'sm':>4} {'registers':>9} {'stack':>6} {'spills':>6} {'shared':>6}"]
    lines += [
        f"{row.kernel:58} {row.architecture:4} {row.registers:9} {row.stack:6} {row.spills:6} {row.shared:6}"
        for row in sorted(table, key=lambda row: (row.kernel, row.architecture))
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Compiles, prints, judges: 0 where every kernel is as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvcc", default=find_nvcc(), help="the compiler (default: in PATH or its usual place)")
    parser.add_argument("--output", type=Path, help="a file for the table")
    arguments = parser.parse_args()
    if arguments.nvcc is None:
        print("no nvcc was found: install NVIDIA's CUDA toolkit, or name it by --nvcc", file=sys.stderr)
        return 1
    newest = max(architectures())
    jobs = [(source, architecture) for source in SOURCES for architecture in architectures()]
    table: list[Resources] = []
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = [pool.submit(compile_for, arguments.nvcc, s, a, ptx=a == newest) for s, a in jobs]
        for (source, architecture), result in zip(jobs, results, strict=True):
            try:
                table += parse(result.result())
            except subprocess.CalledProcessError as error:
                print(f"{source.name} for sm_{architecture}:\n{error.stdout}{error.stderr}", file=sys.stderr)
                pool.shutdown(cancel_futures=True)
                return 1
    print(printed(table), end="")
    if arguments.output:
        arguments.output.write_text(printed(table))
    for fault in faults(table):
        print(f"FAULT: {fault}", file=sys.stderr)
    return 1 if faults(table) else 0


if __name__ == "__main__":
    sys.exit(main())
