"""Takes the picture of a comparison's page that the README shows, in headless Chromium (Debian: chromium, fonts-inter).

    swiftdet compare --run && python tools/page_picture.py swiftdet-comparison docs/images/compare.png

The picture shows the head of the page at twice the size, with few enough colours for at most 300 kB.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image

import chromium

_WIDTH, _COLOURS, _MOST_BYTES = 1280, 64, 300_000


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of `swiftdet compare`")
    parser.add_argument("output", type=Path, help="the .png file to write")
    parser.add_argument("--height", type=int, default=1500, help="how much of the page, px")
    parser.add_argument("--scale", type=float, default=1.25)
    options = parser.parse_args()
    with chromium.browser() as page:
        page.show((options.folder / "index.html").resolve().as_uri(), width=_WIDTH)
        data = page.picture(height=options.height, scale=options.scale)
    picture = Image.open(io.BytesIO(data)).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    picture.save(options.output, optimize=True)
    size = options.output.stat().st_size
    print(f"{options.output}: {picture.width}x{picture.height}, {size} bytes")
    if size > _MOST_BYTES:
        parser.error(f"more than {_MOST_BYTES} bytes; show less of the page")


if __name__ == "__main__":
    main()
