"""A PNG taken apart: every chunk of it, with its checksum verified."""

import struct
import zlib
from pathlib import Path


def chunks(picture: Path) -> list[tuple[bytes, bytes]]:
    image, at = picture.read_bytes(), 8
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    found = []
    while at < len(image):
        (length,) = struct.unpack(">I", image[at : at + 4])
        kind, content = image[at + 4 : at + 8], image[at + 8 : at + 8 + length]
        assert struct.unpack(">I", image[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + content),)
        found.append((kind, content))
        at += 12 + length
    return found


def texts(picture: Path) -> dict[str, str]:
    pairs = [content.split(b"\0") for kind, content in chunks(picture) if kind == b"tEXt"]
    return {name.decode(): text.decode("latin-1") for name, text in pairs}


def width(picture: Path) -> int:
    """In pixels."""
    kind, head = chunks(picture)[0]
    assert kind == b"IHDR"
    return int.from_bytes(head[:4], "big")
