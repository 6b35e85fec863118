#!/usr/bin/env bash
# Makes the bundled demo models anew: data set, training, validation figures, samples. Under an hour on two cores.
#
#   tools/demo/reproduce.sh [FOLDER]   works in FOLDER (default build/demo), writes to python/swiftdet/demo
set -euo pipefail
cd "$(dirname "$0")/../.."

work=${1:-build/demo}
out=python/swiftdet/demo
mkdir -p "$work"
if [ ! -x "$work/venv/bin/python" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install -q -r tools/demo/requirements.txt .
fi
python=$work/venv/bin/python

"$python" tools/demo/make_dataset.py "$work/data"
for model in demo-yolov7 demo-damo-yolo; do
  [ "$model" = demo-yolov7 ] && protocol=yolov7-fixed || protocol=damo-yolo
  "$python" tools/demo/train.py "$work/data" "$model" -o "$out/$model.safetensors"
  "$work/venv/bin/swiftdet" val --model "$model" --weights "$out/$model.safetensors" --protocol "$protocol" \
    --images "$work/data/val" --annotations "$work/data/val.json"
done
"$python" tools/demo/make_samples.py "$work/data" "$out"
