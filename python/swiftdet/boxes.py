"""`Boxes`: detections under the attribute names of Ultralytics, on NumPy arrays that answer tensor calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from swiftdet.errors import InvalidArgument

if TYPE_CHECKING:
    from typing_extensions import Self

FloatArray: TypeAlias = npt.NDArray[np.float32]
IntArray: TypeAlias = npt.NDArray[np.int32]


class HostArray(np.ndarray[Any, Any]):
    """A NumPy array that also answers the calls that code written for torch tensors makes.

    It never leaves the host: `.cpu()` and `.to("cpu")` return the array itself, `.to("cuda")` is refused. Single
    elements are NumPy scalars (`.item()`, `int()`, `float()`), which other libraries take where they want numbers.
    """

    def __new__(cls, array: npt.ArrayLike) -> Self:
        """Views `array`; nothing is copied if it already is one."""
        return np.asarray(array).view(cls)

    def __float__(self) -> float:
        """The only element: arrays of shape (1,) convert too, as torch tensors do."""
        return float(self.item())

    def __int__(self) -> int:
        """The only element, towards zero."""
        return int(self.item())

    def cpu(self) -> Self:
        """The array itself."""
        return self

    def numpy(self) -> npt.NDArray[Any]:
        """The same memory as a plain, read-only `np.ndarray`."""
        return self.view(np.ndarray)

    def int(self) -> HostArray:
        """A copy as int32."""
        return self.astype(np.int32).view(HostArray)

    def to(self, target: Any = "cpu") -> HostArray:
        """The array itself for the device "cpu", a copy for a NumPy dtype.

        Raises:
            InvalidArgument: another device, or a dtype that is not NumPy's.
        """
        if str(target) == "cpu":
            return self
        try:
            return self.astype(np.dtype(target)).view(HostArray)
        except TypeError as e:
            raise InvalidArgument(
                f"results live on the host: expected 'cpu' or a NumPy dtype, got {target!r}; "
                "torch.from_numpy(array.copy()) makes a tensor to move"
            ) from e


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array itself, read-only from now on."""
    array.setflags(write=False)
    return array


class Boxes:
    """Boxes of one image under the attribute names of Ultralytics' `Boxes`, backed by NumPy and read-only.

    Safe to share between threads.
    """

    __slots__ = ("_cls", "_conf", "_orig_shape", "_xyxy")

    is_track = False
    """Boxes carry no track: `id` is None."""

    def __init__(self, xyxy: FloatArray, conf: FloatArray, cls: IntArray, orig_shape: tuple[int, int]) -> None:
        """Views the arrays of a `Detections`; use `Detections.boxes`."""
        self._xyxy = xyxy
        self._conf = conf
        self._cls = cls
        self._orig_shape = orig_shape

    def __len__(self) -> int:
        return len(self._conf)

    def __getitem__(self, index: Any) -> Boxes:
        """The boxes at an int, slice, mask or index array; always a `Boxes`, also for one."""
        rows = row_selector(index, len(self))
        return Boxes(frozen(self._xyxy[rows]), frozen(self._conf[rows]), frozen(self._cls[rows]), self._orig_shape)

    def __iter__(self) -> Iterator[Boxes]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Boxes({len(self)} in an image of {self._orig_shape[1]}x{self._orig_shape[0]})"

    @property
    def xyxy(self) -> HostArray:
        """Left, top, right, bottom; float32 [K, 4], source px."""
        return HostArray(self._xyxy)

    @property
    def xywh(self) -> HostArray:
        """Centre x, centre y, width, height; float32 [K, 4], source px."""
        low, high = self._xyxy[:, :2], self._xyxy[:, 2:]
        return HostArray(frozen(np.concatenate(((low + high) / 2, high - low), axis=1)))

    @property
    def xyxyn(self) -> HostArray:
        """`xyxy` as fractions of the image's width and height; float32 [K, 4]."""
        return HostArray(frozen(self._xyxy / self._extent()))

    @property
    def xywhn(self) -> HostArray:
        """`xywh` as fractions of the image's width and height; float32 [K, 4]."""
        return HostArray(frozen(self.xywh.numpy() / self._extent()))

    @property
    def conf(self) -> HostArray:
        """Scores 0..1; float32 [K]."""
        return HostArray(self._conf)

    @property
    def cls(self) -> HostArray:
        """Class ids, float32 [K] as in Ultralytics; `Detections.cls` has them as int32."""
        return HostArray(frozen(self._cls.astype(np.float32)))

    @property
    def id(self) -> None:
        """Track ids: none."""
        return

    @property
    def data(self) -> HostArray:
        """Columns x1 y1 x2 y2 conf cls; float32 [K, 6]."""
        columns = np.column_stack((self._xyxy, self._conf, self._cls.astype(np.float32)))
        return HostArray(frozen(columns.astype(np.float32, copy=False)))

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of `data`: (K, 6)."""
        return (len(self), 6)

    @property
    def orig_shape(self) -> tuple[int, int]:
        """(height, width) of the source image in px."""
        return self._orig_shape

    def cpu(self) -> Self:
        """The boxes themselves."""
        return self

    def numpy(self) -> Self:
        """The boxes themselves; their arrays are NumPy's already."""
        return self

    def _extent(self) -> FloatArray:
        height, width = self._orig_shape
        return np.array([width, height, width, height], dtype=np.float32)


def row_selector(index: Any, count: int) -> slice | npt.NDArray[Any]:
    """What selects rows and keeps the row axis, from an int, slice, mask or index array."""
    if isinstance(index, slice):
        return index
    if isinstance(index, int | np.integer) and not isinstance(index, bool | np.bool_):
        row = int(index)
        if not -count <= row < count:
            raise IndexError(f"row {row} of {count} detections")
        row %= count
        return slice(row, row + 1)
    rows = np.asarray(index)
    if rows.size == 0 and rows.dtype != np.bool_:
        rows = rows.astype(np.intp)
    if rows.ndim == 0:
        return row_selector(rows.item(), count) if np.issubdtype(rows.dtype, np.integer) else _refuse_index(index)
    if rows.ndim != 1 or not (rows.dtype == np.bool_ or np.issubdtype(rows.dtype, np.integer)):
        return _refuse_index(index)
    if rows.dtype == np.bool_ and len(rows) != count:
        raise IndexError(f"a mask of {len(rows)} for {count} detections")
    return rows


def _refuse_index(index: object) -> slice:
    raise IndexError(f"expected an int, a slice, a bool mask [K] or an index array, got {index!r:.60}")
