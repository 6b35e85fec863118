"""Encoded images, of every format that is read."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image as PilImage
from PIL import features

from fuzzing import mutations
from fuzzing.door import Door
from swiftdet import images
from swiftdet.errors import ImageError

_MOST_PIXELS = 1 << 22
_TOKENS = (
    b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"iCCP", b"zTXt", b"acTL", b"fcTL", b"fdAT", b"eXIf", b"Exif\0\0",
    b"II*\0", b"MM\0*", b"\xff\xd8\xff", b"\xff\xc0", b"\xff\xc2", b"\xff\xc4", b"\xff\xda", b"\xff\xdd", b"\xff\xe1",
    b"RIFF", b"WEBP", b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"\x21\xf9\x04", b"\x21\xff", b"\x2c",
    b"ftyp", b"meta", b"iloc", b"ispe", b"mdat", b"jp2h", b"ihdr", b"\xff\x51", b"\xff\x52", b"\xff\x93",
    b"P6\n9 9\n255\n",
)  # fmt: skip


class ImageDoor(Door):
    """`swiftdet.images.load`: JPEG, PNG, WebP, BMP, GIF, TIFF, PPM, JPEG 2000 and AVIF from bytes and files."""

    memory_mib = 384

    def prepare(self) -> None:
        """Small pictures in every mode, compression and orientation that Pillow writes."""
        self._seeds = [content for content in map(_encoded, _kinds()) if content]

    def warm_up(self) -> None:
        """Loads every decoder."""
        for seed in self._seeds:
            with contextlib.suppress(ImageError):  # floats
                images.load(seed)

    def case(self, rng: random.Random) -> bytes:
        """A picture changed blindly, or inside a PNG's or TIFF's own structure."""
        data = rng.choice(self._seeds)
        if data.startswith(b"\x89PNG") and rng.random() < 0.6:
            return _changed_png(data, rng)
        if data[:2] in (b"II", b"MM") and rng.random() < 0.5:
            return _changed_tiff(data, rng)
        return mutations.of_bytes(data, rng, others=self._seeds, tokens=_TOKENS)

    def run(self, case: bytes) -> str:
        """Decodes from memory, or now and then from a file."""
        source: Any = case
        if len(case) % 16 == 0:
            source = self.folder / "case.jpg"
            source.write_bytes(case)
        image = images.load(source, max_pixels=_MOST_PIXELS)
        pixels = image.pixels
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or 0 in pixels.shape:
            raise AssertionError(f"expected pixels, got {pixels.dtype} {pixels.shape}")
        if image.bgr().shape != (*image.size, 3):
            raise AssertionError(f"expected BGR, got {image.bgr().shape}")
        return "decoded"


def _kinds() -> list[tuple[str, str, dict[str, Any]]]:
    """(format, mode, how it is written)."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        *(("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK")),
        ("JPEG", "RGB", {"progressive": True, "exif": exif}),
        ("JPEG", "RGB", {"quality": 100, "subsampling": 0, "restart_marker_blocks": 1}),
        *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        ("PNG", "RGB", {"exif": exif, "dpi": (72, 72), "icc_profile": b"x" * 40}),
        ("PNG", "P", {"transparency": 3}),
        ("PNG", "RGB", {"save_all": True, "frames": 2}),
        *(("BMP", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")),
        ("GIF", "P", {}),
        ("GIF", "P", {"save_all": True, "frames": 3, "transparency": 2, "disposal": 2}),
        *(("TIFF", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "F")),
        *(("TIFF", "RGB", {"compression": c}) for c in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        ("TIFF", "1", {"compression": "group4"}),
        ("TIFF", "1", {"compression": "group3"}),
        ("TIFF", "L", {"compression": "tiff_lzw", "save_all": True, "frames": 2}),
        ("TIFF", "RGB", {"big_tiff": True}),
        *(("PPM", mode, {}) for mode in ("1", "L", "RGB", "I;16")),
    ]
    if features.check("webp"):
        kinds += [("WEBP", "RGB", {}), ("WEBP", "RGBA", {"lossless": True, "exif": exif})]
        kinds += [("WEBP", "RGBA", {"save_all": True, "frames": 2})]
    if features.check("jpg_2000"):
        kinds += [
            ("JPEG2000", "RGB", {}),
            ("JPEG2000", "L", {"no_jp2": True}),
            ("JPEG2000", "RGBA", {"irreversible": True}),
        ]
    if features.check("avif"):
        kinds += [("AVIF", "RGB", {"speed": 10}), ("AVIF", "RGBA", {"speed": 10, "exif": exif})]
    return kinds


def _encoded(kind: tuple[str, str, dict[str, Any]]) -> bytes | None:
    name, mode, options = kind
    options = dict(options)
    rng = np.random.default_rng(5)
    frames = [
        PilImage.fromarray(np.kron(rng.integers(0, 256, (5, 4, 3)), np.ones((4, 5, 1))).astype(np.uint8))
        for _ in range(options.pop("frames", 1))
    ]
    if mode == "I;16":
        frames = [PilImage.fromarray(np.asarray(frame)[:, :, 0].astype(np.uint16) * 257) for frame in frames]
    elif mode != "RGB":
        frames = [frame.convert("RGB").convert("RGBA" if mode == "LA" else mode).convert(mode) for frame in frames]
    if options.get("save_all"):
        options["append_images"] = frames[1:]
    buffer = io.BytesIO()
    try:
        frames[0].save(buffer, format=name, **options)
    except (OSError, ValueError, TypeError, KeyError):  # an older Pillow, or one without that encoder
        return None
    return buffer.getvalue()


def _changed_png(data: bytes, rng: random.Random) -> bytes:
    """A PNG after changes of its chunks, their checksums right, as far as they are taken apart by name."""
    chunks = []
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append([data[at + 4 : at + 8], data[at + 8 : at + 8 + length]])
        at += 12 + length
    for _ in range(rng.choice((1, 1, 2, 3))):
        i = rng.randrange(len(chunks))
        kind = rng.randrange(6)
        if kind == 0 and len(chunks) > 1:
            del chunks[i]
        elif kind == 1:
            chunks.insert(rng.randrange(len(chunks) + 1), list(chunks[i]))
        elif kind == 2:
            j = rng.randrange(len(chunks))
            chunks[i], chunks[j] = chunks[j], chunks[i]
        elif kind == 3 and chunks[i][0] == b"IDAT":
            try:
                pixels = zlib.decompress(chunks[i][1])
            except zlib.error:
                continue
            chunks[i][1] = zlib.compress(mutations.of_bytes(pixels, rng), 1)
        elif kind == 4:
            chunks[i][0] = rng.choice(
                (b"IDAT", b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"iTXt", b"acTL", b"fcTL", b"fdAT", b"eXIf")
            )
        else:
            chunks[i][1] = mutations.of_bytes(chunks[i][1], rng)
    body = b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return data[:8] + body


def _changed_tiff(data: bytes, rng: random.Random) -> bytes:
    """A TIFF after changes of the entries of its first directory."""
    order = "<" if data[:2] == b"II" else ">"
    changed = bytearray(data)
    try:
        (at,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, at)
        for _ in range(rng.choice((1, 1, 2))):
            entry = at + 2 + 12 * rng.randrange(max(count, 1))
            tag, kind, number, value = struct.unpack_from(order + "HHII", changed, entry)
            which = rng.randrange(4)
            tag = (
                rng.choice((256, 257, 258, 259, 262, 273, 274, 277, 278, 279, 284, 317, 320, 322, 323, 338))
                if which == 0
                else tag
            )
            kind = rng.randrange(20) if which == 1 else kind
            number = mutations.integer(rng) % (1 << 32) if which == 2 else number
            value = mutations.integer(rng) % (1 << 32) if which == 3 else value
            struct.pack_into(order + "HHII", changed, entry, tag, kind, number, value)
    except struct.error:  # a BigTIFF
        return mutations.of_bytes(data, rng)
    return bytes(changed)
