"""JSON and other text beside models and data sets: descriptions, metadata, manifests, annotations, unfinished work."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import make_models
import numpy as np
import onnx
from PIL import Image as PilImage

from fuzzing import mutations
from fuzzing.door import Door
from fuzzing.doors import plan_cases
from swiftdet import Detector, evaluate
from swiftdet.engines.tensorrt.plan_files import Manifest
from swiftdet.evaluation.partial_file import NAME, PartialFile
from swiftdet.evaluation.predictions import ImagePredictions, table
from swiftdet.model_files.metadata import parse_metadata
from swiftdet.spec import METADATA_KEY, Head, ModelSpec, Preprocess

SIZE = (64, 96)


class DescriptionDoor(Door):
    """Metadata of a model: swiftdet's own description, and the keys of other exporters."""

    def prepare(self) -> None:
        """Descriptions of three layouts, and an Ultralytics export's keys."""
        specs = [
            plan_cases.spec(),
            ModelSpec(
                family="yolov7",
                names=("a",),
                imgsz=(64, 64),
                stride=32,
                preprocess=Preprocess(mode="letterbox-topleft", mean=(0.5, 0.5, 0.5)),
                head=Head(
                    layout="anchor_maps",
                    num_classes=1,
                    outputs=("p3", "p4"),
                    strides=(8, 16),
                    anchors=((1.0, 2.0), (3.0, 4.0)),
                ),
            ),
        ]
        self._seeds: list[dict[str, str]] = [{METADATA_KEY: spec.to_json()} for spec in specs]
        self._seeds.append(
            {
                "description": "d", "author": "Ultralytics", "stride": "[8, 16, 32]", "task": "detect",
                "imgsz": "[64, 96]",
                "names": "{0: 'a', 1: \"b's\", 2: 'c'}", "end2end": "False", "args": "{'batch': 1, 'nms': True}",
            }
        )  # fmt: skip

    def case(self, rng: random.Random) -> bytes:
        """Keys and values, a value changed inside where it is JSON."""
        entries = dict(rng.choice(self._seeds))
        if METADATA_KEY in entries and rng.random() < 0.8:
            changed = mutations.of_json(json.loads(entries[METADATA_KEY]), rng)
            return json.dumps({METADATA_KEY: mutations.json_text(changed, rng).decode(errors="replace")}).encode()
        key = rng.choice(list(entries))
        text = mutations.of_bytes(
            entries[key].encode(), rng, tokens=[t.encode(errors="replace") for t in mutations.TEXTS]
        )
        return json.dumps({**entries, key: text.decode(errors="replace")}).encode()

    def run(self, case: bytes) -> str:
        """Parses it; what was read is written and read again."""
        entries = _mapping(case)
        if entries is None:
            return "not a case"
        metadata = parse_metadata({str(key): str(value) for key, value in entries.items()})
        if metadata.spec is not None and ModelSpec.from_json(metadata.spec.to_json()) != metadata.spec:
            raise AssertionError("a description does not survive being written")
        return "read"


class ManifestDoor(Door):
    """`Manifest.from_json`: what lies beside a TensorRT engine."""

    def prepare(self) -> None:
        """One manifest."""
        self._seed = plan_cases.manifest(b"plan").to_json().encode()

    def case(self, rng: random.Random) -> bytes:
        """It with other values."""
        return plan_cases.changed_manifest(self._seed, rng)

    def run(self, case: bytes) -> str:
        """Parses it; what was read is written and read again."""
        manifest = Manifest.from_json(case.decode(errors="replace"), Path("case.json"))
        if Manifest.from_json(manifest.to_json(), Path("case.json")) != manifest:
            raise AssertionError("a manifest does not survive being written")
        return "read"


class AnnotationsDoor(Door):
    """`swiftdet.evaluate`: COCO annotations, and pycocotools behind the checks."""

    def prepare(self) -> None:
        """A detector's file, and two images with three objects of two categories."""
        onnx.save(make_models.build("ultralytics-columns", size=SIZE, classes=2, seed=3), self.folder / "model.onnx")
        names = ["a.png", "b.png"]
        for name in names:
            PilImage.new("RGB", (40, 30)).save(self.folder / name)
        rows = [(1, 1, [2, 3, 10, 12], 0), (1, 2, [5.5, 1, 4, 4], 1), (2, 1, [0, 0, 40, 30], 0)]
        self._seed = {
            "info": {"description": "x"},
            "licenses": [],
            "images": [
                {"id": i + 1, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(names)
            ],
            "annotations": [
                {"id": i + 1, "image_id": image, "category_id": category, "bbox": box, "area": box[2] * box[3],
                "iscrowd": crowd}
                for i, (image, category, box, crowd) in enumerate(rows)
            ],
            "categories": [{"id": 1, "name": "class0", "supercategory": "x"}, {"id": 2, "name": "class1"}],
        }  # fmt: skip

    def warm_up(self) -> None:
        """Opens the detector, and loads pycocotools."""
        self._detector = Detector(self.folder / "model.onnx", engine=_Finder())
        self.run(json.dumps(self._seed).encode())

    def case(self, rng: random.Random) -> bytes:
        """The annotations with other values."""
        return mutations.json_text(mutations.of_json(self._seed, rng), rng)

    def run(self, case: bytes) -> str:
        """Reads them and scores a detector that finds one box in each image."""
        path = self.folder / "case.json"
        path.write_bytes(case)
        evaluate(self._detector, self.folder, path).to_dict()
        return "scored"


class _Finder:
    """An engine that finds one box of the first class in each image."""

    inputs = (("images", (1, 3, *SIZE)),)
    outputs = (("output0", (1, 6, 126)),)

    def run(self, _: dict[str, Any]) -> list[Any]:
        """Centre, width and height in px of the input, then a score for each of two classes."""
        answer = np.zeros((1, 6, 126), np.float32)
        answer[0, :, 0] = (11, 13, 16, 19, 0.9, 0.0)
        return [answer]


class UnfinishedDoor(Door):
    """What an interrupted evaluation left, which the next one reads, trusts line by line, and goes on from."""

    def prepare(self) -> None:
        """A file of three images."""
        with self._opened() as kept:
            for image_id in (2, 5, 9):
                kept.add(image_id, ImagePredictions(table([[1.0, 0.5, 2.0, 3.0, 4.0, 0.25]] * image_id), image_id))
        self._seed = kept.path.read_bytes()

    def case(self, rng: random.Random) -> bytes:
        """It with other bytes, or with other values in a line."""
        if rng.random() < 0.4:
            return mutations.of_bytes(self._seed, rng)
        lines = self._seed.splitlines()
        place = rng.randrange(len(lines))
        lines[place] = mutations.json_text(mutations.of_json(json.loads(lines[place]), rng), rng)
        return b"\n".join([*lines, b""])

    def run(self, case: bytes) -> str:
        """Opens it and goes on; what was taken over comes back the next time."""
        (self.folder / NAME).write_bytes(case)
        with self._opened() as kept:
            found = _tables(kept)
            rest = sorted({2, 5, 9} - found.keys())
            for image_id in rest:
                kept.add(image_id, ImagePredictions(table([]), 0))
        with self._opened() as kept:
            if _tables(kept) != found | {image_id: [] for image_id in rest}:
                raise AssertionError("what was taken over and added does not come back")
        return "went on" if found else "began anew"

    def _opened(self) -> PartialFile:
        return PartialFile(self.folder, {"a": [1, 2]}, image_ids=(2, 5, 9), categories=(1, 2), restart=False)


def _tables(kept: PartialFile) -> dict[int, Any]:
    return {image_id: one.table.tolist() for image_id, one in kept.found.items()}


def _mapping(case: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(case)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
