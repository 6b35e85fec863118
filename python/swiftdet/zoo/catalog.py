"""Facts about the official variants of YOLOv7 and DAMO-YOLO, with where each figure comes from.

Parameters and GFLOPs are counted by us on the deploy form of each network (branches merged, batch norms folded,
80 classes), in one way for both families: parameters are the convolutions' weights and biases, and DAMO-YOLO's three
level scales (which our graphs have folded in); GFLOPs are two per multiply-accumulate of a convolution, nothing else.
What the projects publish stands beside them, with a note where the two do not describe the same network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

COUNTING = {
    "form": "deploy: branches merged, batch norms folded, 80 classes (demos: 8)",
    "params": "weights and biases of the convolutions, and the three level scales of DAMO-YOLO",
    "gflops": "2 per multiply-accumulate of a convolution at imgsz, batch 1, nothing else; in units of 1e9",
}
"""How `params` and `gflops` of every variant are counted."""

Split = Literal["val2017", "test-dev2017", "demo-val"]

_YOLOV7_README = "github.com/WongKinYiu/yolov7, README at a207844"
_YOLOV7_PAPER = "arXiv 2207.02696, table of comparisons"
_DAMO_README = "github.com/tinyvision/DAMO-YOLO, README at 319572e"

_YOLOV7_PROTOCOL = "conf 0.001, NMS IoU 0.65, 300 boxes, multi-label, rectangular batches padded by half a stride"
_DAMO_PROTOCOL = "stretch to 640x640, conf 0.05, NMS IoU 0.7, 500 boxes, multi-label"
_DAMO_NANO_PROTOCOL = "stretch to 416x416, conf 0.03, NMS IoU 0.65, 500 boxes, multi-label"


@dataclass(frozen=True, kw_only=True)
class PublishedAP:
    """One accuracy that the authors of a model published, in percent.

    Attributes:
        split: of COCO, or of the demo data set; figures of different splits do not compare.
        ap: AP averaged over IoU 0.50 to 0.95.
        ap50: AP at IoU 0.50, where published.
        ap75: AP at IoU 0.75, where published.
        protocol: thresholds and resize behind the figure, as far as the source says.
        source: where it is published.
        distilled: the weights were trained by distillation.
        note: what to know before comparing; empty if nothing.
    """

    split: Split
    ap: float
    protocol: str
    source: str
    ap50: float | None = None
    ap75: float | None = None
    distilled: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class VariantInfo:
    """One official detector, or one of our demos.

    Attributes:
        name: as used everywhere in swiftdet.
        title: as its authors write it.
        family: "yolov7" or "damo-yolo".
        imgsz: (height, width) px that it was trained and published for.
        params: parameters of the deploy form.
        gflops: of the deploy form at `imgsz`, 2 per multiply-accumulate of a convolution.
        published_params_m: millions of parameters as published, if published.
        published_gflops: as published, at `imgsz`, if published.
        accuracy: what the authors published, test-dev after val.
        aliases: other names that `info` takes.
        note: caveats; empty if none.
    """

    name: str
    title: str
    family: Literal["yolov7", "damo-yolo"]
    imgsz: tuple[int, int]
    params: int
    gflops: float
    published_params_m: float | None
    published_gflops: float | None
    accuracy: tuple[PublishedAP, ...]
    aliases: tuple[str, ...] = ()
    note: str = ""


def _paper(split: Split, ap: float) -> PublishedAP:
    return PublishedAP(
        split=split,
        ap=ap,
        protocol=_YOLOV7_PROTOCOL,
        source=_YOLOV7_PAPER,
        note="the table gives test-dev before val; the README publishes test-dev figures alone",
    )


def _paper_val(ap: float) -> PublishedAP:
    return _paper("val2017", ap)


def _test_dev(ap: float, ap50: float, ap75: float) -> PublishedAP:
    return PublishedAP(
        split="test-dev2017",
        ap=ap,
        ap50=ap50,
        ap75=ap75,
        protocol=_YOLOV7_PROTOCOL,
        source=_YOLOV7_README,
        note="test-dev, though often quoted as if it were val2017",
    )


def _damo(ap: float, *, teacher: str = "", protocol: str = _DAMO_PROTOCOL) -> PublishedAP:
    return PublishedAP(
        split="val2017",
        ap=ap,
        protocol=protocol,
        source=_DAMO_README,
        distilled=bool(teacher),
        note=f"trained by distillation from {teacher}" if teacher else "",
    )


def _demo(ap: float, ap50: float, ap75: float, *, protocol: str) -> PublishedAP:
    return PublishedAP(
        split="demo-val",
        ap=ap,
        ap50=ap50,
        ap75=ap75,
        protocol=protocol,
        source="swiftdet val (docs/demo_models.md)",
        note="600 drawn scenes of eight classes; does not compare with COCO",
    )


_DEMO_NOTE = "trained for swiftdet on drawn scenes (docs/demo_models.md); not a model for photographs"

VARIANTS: tuple[VariantInfo, ...] = (
    VariantInfo(
        name="yolov7-tiny",
        title="YOLOv7-tiny",
        family="yolov7",
        imgsz=(640, 640),
        params=6_219_709,
        gflops=13.70,
        published_params_m=6.2,
        published_gflops=13.8,
        accuracy=(),
        note=(
            "the released weights use LeakyReLU; the paper's 38.7 AP belongs to YOLOv7-tiny-SiLU, "
            "and its authors publish no AP of the released file"
        ),
    ),
    VariantInfo(
        name="yolov7-tiny-silu",
        title="YOLOv7-tiny-SiLU",
        family="yolov7",
        imgsz=(640, 640),
        params=6_219_709,
        gflops=13.70,
        published_params_m=6.2,
        published_gflops=13.8,
        accuracy=(_paper_val(38.7), _paper("test-dev2017", 38.7)),
        note="the paper's tiny model; its authors release no weights of it",
    ),
    VariantInfo(
        name="yolov7",
        title="YOLOv7",
        family="yolov7",
        imgsz=(640, 640),
        params=36_905_341,
        gflops=104.51,
        published_params_m=36.9,
        published_gflops=104.7,
        accuracy=(
            PublishedAP(
                split="val2017",
                ap=51.206,
                ap50=69.730,
                ap75=55.521,
                protocol=_YOLOV7_PROTOCOL,
                source=_YOLOV7_README,
                note="the output of its own evaluation; the figure to reproduce",
            ),
            _test_dev(51.4, 69.7, 55.9),
        ),
        aliases=("yolov7l",),
    ),
    VariantInfo(
        name="yolov7x",
        title="YOLOv7-X",
        family="yolov7",
        imgsz=(640, 640),
        params=71_311_741,
        gflops=189.67,
        published_params_m=71.3,
        published_gflops=189.9,
        accuracy=(_paper_val(52.9), _test_dev(53.1, 71.2, 57.8)),
    ),
    VariantInfo(
        name="yolov7-w6",
        title="YOLOv7-W6",
        family="yolov7",
        imgsz=(1280, 1280),
        params=70_394_300,
        gflops=359.72,
        published_params_m=70.4,
        published_gflops=360.0,
        accuracy=(_paper_val(54.6), _test_dev(54.9, 72.6, 60.1)),
    ),
    VariantInfo(
        name="yolov7-e6",
        title="YOLOv7-E6",
        family="yolov7",
        imgsz=(1280, 1280),
        params=97_202_940,
        gflops=514.43,
        published_params_m=97.2,
        published_gflops=515.2,
        accuracy=(_paper_val(55.9), _test_dev(56.0, 73.5, 61.2)),
    ),
    VariantInfo(
        name="yolov7-d6",
        title="YOLOv7-D6",
        family="yolov7",
        imgsz=(1280, 1280),
        params=133_757_052,
        gflops=701.74,
        published_params_m=154.7,
        published_gflops=806.8,
        accuracy=(_paper_val(56.3), _test_dev(56.6, 74.0, 61.8)),
        note="the published size and cost are those of the training form, with its auxiliary heads",
    ),
    VariantInfo(
        name="yolov7-e6e",
        title="YOLOv7-E6E",
        family="yolov7",
        imgsz=(1280, 1280),
        params=151_687_420,
        gflops=842.18,
        published_params_m=151.7,
        published_gflops=843.2,
        accuracy=(_paper_val(56.8), _test_dev(56.8, 74.4, 62.1)),
    ),
    VariantInfo(
        name="damo-yolo-t",
        title="DAMO-YOLO-T",
        family="damo-yolo",
        imgsz=(640, 640),
        params=8_473_911,
        gflops=18.01,
        published_params_m=8.5,
        published_gflops=18.1,
        accuracy=(_damo(42.0), _damo(43.6, teacher="DAMO-YOLO-S")),
        note='row "n" of the public DAMO-YOLO vs YOLOv7 comparison means this variant, not damo-yolo-n',
    ),
    VariantInfo(
        name="damo-yolo-s",
        title="DAMO-YOLO-S",
        family="damo-yolo",
        imgsz=(640, 640),
        params=16_242_751,
        gflops=37.62,
        published_params_m=16.3,
        published_gflops=37.8,
        accuracy=(_damo(46.0), _damo(47.7, teacher="DAMO-YOLO-M")),
    ),
    VariantInfo(
        name="damo-yolo-m",
        title="DAMO-YOLO-M",
        family="damo-yolo",
        imgsz=(640, 640),
        params=28_164_063,
        gflops=61.62,
        published_params_m=28.2,
        published_gflops=61.8,
        accuracy=(_damo(49.2), _damo(50.2, teacher="DAMO-YOLO-L")),
    ),
    VariantInfo(
        name="damo-yolo-l",
        title="DAMO-YOLO-L",
        family="damo-yolo",
        imgsz=(640, 640),
        params=42_039_711,
        gflops=97.12,
        published_params_m=42.1,
        published_gflops=97.3,
        accuracy=(_damo(50.8), _damo(51.9, teacher="DAMO-YOLO-L itself")),
    ),
    VariantInfo(
        name="damo-yolo-ns",
        title="DAMO-YOLO-Ns",
        family="damo-yolo",
        imgsz=(416, 416),
        params=1_392_299,
        gflops=1.50,
        published_params_m=1.41,
        published_gflops=1.56,
        accuracy=(_damo(32.3, protocol=_DAMO_NANO_PROTOCOL),),
    ),
    VariantInfo(
        name="damo-yolo-nm",
        title="DAMO-YOLO-Nm",
        family="damo-yolo",
        imgsz=(416, 416),
        params=2_688_371,
        gflops=3.58,
        published_params_m=2.71,
        published_gflops=3.69,
        accuracy=(_damo(38.2, protocol=_DAMO_NANO_PROTOCOL),),
    ),
    VariantInfo(
        name="damo-yolo-nl",
        title="DAMO-YOLO-Nl",
        family="damo-yolo",
        imgsz=(416, 416),
        params=5_659_451,
        gflops=5.91,
        published_params_m=5.69,
        published_gflops=6.04,
        accuracy=(_damo(40.5, protocol=_DAMO_NANO_PROTOCOL),),
    ),
    VariantInfo(
        name="damo-yolo-n",
        title="DAMO-YOLO-N",
        family="damo-yolo",
        imgsz=(416, 416),
        params=2_330_899,
        gflops=4.04,
        published_params_m=None,
        published_gflops=3.02,
        accuracy=(_damo(35.1, protocol=_DAMO_NANO_PROTOCOL),),
        note="the published cost does not match the released configuration, which seems to have changed since",
    ),
)

DEMOS: tuple[VariantInfo, ...] = (
    VariantInfo(
        name="demo-yolov7",
        title="YOLOv7's blocks at about an eighth of their width",
        family="yolov7",
        imgsz=(256, 256),
        params=916_237,
        gflops=0.51,
        published_params_m=None,
        published_gflops=None,
        accuracy=(_demo(65.7, 95.1, 77.8, protocol="yolov7-fixed"),),
        note=_DEMO_NOTE,
    ),
    VariantInfo(
        name="demo-damo-yolo",
        title="DAMO-YOLO-T's plan at about a third of its width",
        family="damo-yolo",
        imgsz=(256, 256),
        params=1_057_783,
        gflops=0.5,
        published_params_m=None,
        published_gflops=None,
        accuracy=(_demo(67.6, 91.5, 79.4, protocol="damo-yolo"),),
        note=_DEMO_NOTE,
    ),
)
"""Small detectors whose weights are part of the package: of eight kinds of drawn objects, for trying things out."""
