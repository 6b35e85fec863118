import numpy as np
import pytest
from PIL import ImageFont

from swiftdet import drawing
from swiftdet.errors import InvalidArgument


def draw(shape=(120, 160), boxes=((40, 50, 100, 110),), cls=None, labels=None, **options):
    bgr = np.full((*shape, 3), 128, np.uint8)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    cls = np.zeros(len(boxes), np.int32) if cls is None else np.array(cls, np.int32)
    labels = ["" for _ in boxes] if labels is None else labels
    return drawing.draw_boxes(bgr, boxes, cls, labels, **options)


def changed(picture):
    return (picture != 128).any(axis=2)


def test_outline_is_where_the_box_is():
    mask = changed(draw(line_width=2))
    expected = np.zeros((120, 160), bool)
    expected[50:111, 40:101] = True
    expected[52:109, 42:99] = False
    np.testing.assert_array_equal(mask, expected)


def test_colour_is_that_of_the_class_in_bgr():
    for cls in (0, 1, 7, 25):
        assert draw(cls=[cls])[50, 40].tolist() == list(drawing.class_color(cls)[::-1])
    assert drawing.class_color(3) == drawing.class_color(23)
    assert len({drawing.class_color(k) for k in range(20)}) == 20


def test_source_is_not_changed_and_may_have_any_strides():
    source = np.full((120, 160, 3), 128, np.uint8)[::-1, :, ::-1]
    source.flags.writeable = False
    picture = drawing.draw_boxes(source, np.array([[10, 10, 50, 50]], np.float32), np.zeros(1, np.int32), ["a"])
    assert (source == 128).all()
    assert changed(picture).any()


def test_earlier_rows_lie_on_top():
    picture = draw(boxes=[(40, 50, 100, 110), (40, 50, 100, 110)], cls=[0, 1])
    assert picture[50, 40].tolist() == list(drawing.class_color(0)[::-1])


@pytest.mark.parametrize(
    "box", [(0, 0, 160, 120), (150, 0, 160, 8), (0, 112, 8, 120), (155, 115, 160, 120), (0, 60, 1, 61)]
)
def test_label_is_whole_inside_the_image(box):
    with_label, without = draw(boxes=[box], labels=["person 0.93"]), draw(boxes=[box])
    rows, columns = np.nonzero((with_label != without).any(axis=2))
    free = draw(boxes=[(60, 60, 70, 70)], labels=["person 0.93"])
    free_rows, free_columns = np.nonzero((free != draw(boxes=[(60, 60, 70, 70)])).any(axis=2))
    # As large as where nothing limits it, but for what lies on the outline in the outline's own colour.
    assert np.ptp(rows) >= np.ptp(free_rows) - 3
    assert np.ptp(columns) >= np.ptp(free_columns) - 3


def test_label_sits_above_its_box_where_there_is_room():
    label = (draw(labels=["person"]) != draw()).any(axis=2)
    rows, columns = np.nonzero(label)
    assert rows.max() < 50
    assert columns.min() == 40


def test_labels_of_equal_boxes_do_not_cover_each_other():
    boxes = [(40, 50, 130, 110)] * 3
    alone = [drawing._place((40, 50, 130, 110), (60, 14), (160, 120), taken) for taken in ([],)]
    taken = list(alone)
    for _ in boxes[1:]:
        taken.append(drawing._place((40, 50, 130, 110), (60, 14), (160, 120), taken))
    assert not any(drawing._overlap(a, b) for i, a in enumerate(taken) for b in taken[i + 1 :])


@pytest.mark.parametrize("color", [drawing.class_color(k) for k in range(20)])
def test_text_is_readable(color):
    def luminance(rgb):
        parts = np.array(rgb) / 255
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    low, high = sorted((luminance(color), luminance(drawing._ink(color))))
    assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG AA


@pytest.mark.parametrize("shape", [(1, 1), (1, 10000), (10000, 1), (3, 3), (2160, 3840)])
def test_any_size(shape):
    picture = draw(shape=shape, boxes=[(0, 0, shape[1], shape[0])], labels=["person 0.50"])
    assert picture.shape == (*shape, 3)
    assert changed(picture).any()


@pytest.mark.parametrize(
    "box", [(50, 50, 50, 50), (80, 80, 40, 40), (-50, -50, 500, 500), (-9, -9, -5, -5), (900, 900, 950, 950)]
)
def test_odd_boxes(box):
    assert changed(draw(boxes=[box], labels=["x"])).any()


def test_nothing_to_draw():
    assert not changed(draw(boxes=[])).any()


def test_lines_grow_with_the_image():
    def width(picture):
        return int(changed(picture)[picture.shape[0] // 2].sum()) // 2

    assert width(draw(shape=(100, 100), boxes=[(20, 20, 80, 80)])) == 1
    assert width(draw(shape=(1080, 1920), boxes=[(200, 200, 800, 800)])) == 4


def test_own_font(tmp_path):
    if not isinstance(ImageFont.load_default(12), ImageFont.FreeTypeFont):
        pytest.skip("this Pillow has no FreeType")
    font = tmp_path / "font.ttf"
    font.write_bytes(ImageFont.load_default(12).font_bytes)
    assert (draw(labels=["person"], font=font) != draw()).any()
    (tmp_path / "bad.ttf").write_bytes(b"no font")
    with pytest.raises(InvalidArgument, match="cannot read the font"):
        draw(font=tmp_path / "bad.ttf")


@pytest.mark.parametrize("options", [{"line_width": 0}, {"font_size": 0}, {"font_size": -3}])
def test_sizes_must_be_positive(options):
    with pytest.raises(InvalidArgument, match="expected line_width >= 1 and font_size > 0"):
        draw(**options)
