#!/usr/bin/env bash
# Builds the CUDA half for this machine's GPU, runs the tests marked gpu_cuda, and times the kernels: one table.
#
#   tools/gpu_host.sh                          under eight minutes on a GPU host
#   tools/gpu_host.sh --build-only [--for 75]  compiles alone; --for: for that architecture, where no GPU is visible
#
# Needs the driver, nvcc, g++, CMake, Ninja, Python and pytest. Needs no network, no OpenVINO, no TensorRT.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly BUILD=$PWD/build/gpu-host
build_only=
architectures=
while [ $# -gt 0 ]; do
  case $1 in
    --build-only) build_only=yes ;;
    --for) architectures=${2:?--for expects an architecture such as 75}-real && shift ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
  esac
  shift
done

missing=()
for tool in cmake ninja g++ python3; do command -v "$tool" >/dev/null || missing+=("$tool"); done
nvcc=$(PATH=${CUDAToolkit_ROOT:+$CUDAToolkit_ROOT/bin:}$PATH:${CUDA_PATH:+$CUDA_PATH/bin:}/usr/local/cuda/bin command -v nvcc) ||
  missing+=("nvcc (NVIDIA's CUDA toolkit)")
[ -n "$build_only" ] || python3 -c 'import pytest' 2>/dev/null || missing+=(pytest)
if [ ${#missing[@]} -gt 0 ]; then
  printf 'missing: %s\n' "${missing[@]}" >&2
  exit 1
fi
if [ -z "$architectures" ]; then
  capabilities=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -u) || true
  if [ -z "$capabilities" ]; then
    echo "no GPU: nvidia-smi shows none. To see that it compiles: tools/gpu_host.sh --build-only --for 75" >&2
    exit 1
  fi
  architectures=$(sed 's/$/-real/' <<<"$capabilities" | paste -sd ';')
fi

start=$SECONDS
mkdir -p "$BUILD"
echo "=== building for $architectures with $nvcc"
cmake --preset gpu-host -DSWIFTDET_CUDA_ARCHITECTURES="$architectures" -DSWIFTDET_NVCC="$nvcc" >"$BUILD/configure.log" 2>&1 ||
  { cat "$BUILD/configure.log" >&2; exit 1; }
cmake --build --preset gpu-host --parallel "$(nproc)"
echo "=== built in $((SECONDS - start)) s"
[ -z "$build_only" ] || exit 0

status=0
echo "=== tests"
SWIFTDET_GPU_BUILD=$BUILD SWIFTDET_REQUIRE_GPU=1 python3 -m pytest -c tests/gpu/pytest.ini -m gpu_cuda tests/gpu || status=1
echo "=== times"
nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit,pstate --format=csv || true
"$BUILD/benchmarks/gpu/gpu_benchmark" || status=1
echo "=== $([ $status = 0 ] && echo passed || echo FAILED) after $((SECONDS - start)) s"
exit $status
