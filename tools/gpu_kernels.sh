#!/usr/bin/env bash
# On a host with a GPU: builds the CUDA kernels for it, runs their tests, and prints the table of their times.
#
#   tools/gpu_kernels.sh [FOLDER]      builds in FOLDER, build/gpu if none is given
#
# Needs the driver, nvcc, a C++ compiler, CMake and Ninja; no network, no Python package, no OpenVINO. The tests are
# built where doctest is installed; the table compares every kernel with the CPU's body in any case.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${1:-build/gpu}
tests=OFF
if [ -e /usr/include/doctest/doctest.h ]; then tests=ON; else echo "doctest is not installed: only the table" >&2; fi
cmake -G Ninja -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DSWIFTDET_WITH_CUDA=ON -DSWIFTDET_CUDA_ARCHITECTURES=native \
  -DSWIFTDET_WITH_OPENVINO=OFF -DSWIFTDET_BUILD_PYTHON=OFF -DSWIFTDET_BUILD_BENCHMARKS=ON -DSWIFTDET_BUILD_TESTS=$tests
if [ $tests = ON ]; then
  cmake --build "$build" --target bench_kernels gpu_letterbox gpu_decode
  SWIFTDET_REQUIRE_GPU=1 ctest --test-dir "$build" -L gpu_cuda --output-on-failure
else
  cmake --build "$build" --target bench_kernels
fi
"$build/benchmarks/cuda/bench_kernels"
