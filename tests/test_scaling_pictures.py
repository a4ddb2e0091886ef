"""The pictures of docs/scaling.md: made from the tables on that page, and readable by everybody."""

import re
from pathlib import Path

import pytest

from tests.doubles import png
from tests.doubles.generated import alternatives, digests
from tests.doubles.programs import REPOSITORY

_PICTURES = sorted((REPOSITORY / "docs" / "pictures").glob("scaling-*.png"))
_PAGE = (REPOSITORY / "docs" / "scaling.md").read_text(encoding="utf-8")
_SHOWN = alternatives(_PAGE)

each_picture = pytest.mark.parametrize("picture", _PICTURES, ids=lambda picture: picture.stem)


def test_they_are_made_from_what_the_page_says_now() -> None:
    there = {picture.name: png.texts(picture)["Source"] for picture in _PICTURES}
    assert there == digests("generate-scaling-pictures"), "run scripts/generate-scaling-pictures"


def test_the_page_shows_every_picture_once() -> None:
    assert sorted(re.findall(r"\(pictures/([^)]+)\)", _PAGE)) == [picture.name for picture in _PICTURES]


@each_picture
def test_who_cannot_see_it_is_told_what_is_to_be_seen(picture: Path) -> None:
    assert len(_SHOWN[picture.name].split()) > 30
    assert len(png.texts(picture)["Description"].split()) > 30


@each_picture
def test_it_is_sharp_and_small(picture: Path) -> None:
    assert png.width(picture) == 1400
    assert picture.stat().st_size < 200_000
