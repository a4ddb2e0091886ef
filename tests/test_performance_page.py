"""docs/performance.md: tables and pictures are those of the published records, and readable by everybody."""

import hashlib
import importlib
import re
from pathlib import Path

import pytest

from tests.doubles import png
from tests.doubles.generated import alternatives, digests
from tests.doubles.programs import REPOSITORY

_PICTURES = sorted((REPOSITORY / "docs" / "pictures").glob("performance-*.png"))
_RECORDS = sorted((REPOSITORY / "benchmarks" / "published").glob("*.json"))
_PAGE = REPOSITORY / "docs" / "performance.md"
_TEXT = _PAGE.read_text(encoding="utf-8")
_SHOWN = alternatives(_TEXT)

each_picture = pytest.mark.parametrize("picture", _PICTURES, ids=lambda picture: picture.stem)


def test_page_and_pictures_are_made_from_the_published_records() -> None:
    there = {picture.name: png.texts(picture)["Source"] for picture in _PICTURES}
    there[_PAGE.name] = hashlib.sha256(_PAGE.read_bytes()).hexdigest()
    assert there == digests("publish-performance"), "run scripts/publish-performance"


def test_the_page_shows_every_picture_once() -> None:
    assert len(_PICTURES) == 4
    assert sorted(re.findall(r"\(pictures/([^)]+)\)", _TEXT)) == [picture.name for picture in _PICTURES]


@each_picture
def test_who_cannot_see_it_is_told_what_is_to_be_seen(picture: Path) -> None:
    description = png.texts(picture)["Description"]
    assert len(description.split()) > 30
    assert _SHOWN[picture.name].endswith(description)


@each_picture
def test_it_is_sharp_and_small(picture: Path) -> None:
    assert png.width(picture) == 1400
    assert picture.stat().st_size < 200_000


def test_nothing_is_left_to_be_measured() -> None:
    assert "Not measured yet." not in _TEXT


def test_the_published_records_are_small_and_say_nothing_of_where_they_were_made() -> None:
    assert sum(record.stat().st_size for record in _RECORDS) < 150_000
    for record in _RECORDS:
        assert not re.search(r"/(home|root|tmp|work)\b", record.read_text(encoding="utf-8")), record.name


@pytest.mark.parametrize(
    ("ends", "labels"),
    [
        pytest.param([80, 120], [80, 120], id="far apart"),
        pytest.param([100, 101, 102], [100, 116, 132], id="on each other"),
        pytest.param([360, 365, 371], [340, 356, 372], id="at the bottom"),
        pytest.param([10, 12], [64, 80], id="above the top"),
    ],
)
def test_labels_at_the_ends_of_lines_do_not_lie_on_each_other(
    ends: list[float], labels: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "scripts"))
    pictures = importlib.import_module("performance_pictures")
    assert pictures.spread(ends, 64, 372) == labels
