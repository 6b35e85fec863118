"""A comparison's page in headless Chromium: it loads nothing, complains of nothing, and fits a desk and a telephone."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from comparison_documents import benchmark, evaluation, run, subject, verification
from swiftdet import comparison, measurements

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=document.title='taken'>" + "w" * 60


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a page with everything on it, long and hostile names included."""
    folder = tmp_path_factory.mktemp("page")
    other = subject(family="damo-yolo", variant="demo-damo-yolo", model="demo-damo-yolo", model_sha256="8" * 64)
    named = subject(model=HOSTILE, variant=None, model_sha256="7" * 64)
    large = subject(model="yolov7", variant="yolov7", synthetic=True, imgsz=[640, 640], model_sha256="5" * 64)
    runs = [run(), run(threads=2), run(batch=8, warnings=("a loud neighbour",)), run(loop="paced", rate_hz=20.0)]
    documents = [
        evaluation(),
        benchmark(runs=runs),
        evaluation(of=other),
        benchmark(of=other),
        evaluation(of=named),
        benchmark(of=named),
        benchmark(of=large, runs=[run(median=900.0, count=12)]),
        verification(passed=False),
    ]
    for i, document in enumerate(documents):
        measurements.write(document, folder / f"{i}.json")
    sources = comparison.read_sources(sorted(folder.glob("*.json")))
    return comparison.write(folder / "page", sources, skipped=["yolov7-e6e: not timed."])[0].as_uri()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_loads_nothing_and_complains_of_nothing(browser, address, width, dark):
    browser.requests.clear()
    browser.complaints.clear()
    browser.show(address, width=width, dark=dark)
    assert browser.requests == [address]
    assert browser.complaints == []
    assert browser.evaluate("document.title") == "DAMO-YOLO against YOLOv7"
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate("document.body.scrollWidth") <= width
    beyond = "[...document.querySelectorAll('h1, h2, h3, p, figure, li, details, .scroll')].filter(e => {0}).length"
    assert browser.evaluate(beyond.format("e.getBoundingClientRect().right > innerWidth + 1")) == 0
    assert browser.evaluate(
        "[...document.querySelectorAll('.scroll')].every(e => getComputedStyle(e).overflowX == 'auto')"
    )
    picture = np.asarray(Image.open(io.BytesIO(browser.picture())).convert("L"))
    assert picture.shape[1] == width
    assert picture.std() > 5.0  # something is on it
    assert (picture.mean() < 80.0) == dark


def test_text_is_large_enough_on_a_telephone(browser, address):
    browser.show(address, width=400)
    smallest = (
        "Math.min(...[...document.querySelectorAll('figure svg text')].map(e => e.getBoundingClientRect().height))"
    )
    assert browser.evaluate(smallest) > 8.0
    sizes = "[...document.querySelectorAll('td, p, li, dd')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert min(browser.evaluate(sizes)) >= 12.0


def test_provenance_opens_without_a_script(browser, address):
    browser.show(address, width=1280)
    heights = "[...document.querySelectorAll('details')].map(e => e.getBoundingClientRect().height)"
    closed = browser.evaluate(heights)
    browser.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    opened = browser.evaluate(heights)
    assert len(closed) == 5  # four rows and a verification
    assert all(after > before + 100 for before, after in zip(closed, opened, strict=True))
    assert browser.evaluate("document.documentElement.scrollWidth") == 1280
    seen = browser.evaluate("[...document.querySelectorAll('details')].map(e => e.innerText)")
    (seen,) = [text for text in seen if text.startswith("demo-yolov7 paired")]
    for said in ("0" * 64, "Imagined CPU", "swiftdet val --model demo-yolov7", "2026.4.1"):
        assert said in seen


def test_the_rules_can_fail(browser, tmp_path):
    """A page that asks for things, complains and is too wide is told from one that does not."""
    (tmp_path / "bad.html").write_text(
        "<body><div style='width:2000px'>x</div><img src='missing.png'><script>console.error('no')</script>"
    )
    browser.requests.clear()
    browser.complaints.clear()
    browser.show((tmp_path / "bad.html").as_uri(), width=400)
    assert len(browser.requests) == 2
    assert any("no" in complaint for complaint in browser.complaints)
    assert browser.evaluate("document.documentElement.scrollWidth") > 400
