import copy
import json
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as PilImage

from swiftdet import images
from swiftdet.errors import BackendUnavailable, ImageError, InvalidArgument, InvalidType, SwiftdetError
from swiftdet.results import TIMED_STAGES, Boxes, Detections, HostArray

NAMES = {0: "person", 1: "bicycle", 2: "car"}


def make(**changes):
    options = {"names": NAMES, "orig_shape": (100, 200)} | changes
    return Detections(
        [[10.5, 20.0, 110.5, 90.0], [0.0, 0.0, 200.0, 100.0], [5.0, 6.0, 7.0, 9.0]],
        [0.9, 0.5, 0.25],
        [0, 2, 2],
        **options,
    )


def pickled(found):
    return pickle.loads(pickle.dumps(found))


def empty(**changes):
    return Detections([], [], [], **({"names": NAMES, "orig_shape": (100, 200)} | changes))


class TestConstruction:
    def test_dtypes_and_shapes(self):
        found = make()
        assert (found.xyxy.dtype, found.xyxy.shape) == (np.float32, (3, 4))
        assert (found.conf.dtype, found.conf.shape) == (np.float32, (3,))
        assert (found.cls.dtype, found.cls.shape) == (np.int32, (3,))
        assert found.orig_shape == (100, 200)
        assert found.path is None
        assert found.truncated == 0
        assert found.speed == {"preprocess": 0.0, "inference": 0.0, "postprocess": 0.0}

    def test_empty_keeps_its_columns(self):
        found = empty()
        assert len(found) == 0
        assert found.xyxy.shape == (0, 4)
        assert found.boxes.data.shape == (0, 6)
        assert found.boxes.xywhn.shape == (0, 4)
        assert found.summary() == []
        assert found.to_coco(1) == []
        assert list(found) == []
        assert found[np.zeros(0, dtype=bool)].xyxy.shape == (0, 4)
        assert found[[]].xyxy.shape == (0, 4)
        assert "no objects" in repr(found)

    def test_copies_its_arrays(self):
        boxes = np.array([[1, 2, 3, 4]], dtype=np.float32)
        found = Detections(boxes, [0.5], [0], names=NAMES, orig_shape=(10, 10))
        boxes[0, 0] = 9
        assert found.xyxy[0, 0] == 1

    def test_names_from_a_sequence(self):
        assert make(names=["a", "b", "c"]).names == {0: "a", 1: "b", 2: "c"}

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            (([[1, 2, 3]], [0.5], [0]), "expected xyxy"),
            (([[1, 2, 3, 4]], [0.5, 0.4], [0]), "of one K"),
            (([[1, 2, 3, 4]], [[0.5]], [0]), "of one K"),
            (([1, 2, 3, 4], [0.5], [0]), "expected xyxy"),
            (([[1, 2, 3, np.nan]], [0.5], [0]), "finite"),
            (([[1, 2, 3, np.inf]], [0.5], [0]), "finite"),
            (([[1, 2, 3, 4]], [1.5], [0]), "from 0 to 1"),
            (([[1, 2, 3, 4]], [-0.1], [0]), "from 0 to 1"),
            (([[1, 2, 3, 4]], [np.nan], [0]), "from 0 to 1"),
            (([[1, 2, 3, 4]], [0.5], [3]), "class 3 has no name"),
            (([[1, 2, 3, 4]], [0.5], [-1]), "class -1 has no name"),
        ],
    )
    def test_refuses_what_contradicts_itself(self, arrays, words):
        with pytest.raises(InvalidArgument, match=words):
            Detections(*arrays, names=NAMES, orig_shape=(10, 10))

    def test_refuses_fractional_classes(self):
        with pytest.raises(InvalidType, match="integral"):
            Detections([[1, 2, 3, 4]], [0.5], [0.5], names=NAMES, orig_shape=(10, 10))

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"orig_shape": (0, 10)}, "at least 1 px"),
            ({"speed": {"decode": 1.0}}, "unknown stage"),
            ({"orig_img": np.zeros((10, 10, 3), np.uint8)}, "10x10"),
        ],
    )
    def test_refuses_bad_options(self, changes, words):
        with pytest.raises(InvalidArgument, match=words):
            make(**changes)

    @pytest.mark.parametrize("cls", [2**32, 2**31, -(2**32)])
    def test_class_ids_do_not_wrap_around(self, cls):
        with pytest.raises(InvalidArgument, match="expected class ids within int32"):
            Detections([[0, 0, 1, 1]], [0.5], [cls], names=NAMES, orig_shape=(2, 2))


class TestImmutability:
    @pytest.mark.parametrize("name", ["xyxy", "conf", "cls"])
    def test_arrays_are_read_only(self, name):
        for found in (make(), make()[1:], make()[[0, 1]], pickled(make()), copy.deepcopy(make())):
            with pytest.raises(ValueError, match="read-only"):
                getattr(found, name)[0] = 0

    def test_box_arrays_are_read_only(self):
        for name in ("xyxy", "xywh", "xyxyn", "xywhn", "conf", "cls", "data"):
            for boxes in (make().boxes, make().boxes[[0, 1]], make().boxes[np.array([True, False, True])]):
                with pytest.raises(ValueError, match="read-only"):
                    getattr(boxes, name)[0] = 0

    def test_attributes_cannot_be_set(self):
        found = make()
        with pytest.raises(AttributeError, match="immutable"):
            found.conf = np.zeros(3)
        with pytest.raises(AttributeError, match="immutable"):
            del found.path

    def test_the_stages_of_a_timed_call_on_a_gpu(self):
        found = make(speed={"copy_in": 0.5, "inference": 2.0})
        assert list(found.speed) == list(TIMED_STAGES)
        assert (found.speed["copy_in"], found.speed["inference"], found.speed["unpack"]) == (0.5, 2.0, 0.0)
        assert found[:0].speed == found.speed

    def test_names_and_speed_are_copies(self):
        found = make()
        found.names[0] = "changed"
        found.speed["inference"] = 7.0
        assert found.names == NAMES
        assert found.speed["inference"] == 0.0

    @pytest.mark.parametrize("through", [pickled, copy.copy, copy.deepcopy])
    def test_what_the_core_found_survives_copying_whatever_it_is(self, through):
        """A network's scores are its own: some exceed 1 by a rounding or by design."""
        arrays = (np.float32([[1, 2, 3, 4]]), np.float32([1.5]), np.int32([0]))
        image = images.load(np.zeros((5, 6, 3), np.uint8))
        twin = through(Detections.from_core((*arrays, 0, (1.0, 2.0, 3.0)), NAMES, image))
        assert twin.conf.tolist() == [1.5]
        assert twin.speed == {"preprocess": 1.0, "inference": 2.0, "postprocess": 3.0}
        assert twin.orig_img.shape == (5, 6, 3)

    @pytest.mark.parametrize("through", [pickled, copy.copy, copy.deepcopy])
    def test_survives_copying(self, through):
        found = make(path="a.jpg", speed={"inference": 2.5}, truncated=4, note="rotated")
        twin = through(found)
        assert through(make(orig_img=np.ones((100, 200, 3), np.uint8))).orig_img.all()
        assert np.array_equal(twin.xyxy, found.xyxy)
        assert np.array_equal(twin.cls, found.cls)
        assert (twin.path, twin.speed, twin.truncated, twin.note, twin.names, twin.orig_shape) == (
            found.path,
            found.speed,
            found.truncated,
            found.note,
            found.names,
            found.orig_shape,
        )


class TestIndexing:
    def test_iterates_over_single_rows(self):
        rows = list(make())
        assert [len(row) for row in rows] == [1, 1, 1]
        assert [float(row.conf[0]) for row in rows] == [0.8999999761581421, 0.5, 0.25]
        assert rows[1].names == NAMES

    @given(st.data())
    @settings(derandomize=True, deadline=None, max_examples=100)
    def test_agrees_with_numpy(self, data):
        count = data.draw(st.integers(0, 8))
        rows = np.arange(count * 4, dtype=np.float32).reshape(count, 4)
        found = Detections(rows, np.linspace(1, 0, count), np.zeros(count, int), names=NAMES, orig_shape=(9, 9))
        kinds = [st.slices(count), hnp.arrays(bool, count)]
        if count:
            kinds.append(hnp.arrays(np.int64, st.integers(0, 10), elements=st.integers(-count, count - 1)))
        index = data.draw(st.one_of(kinds))
        assert np.array_equal(found[index].xyxy, rows[index])
        assert np.array_equal(found.boxes[index].xyxy.numpy(), rows[index])
        assert found[index].xyxy.shape[1:] == (4,)

    @pytest.mark.parametrize("index", [0, -1, np.int64(1), np.array(2)])
    def test_one_row_keeps_the_row_axis(self, index):
        row = make()[index]
        assert row.xyxy.shape == (1, 4)
        assert np.array_equal(row.xyxy[0], make().xyxy[int(index)])

    @pytest.mark.parametrize("index", [3, -4, [True, False], [0, 5], 1.5, "a", None, (0, 1, 9), [[0]], True])
    def test_refuses_other_indices(self, index):
        with pytest.raises(IndexError):
            make()[index]


class TestBoxes:
    def test_columns(self):
        boxes = make().boxes
        assert isinstance(boxes, Boxes)
        assert len(boxes) == 3
        assert boxes.shape == (3, 6)
        assert boxes.orig_shape == (100, 200)
        assert boxes.id is None
        assert boxes.is_track is False
        np.testing.assert_array_equal(boxes.xywh[0], [60.5, 55.0, 100.0, 70.0])
        np.testing.assert_allclose(boxes.xyxyn[0], [0.0525, 0.2, 0.5525, 0.9], rtol=1e-6)
        np.testing.assert_allclose(boxes.xywhn[0], [0.3025, 0.55, 0.5, 0.7], rtol=1e-6)
        np.testing.assert_allclose(boxes.data[1], [0, 0, 200, 100, 0.5, 2])
        for name in ("xyxy", "xywh", "xyxyn", "xywhn", "conf", "cls", "data"):
            assert getattr(boxes, name).dtype == np.float32

    def test_answers_tensor_calls(self):
        boxes = make().boxes
        for name in ("xyxy", "xywh", "xyxyn", "xywhn", "conf", "cls", "data"):
            array = getattr(boxes, name).cpu().numpy()
            assert type(array) is np.ndarray
            assert getattr(boxes, name).tolist() == array.tolist()
        assert boxes.cls.int().tolist() == [0, 2, 2]
        assert boxes.cls.int().dtype == np.int32
        assert boxes.cpu().numpy() is boxes

    def test_the_loop_that_people_write(self):
        lines = [f"{make().names[int(box.cls)]} {float(box.conf):.2f} {box.xyxy[0].tolist()}" for box in make().boxes]
        assert lines[0] == "person 0.90 [10.5, 20.0, 110.5, 90.0]"
        assert make().boxes.conf[0].item() == np.float32(0.9)
        assert f"{make().boxes.conf[0]:.1f}" == "0.9"
        assert [make().names[i] for i in make().boxes.cls.astype(int)] == ["person", "car", "car"]

    def test_moves_nowhere_else(self):
        array = make().boxes.xyxy
        assert array.to("cpu") is array
        assert array.to(np.float64).dtype == np.float64
        with pytest.raises(InvalidArgument, match="live on the host"):
            array.to("cuda")

    def test_conversion_of_many_is_refused(self):
        with pytest.raises(ValueError, match="size 1"):
            float(HostArray([1.0, 2.0]))

    def test_absent_tasks_are_none(self):
        found = make()
        assert (found.masks, found.obb, found.keypoints, found.probs) == (None, None, None, None)
        assert found.cpu().numpy() is found


class TestExports:
    def test_summary(self):
        assert make().summary()[0] == {
            "name": "person",
            "class": 0,
            "confidence": 0.9,
            "box": {"x1": 10.5, "y1": 20.0, "x2": 110.5, "y2": 90.0},
        }
        assert make().summary(normalize=True, decimals=2)[0]["box"] == {"x1": 0.05, "y1": 0.2, "x2": 0.55, "y2": 0.9}

    def test_json(self):
        found = make(names={0: "Füße", 2: '"q"'})
        assert json.loads(found.to_json()) == found.summary()
        assert "Füße" in found.to_json()

    def test_coco(self):
        rows = make().to_coco(42, category_ids={0: 1, 2: 3})
        assert rows[0] == {
            "image_id": 42,
            "category_id": 1,
            "bbox": [10.5, 20.0, 100.0, 70.0],
            "score": pytest.approx(0.9, abs=1e-7),
        }
        assert [row["category_id"] for row in make().to_coco(1)] == [0, 2, 2]
        assert [row["category_id"] for row in make().to_coco(1, category_ids=[7, 8, 9])] == [7, 9, 9]
        json.dumps(rows)
        with pytest.raises(InvalidArgument, match="class 2 has no category"):
            make().to_coco(1, category_ids={0: 1})

    def test_coco_widths_are_not_rounded_to_float32(self):
        low, high = np.float32(0.1), np.float32(300.7)
        found = Detections([[low, low, high, high]], [0.5], [0], names=NAMES, orig_shape=(400, 400))
        assert found.to_coco(1)[0]["bbox"][2] == float(high) - float(low)

    def test_txt(self, tmp_path):
        assert make().save_txt(tmp_path / "a.txt") == tmp_path / "a.txt"
        assert (tmp_path / "a.txt").read_text().splitlines()[0] == "0 0.302500 0.550000 0.500000 0.700000"
        make().save_txt(tmp_path / "a.txt", save_conf=True)
        lines = (tmp_path / "a.txt").read_text().splitlines()
        assert len(lines) == 3
        assert lines[2] == "2 0.030000 0.075000 0.010000 0.030000 0.250000"
        empty().save_txt(tmp_path / "none.txt")
        assert (tmp_path / "none.txt").read_bytes() == b""

    def test_counts_in_words(self):
        assert make().verbose() == "2 car, 1 person"


class TestSupervision:
    @pytest.fixture(autouse=True)
    def supervision(self):
        return pytest.importorskip("supervision")

    def check(self, converted, found):
        assert converted.xyxy.shape == (len(found), 4)
        np.testing.assert_array_equal(converted.xyxy, found.xyxy)
        np.testing.assert_array_equal(converted.confidence, found.conf)
        np.testing.assert_array_equal(converted.class_id, found.cls)
        assert converted.class_id.dtype.kind == "i"
        assert list(converted.data["class_name"]) == [found.names[i] for i in found.cls.tolist()]
        assert converted.tracker_id is None
        assert converted.mask is None

    @pytest.mark.parametrize("found", [make(), empty()], ids=["three", "none"])
    def test_from_ultralytics_takes_our_result(self, supervision, found):
        converted = supervision.Detections.from_ultralytics(found)
        self.check(converted, found)
        assert len(converted.with_nms(0.5)) <= len(found)

    @pytest.mark.parametrize("found", [make(), empty()], ids=["three", "none"])
    def test_to_supervision(self, found):
        converted = found.to_supervision()
        self.check(converted, found)
        assert converted.xyxy.flags.writeable

    def test_annotates(self, supervision):
        scene = np.zeros((100, 200, 3), np.uint8)
        drawn = supervision.BoxAnnotator().annotate(scene.copy(), supervision.Detections.from_ultralytics(make()))
        assert drawn.any()


def test_without_supervision_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'swiftdet\[supervision\]'"):
        make().to_supervision()


class TestPixels:
    def test_borrows_the_callers_pixels(self):
        pixels = np.zeros((100, 200, 3), np.uint8)
        assert make(orig_img=pixels).orig_img.base is pixels or make(orig_img=pixels).orig_img is pixels

    def test_rgb_and_grey_sources_become_bgr(self):
        rgb = np.zeros((100, 200, 3), np.uint8)
        rgb[..., 0] = 7
        assert make(orig_img=images.Image(rgb, "rgb")).orig_img[0, 0].tolist() == [0, 0, 7]
        grey = np.full((100, 200), 9, np.uint8)
        assert make(orig_img=images.Image(grey)).orig_img[0, 0].tolist() == [9, 9, 9]

    def test_reads_the_file_again(self, tmp_path):
        path = tmp_path / "a.png"
        PilImage.new("RGB", (200, 100), (1, 2, 3)).save(path)
        assert make(path=path).orig_img[0, 0].tolist() == [3, 2, 1]
        PilImage.new("RGB", (20, 10)).save(path)
        with pytest.raises(ImageError, match="was 200x100 px when detected in, is 20x10 now"):
            _ = make(path=path).orig_img
        path.unlink()
        with pytest.raises(ImageError, match="no such file"):
            make(path=path).plot()

    def test_nothing_to_draw_on(self):
        with pytest.raises(InvalidArgument, match="neither the source pixels nor a path"):
            make().plot()

    def test_plot_and_save(self, tmp_path):
        pixels = np.zeros((100, 200, 3), np.uint8)
        found = make(orig_img=pixels)
        drawn = found.plot()
        assert (drawn.dtype, drawn.shape, drawn.flags.c_contiguous) == (np.uint8, (100, 200, 3), True)
        assert drawn.any()
        assert not pixels.any()
        for suffix in (".png", ".jpg", ".webp", ".bmp", ".JPEG"):
            path = found.save(tmp_path / f"a{suffix}")
            assert images.load(path).size == (100, 200)
        np.testing.assert_array_equal(images.load(tmp_path / "a.png").bgr(), drawn)
        with pytest.raises(ImageError, match="picture suffix"):
            found.save(tmp_path / "a.txt")
        with pytest.raises(ImageError, match="cannot write"):
            found.save(tmp_path / "missing" / "a.png")


def test_shared_between_threads():
    found = make(orig_img=np.zeros((100, 200, 3), np.uint8))
    expected = (found.to_json(), found.plot().tobytes())
    seen = []

    def read():
        seen.extend((found.to_json(), found.plot().tobytes()) == expected for _ in range(5))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 20


def test_errors_are_ours():
    with pytest.raises(SwiftdetError):
        make(orig_shape=(0, 0))
