"""The pictures of docs/scaling.md: made from the tables on that page, and readable by everybody."""

import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.doubles.programs import REPOSITORY

_PICTURES = sorted((REPOSITORY / "docs" / "pictures").glob("scaling-*.png"))
_PAGE = (REPOSITORY / "docs" / "scaling.md").read_text(encoding="utf-8")
_SHOWN = {name: " ".join(alt.split()) for alt, name in re.findall(r"!\[([^]]*)\]\(pictures/([^)]+)\)", _PAGE)}

each_picture = pytest.mark.parametrize("picture", _PICTURES, ids=lambda picture: picture.stem)


def _chunks(picture: Path) -> list[tuple[bytes, bytes]]:
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


def _texts(picture: Path) -> dict[str, str]:
    pairs = [content.split(b"\0") for kind, content in _chunks(picture) if kind == b"tEXt"]
    return {name.decode(): text.decode("latin-1") for name, text in pairs}


def test_they_are_made_from_what_the_page_says_now() -> None:
    script = REPOSITORY / "scripts" / "generate-scaling-pictures"
    done = subprocess.run(
        [sys.executable, script, "--digests"], check=True, capture_output=True, text=True, timeout=120
    )
    made = dict(line.split() for line in done.stdout.splitlines())
    there = {picture.name: _texts(picture)["Source"] for picture in _PICTURES}
    assert there == made, "run scripts/generate-scaling-pictures"


def test_the_page_shows_every_picture_once() -> None:
    assert sorted(re.findall(r"\(pictures/([^)]+)\)", _PAGE)) == [picture.name for picture in _PICTURES]


@each_picture
def test_who_cannot_see_it_is_told_what_is_to_be_seen(picture: Path) -> None:
    assert len(_SHOWN[picture.name].split()) > 30
    assert len(_texts(picture)["Description"].split()) > 30


@each_picture
def test_it_is_sharp_and_small(picture: Path) -> None:
    kind, head = _chunks(picture)[0]
    assert kind == b"IHDR"
    assert struct.unpack(">I", head[:4]) == (1400,)
    assert picture.stat().st_size < 200_000
