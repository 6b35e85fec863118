#!/usr/bin/env bash
# Runs every benchmark beside its peers and prints the tables of ratios; see benchmarks/README.md.
#
#   tools/bench.sh [PYTEST OPTION...]           e.g. tools/bench.sh -k overhead
#   tools/bench.sh --record [PYTEST OPTION...]  and writes the figures of these cases into benchmarks/README.md
#   tools/bench.sh --check [PYTEST OPTION...]   runs each once, for its answer alone
#   tools/bench.sh --install                    only makes the environment
#
# The peers (ultralytics, torch: several GB) live in an environment of their own: $SWIFTDET_BENCH_VENV or build/bench.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${SWIFTDET_BENCH_VENV:-$PWD/build/bench}
result=$PWD/build/benchmarks.json
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt ".[test]"

measure() {
  mkdir -p build
  "$venv/bin/python" -m pytest benchmarks --timeout=900 --benchmark-enable --benchmark-json="$result" "$@"
}

case "${1-}" in
  --install) ;;
  --check)
    shift
    exec "$venv/bin/python" -m pytest benchmarks --timeout=900 "$@"
    ;;
  --record)
    shift
    measure "$@"
    "$venv/bin/python" tools/write_benchmarks.py "$result" # missed bounds too
    "$venv/bin/python" tools/benchmark_table.py "$result"
    ;;
  *)
    measure "$@"
    "$venv/bin/python" tools/benchmark_table.py "$result"
    ;;
esac
