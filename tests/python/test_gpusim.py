"""Around the tests of the GPU kernels, which are C++ (tests/gpusim): what they take for granted, what judges them."""

from __future__ import annotations

import dataclasses

from make_nv12 import FILE, content

import kernel_resources
from kernel_resources import Resources, architectures, faults, parse, printed

NVCC_SAYS = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN8swiftdet3ops4cuda11scan_kernelIfEEvi' for 'sm_75'
ptxas info    : Function properties for _ZN8swiftdet3ops4cuda11scan_kernelIfEEvi
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 49 registers, used 1 barriers, 2048 bytes smem, 1560 bytes cmem[0]
ptxas info    : Compiling entry function '_ZN8swiftdet3ops4cuda10nms_kernelEb' for 'sm_120'
ptxas info    : Function properties for _ZN8swiftdet3ops4cuda10nms_kernelEb
    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 44 registers, used 1 barriers, 440 bytes cmem[0]
"""


def test_the_nv12_file_is_what_opencv_makes():
    assert FILE.read_bytes() == content()


def test_every_kernel_of_the_compilers_words_is_in_the_table():
    scan = Resources("swiftdet::ops::cuda::scan_kernel<float>", 75, registers=49, stack=0, spills=0, shared=2048)
    nms = Resources("swiftdet::ops::cuda::nms_kernel", 120, registers=44, stack=16, spills=12, shared=0)
    assert list(parse(NVCC_SAYS)) == [scan, nms]
    assert len(printed([scan, nms]).splitlines()) == 3


def test_spills_and_missing_architectures_are_faults(monkeypatch):
    good = [Resources("k", a, registers=8, stack=0, spills=0, shared=0) for a in architectures()]
    assert faults(good) == []
    assert faults([]) == ["no kernel was found"]
    assert faults(good[:-1]) == [f"k: not compiled for sm_{architectures()[-1]}"]
    spilling = [dataclasses.replace(good[0], spills=8), *good[1:]]
    assert faults(spilling) == ["k on sm_75: 8 bytes of spills, 0 bytes of stack"]
    assert faults([dataclasses.replace(good[0], stack=4), *good[1:]]) != []
    monkeypatch.setattr(kernel_resources, "EXCEPTIONS", {"k": "a reason"})
    assert faults(spilling) == []
    monkeypatch.setattr(kernel_resources, "EXCEPTIONS", {"gone": "a reason"})
    assert faults(good) == ["gone: an exception for a kernel that is not there"]


def test_a_release_has_the_architectures_that_the_documents_name():
    assert architectures() == [75, 80, 86, 89, 90, 100, 120]
    assert {path.name for path in kernel_resources.SOURCES} >= {"decode_cuda.cu", "letterbox_cuda.cu", "nms_cuda.cu"}
