"""Every transcript in dialogues/ happens exactly as it is written there."""

from pathlib import Path

import pytest

from tests.doubles.playback import Playback
from tests.doubles.transcript import Transcript

DIALOGUES = sorted((Path(__file__).parent / "dialogues").glob("*.txt"))


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_the_conversation_goes_as_written(path: Path) -> None:
    transcript = Transcript.read(path)
    playback = Playback(transcript)

    playback.run()

    assert not playback.difference, f"{transcript.title}\n{playback.difference}"


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_a_transcript_begins_with_a_sentence(path: Path) -> None:
    title = Transcript.read(path).title

    assert title[0].isupper()
    assert title.endswith(".")


def test_no_two_transcripts_show_the_same() -> None:
    titles = [Transcript.read(path).title for path in DIALOGUES]

    assert len(titles) > 40
    assert len(set(titles)) == len(titles)
