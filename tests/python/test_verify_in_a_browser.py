"""A verification's page in headless Chromium: it loads nothing, complains of nothing, and fits desk and telephone."""

from __future__ import annotations

import pytest

import swiftdet
from swiftdet import demo

IMAGES = sorted(demo.dataset().images.glob("*.jpg"))[:3]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a page on which everything differs."""
    folder = tmp_path_factory.mktemp("page")
    with swiftdet.Detector("demo-yolov7") as reference, swiftdet.Detector("demo-damo-yolo") as test:
        swiftdet.verify(reference, test, IMAGES, conf=0.02).save(folder)
    return (folder / "report.html").as_uri()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_loads_nothing_and_complains_of_nothing(browser, address, width, dark):
    browser.requests.clear()
    browser.complaints.clear()
    browser.show(address, width=width, dark=dark)
    assert [request for request in browser.requests if not request.startswith("data:")] == [address]
    assert browser.complaints == []
    assert browser.evaluate("document.title").startswith("Differs: demo-damo-yolo")
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    pictures = "[...document.images].filter(i => i.complete && i.naturalWidth > 300).length"
    assert browser.evaluate(pictures) == 2 * len(IMAGES)
    beside = "new Set([...document.images].slice(0, 2).map(i => i.getBoundingClientRect().top)).size"
    assert browser.evaluate(beside) == (1 if width > 640 else 2)
