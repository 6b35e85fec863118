import dataclasses
import json

import pytest

from swiftdet import zoo
from swiftdet.errors import InvalidArgument

ALL = [zoo.info(name) for name in zoo.names()]


def test_names():
    assert zoo.names() == [
        *("yolov7-tiny", "yolov7-tiny-silu", "yolov7", "yolov7x", "yolov7-w6", "yolov7-e6", "yolov7-d6", "yolov7-e6e"),
        *("damo-yolo-t", "damo-yolo-s", "damo-yolo-m", "damo-yolo-l"),
        *("damo-yolo-ns", "damo-yolo-nm", "damo-yolo-nl", "damo-yolo-n"),
    ]


def test_alias():
    assert zoo.info("yolov7l") is zoo.info("yolov7")
    assert "yolov7l" not in zoo.names()


def test_unknown_names_the_nearest():
    with pytest.raises(InvalidArgument, match="did you mean yolov7"):
        zoo.info("YOLOv7")
    with pytest.raises(InvalidArgument, match="damo-yolo-s"):
        zoo.info("damoyolo-s")
    with pytest.raises(InvalidArgument, match="yolov7-tiny, yolov7-tiny-silu,"):
        zoo.info("resnet")


@pytest.mark.parametrize("variant", ALL, ids=zoo.names())
def test_counted_figures_agree_with_the_published_ones(variant):
    # D6's published figures are of the training form, N's of an older configuration; the notes say so.
    if variant.name in ("yolov7-d6", "damo-yolo-n"):
        assert variant.published_gflops != pytest.approx(variant.gflops, rel=0.1)
        assert variant.note
        return
    assert variant.params / 1e6 == pytest.approx(variant.published_params_m, rel=0.013)
    assert variant.gflops == pytest.approx(variant.published_gflops, rel=0.04)


@pytest.mark.parametrize("variant", ALL, ids=zoo.names())
def test_every_figure_says_where_it_is_from(variant):
    for ap in variant.accuracy:
        assert ap.source
        assert ap.protocol
        assert ap.split in ("val2017", "test-dev2017")
        assert 30 < ap.ap < 60
        assert ap.ap50 is None or ap.ap < ap.ap50 < 80
    assert variant.accuracy or variant.note
    json.dumps(dataclasses.asdict(variant))


def test_the_often_confused_figures():
    splits = {ap.ap: ap.split for name in ("yolov7", "yolov7x") for ap in zoo.info(name).accuracy}
    assert splits == {51.206: "val2017", 51.4: "test-dev2017", 52.9: "val2017", 53.1: "test-dev2017"}
    assert [ap.distilled for ap in zoo.info("damo-yolo-t").accuracy] == [False, True]
    assert zoo.info("yolov7-d6").params == 133_757_052
    assert zoo.info("damo-yolo-n").accuracy[0].ap == 35.1


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        zoo.info("yolov7").params = 1
