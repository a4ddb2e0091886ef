"""The demo as a whole, and above all that it notices when something does not come as it should."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from bqfilter.demo.scenes import SCENES, Arrival, Scene
from bqfilter.demo.story import play

CLEAN, UNKNOWN = SCENES[0], SCENES[1]
REFUSED = next(scene for scene in SCENES if scene.told.startswith("554 "))
AFTERWARDS = 2  # things that are checked when all scenes have been played: quarantine and metrics


def told(directory: Path, scenes: Sequence[Scene]) -> tuple[bool, str]:
    lines: list[str] = []
    is_good = play(directory, lines.append, scenes)
    return is_good, "\n".join(lines)


def test_everything_comes_as_it_should_and_the_story_tells_it(place: Path) -> None:
    is_good, story = told(place, SCENES)
    assert is_good, story
    for number, scene in enumerate(SCENES, start=1):
        assert f"\n{number}. {scene.title}.\n" in story
        assert scene.told in story
    count = len(SCENES) + AFTERWARDS
    assert story.count("checked   as it should be") == count
    assert f"{count} of {count} came as they should." in story
    assert "550 5.1.1 <unknown@demo.example>: the demo has no such user" in story
    assert story.endswith("ended with exit status 0.")


@pytest.fixture
def scenes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is shown of what comes after the scenes, which takes its time."""
    monkeypatch.setattr("bqfilter.demo.aftermath.Aftermath.tell", lambda _self, _number: [])


@pytest.mark.usefixtures("scenes_alone")
def test_the_files_that_the_story_names_are_in_the_maildir(place: Path) -> None:
    _, story = told(place, [CLEAN])
    (path,) = (place / "Maildir" / "new").iterdir()
    assert f"new/{path.name}" in story


@pytest.mark.usefixtures("scenes_alone")
def test_what_was_to_be_smuggled_arrives_as_text_of_the_one_message(place: Path) -> None:
    (scene,) = [scene for scene in SCENES if scene.passes_filter and b"\r\r\n" in scene.message.content]
    assert told(place, [scene])[0]
    (path,) = (place / "Maildir" / "new").iterdir()
    assert b"\nMAIL FROM:<ceo@demo.example>\n" in path.read_bytes()


@pytest.mark.usefixtures("scenes_alone")
def test_what_is_refused_is_in_no_file(place: Path) -> None:
    assert told(place, [REFUSED])[0]
    assert not list((place / "Maildir" / "new").iterdir())


@pytest.mark.usefixtures("scenes_alone")
@pytest.mark.parametrize(
    ("scene", "complaint"),
    [
        pytest.param(
            dataclasses.replace(CLEAN, told="550 "),
            'the client should have been told "550 "',
            id="the client is told something else",
        ),
        pytest.param(
            dataclasses.replace(UNKNOWN, told=""),
            'the client should have been told ""',
            id="the client is told something where silence is due",
        ),
        pytest.param(
            dataclasses.replace(UNKNOWN, arrivals=CLEAN.arrivals),
            "should have arrived: 1",
            id="a message is missing",
        ),
        pytest.param(
            dataclasses.replace(CLEAN, arrivals=()), "should have arrived: 0", id="a message is too many"
        ),
        pytest.param(
            dataclasses.replace(CLEAN, arrivals=(Arrival(CLEAN.arrivals[0].to, b"Subject: x\r\n"),)),
            "the message is not as it should be",
            id="a message was changed",
        ),
        pytest.param(
            dataclasses.replace(CLEAN, arrivals=(Arrival(("x@y",), CLEAN.message.content),)),
            "it should have gone to x@y",
            id="a message went elsewhere",
        ),
        pytest.param(
            dataclasses.replace(CLEAN, logged=("accepted", "no such words")),
            '"no such words" is missing in the log',
            id="the log does not say so",
        ),
    ],
)
def test_it_notices_when(place: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene, complaint: str) -> None:
    monkeypatch.setattr("bqfilter.demo.daemon._LINE_TIMEOUT", 0.5)
    monkeypatch.setattr("bqfilter.demo.story._ARRIVAL_TIMEOUT", 0.5)
    is_good, story = told(place, [scene, UNKNOWN])
    assert not is_good
    assert "NOT as it should be: " in story
    assert complaint in " ".join(story.split())
    assert "1 of 2 came as they should." in story


def test_what_goes_wrong_afterwards_counts_as_well(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bqfilter.demo.aftermath.Aftermath.tell", lambda _self, number: [number == 1])
    is_good, story = told(place, [CLEAN])
    assert not is_good
    assert "1 of 2 came as they should." in story
