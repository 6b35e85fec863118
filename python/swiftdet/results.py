"""What a detector found in one image: `Detections`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftdet import drawing, images
from swiftdet.boxes import Boxes, FloatArray, HostArray, IntArray, frozen, row_selector
from swiftdet.errors import BackendUnavailable, ImageError, InvalidArgument, InvalidType
from swiftdet.frames import FrameInfo, VideoInfo

if TYPE_CHECKING:
    from typing_extensions import Self

    from swiftdet.device_images import DeviceImage

ByteArray: TypeAlias = npt.NDArray[np.uint8]

__all__ = ["STAGES", "TIMED_STAGES", "Boxes", "Detections", "HostArray"]

STAGES = ("preprocess", "inference", "postprocess")
"""Keys of `Detections.speed`, in the order in which they happen."""
TIMED_STAGES = ("pack", "copy_in", *STAGES, "copy_out", "unpack")
"""The same of a timed call on a GPU: the first and the last by the host's clock, the others by CUDA events."""


class Detections:
    """Objects found in one image, immutable.

    As a detector returns it, the rows are sorted by score, highest first; indexing keeps the order asked for.
    Iteration yields one-row `Detections`. All arrays are read-only, so a result may be shared between threads.

    Attributes:
        xyxy: left, top, right, bottom; float32 [K, 4], px of the source image, clipped to it.
        conf: scores; float32 [K], 0..1.
        cls: class ids; int32 [K].
        names: class id -> name.
        orig_shape: (height, width) of the source image in px, after its EXIF orientation was applied.
        path: the file that the image came from, or None; of a frame, the video, address (without a password) or camera.
        speed: milliseconds per stage: "preprocess", "inference", "postprocess". On a GPU "inference" is all that the
            device does; the host packs before and unpacks after. With `timed=True` the device's stages are taken apart
            by CUDA events, as `TIMED_STAGES`. Of a batch, each image's share.
        truncated: candidates that the limits cut off: beyond the candidate limit, and behind the point where
            `max_det` was full and another box would have survived. 0: nothing is missing.
        note: what reading the file changed, for instance an EXIF rotation, or None.
        frame_index, time_s, video: of a frame: its number from 0, its time in s, what is known of its video; else None.
    """

    __slots__ = (
        "_frame",
        "_image",
        "_names",
        "_orig_shape",
        "_times",
        "cls",
        "conf",
        "note",
        "path",
        "truncated",
        "xyxy",
    )

    cls: IntArray
    conf: FloatArray
    note: str | None
    path: str | None
    truncated: int
    xyxy: FloatArray
    _frame: FrameInfo | None
    _image: images.Image | DeviceImage | None
    _names: Mapping[int, str]
    _orig_shape: tuple[int, int]
    _times: tuple[float, ...]

    def __init__(
        self,
        xyxy: npt.ArrayLike,
        conf: npt.ArrayLike,
        cls: npt.ArrayLike,
        *,
        names: Mapping[int, str] | Sequence[str],
        orig_shape: tuple[int, int],
        path: str | Path | None = None,
        orig_img: ByteArray | images.Image | None = None,
        speed: Mapping[str, float] | None = None,
        truncated: int = 0,
        note: str | None = None,
        frame: FrameInfo | None = None,
    ) -> None:
        """Copies the three arrays.

        Args:
            xyxy: [K, 4] source px; an empty list is taken as [0, 4].
            conf: [K], 0..1.
            cls: [K] integral class ids, each with a name.
            names: by class id, or in its order.
            orig_shape: (height, width) px.
            path: where the image came from.
            orig_img: the source pixels, uint8 [H, W, 3] BGR or an `images.Image`; borrowed, not copied. Without it
                `orig_img` reads `path` again.
            speed: milliseconds per stage, of `STAGES` or of `TIMED_STAGES`; stages left out are 0.
            truncated: candidates cut off.
            note: what reading the image changed.
            frame: which frame of which video it is.

        Raises:
            InvalidArgument: shapes or lengths differ, a box is not finite, a score is outside 0..1, a class has no
                name, a stage is unknown.
            InvalidType: class ids that are not integers.
        """
        boxes = np.array(xyxy, dtype=np.float32)
        if boxes.size == 0:
            boxes = boxes.reshape(0, 4)
        scores = np.array(conf, dtype=np.float32)
        classes = _class_ids(cls)
        count = len(boxes)
        if boxes.shape != (count, 4) or scores.shape != (count,) or classes.shape != (count,):
            raise InvalidArgument(
                "detections: expected xyxy [K, 4], conf [K] and cls [K] of one K, "
                f"got {list(boxes.shape)}, {list(scores.shape)} and {list(classes.shape)}"
            )
        if not np.isfinite(boxes).all():
            raise InvalidArgument("detections: expected finite boxes, got NaN or infinity in xyxy")
        # Negated so that NaN fails too.
        if count and not (scores.min() >= 0.0 and scores.max() <= 1.0):
            raise InvalidArgument(f"detections: expected scores from 0 to 1, got {scores.min()!s} to {scores.max()!s}")
        known = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))
        nameless = set(classes.tolist()) - known.keys()
        if nameless:
            raise InvalidArgument(f"detections: class {min(nameless)} has no name among the {len(known)} given")
        height, width = (int(side) for side in orig_shape)
        if height < 1 or width < 1:
            raise InvalidArgument(f"detections: expected orig_shape (height, width) of at least 1 px, got {orig_shape}")
        given = speed or {}
        times = dict.fromkeys(STAGES if given.keys() <= set(STAGES) else TIMED_STAGES, 0.0)
        for stage, milliseconds in given.items():
            if stage not in times:
                raise InvalidArgument(
                    f"detections: unknown stage {stage!r} in speed; expected {', '.join(TIMED_STAGES)}"
                )
            times[stage] = float(milliseconds)
        image = images.load(orig_img) if isinstance(orig_img, np.ndarray) else orig_img
        if image is not None and image.size != (height, width):
            raise InvalidArgument(
                f"detections: orig_img is {image.size[1]}x{image.size[0]} px, but orig_shape says {width}x{height}"
            )
        self._fill(
            xyxy=frozen(boxes),
            conf=frozen(scores),
            cls=frozen(classes),
            _names=MappingProxyType(known),
            _orig_shape=(height, width),
            path=None if path is None else str(path),
            _image=image,
            _times=tuple(times.values()),
            truncated=int(truncated),
            note=note,
            _frame=frame,
        )

    @classmethod
    def from_core(
        cls,
        core: tuple[FloatArray, FloatArray, IntArray, int, tuple[float, ...]],
        names: Mapping[int, str],
        image: images.Image | DeviceImage,
    ) -> Self:
        """Takes over what the core returned: fresh arrays that need neither a copy nor a check. On the hot path."""
        xyxy, conf, classes, truncated, times = core
        self = object.__new__(cls)
        put = object.__setattr__  # one by one: a loop over names costs several times as much
        put(self, "xyxy", frozen(xyxy))
        put(self, "conf", frozen(conf))
        put(self, "cls", frozen(classes))
        put(self, "_names", names)
        put(self, "_orig_shape", image.size)
        put(self, "path", image.path)
        put(self, "_image", image)
        put(self, "_times", times)
        put(self, "truncated", truncated)
        put(self, "note", image.note)
        put(self, "_frame", image.frame)
        return self

    def _fill(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Detections are immutable: cannot set {name!r}; build a new Detections instead")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Detections are immutable: cannot delete {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles and copies what is there, without checking again what the core made."""
        state = {name: getattr(self, name) for name in self.__slots__}
        return (Detections._restored, ({**state, "_names": dict(self._names)},))

    @classmethod
    def _restored(cls, state: dict[str, Any]) -> Self:
        self = object.__new__(cls)
        arrays = {name: frozen(state[name]) for name in ("xyxy", "conf", "cls")}  # unpickled ones are writable
        self._fill(**{**state, **arrays, "_names": MappingProxyType(state["_names"])})
        return self

    def __len__(self) -> int:
        return len(self.conf)

    def __iter__(self) -> Iterator[Detections]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Detections:
        """The rows at an int, slice, bool mask [K] or index array; always a `Detections`, also for one row.

        Raises:
            IndexError: a row that is not there, or a mask of another length.
        """
        rows = row_selector(index, len(self))
        part = object.__new__(Detections)
        part._fill(
            xyxy=frozen(self.xyxy[rows]),
            conf=frozen(self.conf[rows]),
            cls=frozen(self.cls[rows]),
            **{name: getattr(self, name) for name in self.__slots__ if name not in ("xyxy", "conf", "cls")},
        )
        return part

    def __repr__(self) -> str:
        height, width = self._orig_shape
        return f"Detections({self.verbose()} in an image of {width}x{height})"

    def verbose(self) -> str:
        """Counts per class in words, such as "4 person, 1 bus"; "no objects" when there are none."""
        ids, counts = np.unique(self.cls, return_counts=True)
        by_count = sorted(zip(counts.tolist(), ids.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))
        return ", ".join(f"{count} {self._names[i]}" for count, i in by_count) or "no objects"

    @property
    def names(self) -> dict[int, str]:
        """Class id -> name; a copy, yours to change."""
        return dict(self._names)

    @property
    def orig_shape(self) -> tuple[int, int]:
        """(height, width) of the source image in px."""
        return self._orig_shape

    @property
    def speed(self) -> dict[str, float]:
        """Milliseconds per stage; a copy."""
        return dict(zip(STAGES if len(self._times) == len(STAGES) else TIMED_STAGES, self._times, strict=True))

    @property
    def frame_index(self) -> int | None:
        """Number of the frame in its video, from 0, counting those that were skipped; None for a still."""
        return self._frame.index if self._frame else None

    @property
    def time_s(self) -> float | None:
        """When the frame is to be shown, in s from the start of its video; None for a still."""
        return self._frame.time_s if self._frame else None

    @property
    def video(self) -> VideoInfo | None:
        """What is known of the frame's video: name, frame rate, length; None for a still."""
        return self._frame.video if self._frame else None

    def without_pixels(self) -> Self:
        """The same result, letting go of the source image: for keeping many. `orig_img` and `plot` need a file then."""
        part = object.__new__(type(self))
        part._fill(**{name: getattr(self, name) for name in self.__slots__ if name != "_image"}, _image=None)
        return part

    @property
    def orig_img(self) -> ByteArray:
        """The source image, uint8 [H, W, 3] BGR: the caller's own pixels where they were an array.

        Read again from `path` where the pixels were not kept; costs a decoding each time then.

        Raises:
            InvalidArgument: the result has neither pixels nor a path, or is a frame whose pixels were not kept.
            BackendUnavailable: the pixels are in a GPU's memory.
            ImageError: the file has gone, or has another size now.
        """
        if self._image is not None:
            return self._image.bgr()
        if self._frame is not None:
            raise InvalidArgument(
                f"frame {self._frame.index} of {self.path}: a list of results keeps no pixels of videos; "
                "draw while they come: for result in det.predict(source, stream=True)"
            )
        if self.path is None:
            raise InvalidArgument("this result has neither the source pixels nor a path; pass orig_img or path")
        image = images.load(self.path)
        if image.size != self._orig_shape:
            height, width = self._orig_shape
            raise ImageError(
                f"{self.path}: was {width}x{height} px when detected in, is {image.size[1]}x{image.size[0]} now"
            )
        return image.bgr()

    @property
    def boxes(self) -> Boxes:
        """The boxes under Ultralytics' attribute names."""
        return Boxes(self.xyxy, self.conf, self.cls, self._orig_shape)

    @property
    def masks(self) -> None:
        """No segmentation."""
        return

    @property
    def obb(self) -> None:
        """No rotated boxes."""
        return

    @property
    def keypoints(self) -> None:
        """No poses."""
        return

    @property
    def probs(self) -> None:
        """No classification."""
        return

    def cpu(self) -> Self:
        """The result itself: it lives on the host."""
        return self

    def numpy(self) -> Self:
        """The result itself: its arrays are NumPy's already."""
        return self

    def summary(self, *, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """One dict per row, as Ultralytics': name, class, confidence, box {x1, y1, x2, y2}; and a frame its place.

        Args:
            normalize: boxes as fractions of the image instead of px.
            decimals: digits kept after the point.
        """
        boxes = self.boxes.xyxyn.numpy() if normalize else self.xyxy
        place = {} if self._frame is None else {"frame": self._frame.index, "time_s": round(self._frame.time_s, 6)}
        return [
            {
                "name": self._names[cls],
                "class": cls,
                "confidence": round(conf, decimals),
                "box": {key: round(side, decimals) for key, side in zip(("x1", "y1", "x2", "y2"), box, strict=True)},
                **place,
            }
            for box, conf, cls in zip(boxes.tolist(), self.conf.tolist(), self.cls.tolist(), strict=True)
        ]

    def to_json(self, *, normalize: bool = False, decimals: int = 5, indent: int | None = 2) -> str:
        """`summary` as JSON text."""
        return json.dumps(
            self.summary(normalize=normalize, decimals=decimals),
            indent=indent,
            ensure_ascii=False,
            allow_nan=False,
        )

    def to_coco(
        self, image_id: int, *, category_ids: Mapping[int, int] | Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """Rows of a COCO results file: image_id, category_id, bbox [left, top, width, height] px, score; unrounded.

        Args:
            image_id: of this image in the annotations.
            category_ids: class id -> category id, for instance the 91-space ids of COCO; None: the class id itself.

        Raises:
            InvalidArgument: a class has no category.
        """
        found = set(self.cls.tolist())
        if category_ids is None:
            categories = {cls: cls for cls in found}
        elif isinstance(category_ids, Mapping):
            categories = {int(cls): int(category) for cls, category in category_ids.items()}
        else:
            categories = {cls: int(category) for cls, category in enumerate(category_ids)}
        missing = found - categories.keys()
        if missing:
            raise InvalidArgument(f"to_coco: class {min(missing)} has no category among the {len(categories)} given")
        boxes = self.xyxy.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        return [
            {"image_id": image_id, "category_id": categories[cls], "bbox": box, "score": conf}
            for box, conf, cls in zip(boxes.tolist(), self.conf.tolist(), self.cls.tolist(), strict=True)
        ]

    def to_supervision(self) -> Any:
        """A `supervision.Detections` with its own, writable arrays and `data["class_name"]`.

        Raises:
            BackendUnavailable: the package supervision is not installed.
        """
        try:
            import supervision  # noqa: PLC0415 - an extra
        except ImportError as e:
            raise BackendUnavailable(
                "to_supervision needs the package supervision: pip install 'swiftdet[supervision]'"
            ) from e
        return supervision.Detections(
            xyxy=self.xyxy.copy(),
            confidence=self.conf.copy(),
            class_id=self.cls.astype(int),
            data={"class_name": np.array([self._names[i] for i in self.cls.tolist()], dtype=np.str_)},
        )

    def plot(
        self,
        *,
        labels: bool = True,
        conf: bool = True,
        line_width: int | None = None,
        font_size: float | None = None,
        font: str | Path | None = None,
    ) -> ByteArray:
        """A copy of the image with boxes and labels drawn: uint8 [H, W, 3] BGR.

        Args:
            labels: write the class name.
            conf: write the score behind the name.
            line_width: px; None: by the image's size.
            font_size: px; None: by the image's size.
            font: a TrueType file, for names in scripts that the built-in font lacks.

        Raises:
            InvalidArgument: no pixels and no path, or the font cannot be read.
            ImageError: the file has gone or changed.
        """
        texts = [
            " ".join(([self._names[cls]] if labels else []) + ([f"{score:.2f}"] if conf else []))
            for score, cls in zip(self.conf.tolist(), self.cls.tolist(), strict=True)
        ]
        return drawing.draw_boxes(
            self.orig_img, self.xyxy, self.cls, texts, line_width=line_width, font_size=font_size, font=font
        )

    def save(self, path: str | Path, **plot: Any) -> Path:
        """Writes `plot(**plot)` as a picture; the suffix says the format (.jpg, .png, .webp, .bmp).

        Raises:
            ImageError: a suffix that is no picture format, or the file cannot be written.
        """
        return images.save(self.plot(**plot), path)

    def save_txt(self, path: str | Path, *, save_conf: bool = False) -> Path:
        """Writes one line per row: class id, centre x, centre y, width, height as fractions of the image.

        An existing file is replaced; no detections make an empty file.

        Args:
            path: the file.
            save_conf: add the score at the end of each line.
        """
        lines = []
        for box, conf, cls in zip(self.boxes.xywhn.tolist(), self.conf.tolist(), self.cls.tolist(), strict=True):
            columns = [str(cls), *(f"{side:.6f}" for side in box)]
            lines.append(" ".join(columns + ([f"{conf:.6f}"] if save_conf else [])))
        file = Path(path)
        file.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return file


def _class_ids(cls: npt.ArrayLike) -> IntArray:
    """`cls` as a new int32 array; whole numbers in a float array are taken."""
    ids = np.array(cls)
    if ids.size == 0:
        return np.zeros(ids.shape, dtype=np.int32)
    if not np.issubdtype(ids.dtype, np.integer) and not (
        np.issubdtype(ids.dtype, np.floating) and np.isfinite(ids).all() and (ids == np.trunc(ids)).all()
    ):
        raise InvalidType(f"detections: expected integral class ids, got dtype {ids.dtype}")
    if not -(2**31) <= ids.min() <= ids.max() < 2**31:  # else the conversion would wrap around
        raise InvalidArgument(f"detections: expected class ids within int32, got {ids.min()} to {ids.max()}")
    return ids.astype(np.int32)
