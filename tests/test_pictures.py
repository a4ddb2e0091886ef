"""The pictures of docs/tuning.md: as their script draws them, readable by everybody, in step with it."""

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.doubles.programs import REPOSITORY

_PICTURES = sorted((REPOSITORY / "docs" / "pictures").glob("*.svg"))
_PAGE = (REPOSITORY / "docs" / "tuning.md").read_text(encoding="utf-8")
_SHOWN = {name: " ".join(alt.split()) for alt, name in re.findall(r"!\[([^]]*)\]\(pictures/([^)]+)\)", _PAGE)}
_SVG = "{http://www.w3.org/2000/svg}"

each_picture = pytest.mark.parametrize("picture", _PICTURES, ids=lambda picture: picture.stem)


def _words(picture: Path, element: str) -> str:
    return ElementTree.parse(picture).getroot().findtext(f"{_SVG}{element}") or ""


def _description(name: str) -> str:
    return _words(REPOSITORY / "docs" / "pictures" / f"{name}.svg", "desc")


def test_they_are_as_the_script_makes_them(tmp_path: Path) -> None:
    script = REPOSITORY / "scripts" / "generate-tuning-pictures"
    subprocess.run([sys.executable, script, tmp_path], check=True, timeout=120)
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    there = {path.name: path.read_text(encoding="utf-8") for path in _PICTURES}
    assert made == there, "run scripts/generate-tuning-pictures"


def test_the_page_shows_every_picture_once() -> None:
    assert sorted(re.findall(r"\(pictures/([^)]+)\)", _PAGE)) == [picture.name for picture in _PICTURES]


@each_picture
def test_who_cannot_see_it_is_told_what_is_to_be_seen(picture: Path) -> None:
    assert len(_SHOWN[picture.name].split()) > 30
    root = ElementTree.parse(picture).getroot()
    named = [root.find(f"{_SVG}*[@id='{name}']") for name in root.attrib["aria-labelledby"].split()]
    assert root.attrib["role"] == "img"
    assert [found.tag for found in named if found is not None and found.text] == [
        f"{_SVG}title",
        f"{_SVG}desc",
    ]


@each_picture
def test_every_mark_has_a_colour_in_light_and_in_dark(picture: Path) -> None:
    root = ElementTree.parse(picture).getroot()
    light, _, dark = (root.findtext(f"{_SVG}style") or "").partition("@media (prefers-color-scheme: dark)")
    for mark in root.iterfind(f"./{_SVG}*[@class]"):
        classes = mark.attrib["class"].split()
        assert any(f"\n.{name} {{" in light and f"\n.{name} {{" in dark for name in classes), mark.attrib


@each_picture
def test_every_label_begins_within_the_picture(picture: Path) -> None:
    root = ElementTree.parse(picture).getroot()
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for label in root.iterfind(f"{_SVG}text"):
        assert 0 < float(label.attrib["x"]) < width, label.text
        assert 0 < float(label.attrib["y"]) < height, label.text


@each_picture
def test_it_needs_nothing_from_elsewhere(picture: Path) -> None:
    text = picture.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|href|url\(|<script|@import", text)


def test_the_constraints_are_those_that_tune_prints_on_the_page() -> None:
    example = _PAGE.split("--what-if 21,24,26,28,34")[1]
    found = dict(
        re.findall(r"^  (comfort|law|memory|after-filter) +workers [<>]= (\d+) ", example, re.MULTILINE)[:4]
    )
    for telling in (
        f"comfort asks for at least {found['comfort']}, the law for at least {found['law']}",
        f"memory allows {found['memory']}, maxproc on both sides {found['after-filter']}",
    ):
        assert telling in _description("workers")


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        pytest.param("32 give up: 451", "32 wait the full 100s", id="who gives up"),
        pytest.param("longest wait 60 s, nobody gives up", "Nobody waits longer than 60s", id="longest wait"),
    ],
)
def test_the_page_says_of_the_outage_what_the_simulation_found(told: str, shown: str) -> None:
    assert told in _description("outage")
    assert shown in " ".join(_PAGE.split())


def test_the_page_says_when_the_last_one_had_to_wait() -> None:
    labels = ElementTree.parse(REPOSITORY / "docs" / "pictures" / "outage.svg").getroot().iter(f"{_SVG}text")
    ends = re.findall(r"nobody waits after (\d+) s", "\n".join(label.text or "" for label in labels))
    assert int(ends[0]) > 180 + 60, "more than a minute after the scanner is back"
    assert f"nobody waits any more after {ends[1]}s" in " ".join(_PAGE.split())


def test_the_measurement_is_the_one_on_the_page() -> None:
    runs = re.findall(r"^  (?:measured|predicted) .* P\(wait\) ([\d.]+) ", _PAGE, re.MULTILINE)
    assert len(runs) == 8
    assert all(run in _description("measured") for run in runs)
