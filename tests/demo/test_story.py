"""The demo as a whole, and above all that it notices when something does not come as it should."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from bqfilter.demo.scenes import SCENES, Scene
from bqfilter.demo.story import play

CLEAN, UNKNOWN = SCENES[0], SCENES[1]


def told(directory: Path, scenes: Sequence[Scene]) -> tuple[bool, str]:
    lines: list[str] = []
    is_good = play(directory, lines.append, scenes)
    return is_good, "\n".join(lines)


def test_everything_comes_as_it_should_and_the_story_tells_it(tmp_path: Path) -> None:
    is_good, story = told(tmp_path, SCENES)
    assert is_good, story
    for number, scene in enumerate(SCENES, start=1):
        assert f"\n{number}. {scene.title}.\n" in story
        assert scene.told in story
    assert story.count("checked   as it should be") == len(SCENES)
    assert f"{len(SCENES)} of {len(SCENES)} came as they should." in story
    assert "550 5.1.1 <unknown@demo.example>: the demo has no such user" in story
    assert story.endswith("ended with exit status 0.")


def test_the_files_that_the_story_names_are_in_the_maildir(tmp_path: Path) -> None:
    _, story = told(tmp_path, [CLEAN])
    (path,) = (tmp_path / "Maildir" / "new").iterdir()
    assert f"new/{path.name}" in story


def test_what_was_to_be_smuggled_arrives_as_text_of_the_one_message(tmp_path: Path) -> None:
    (scene,) = [scene for scene in SCENES if scene.passes_filter and b"\r\r\n" in scene.message.content]
    assert told(tmp_path, [scene])[0]
    (path,) = (tmp_path / "Maildir" / "new").iterdir()
    assert b"\nMAIL FROM:<ceo@demo.example>\n" in path.read_bytes()


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
            dataclasses.replace(UNKNOWN, arrivals=1), "should have arrived: 1", id="a message is missing"
        ),
        pytest.param(
            dataclasses.replace(CLEAN, arrivals=0), "should have arrived: 0", id="a message is too many"
        ),
        pytest.param(
            dataclasses.replace(SCENES[4], is_unchanged=True), "was changed", id="a message was changed"
        ),
        pytest.param(
            dataclasses.replace(CLEAN, logged="no such words"),
            '"no such words" is missing in the log',
            id="the log does not say so",
        ),
    ],
)
def test_it_notices_when(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene, complaint: str
) -> None:
    monkeypatch.setattr("bqfilter.demo.daemon._LINE_TIMEOUT", 0.5)
    monkeypatch.setattr("bqfilter.demo.story._ARRIVAL_TIMEOUT", 0.5)
    is_good, story = told(tmp_path, [scene, UNKNOWN])
    assert not is_good
    assert "NOT as it should be: " in story
    assert complaint in " ".join(story.split())
    assert "1 of 2 came as they should." in story
