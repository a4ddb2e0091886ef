"""Actions and responses: their words, their order, what they imply."""

import pytest

from bqfilter.config.actions import Action, Response


@pytest.mark.parametrize("text", [*Action, "tag+quarantine", "reject+quarantine", "accept+quarantine"])
def test_a_response_reads_back_as_it_is_written(text: str) -> None:
    assert str(Response.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("bounce", "no such action", id="unknown"),
        pytest.param("", "no such action", id="empty"),
        pytest.param("reject+discard", "no such action", id="two actions"),
        pytest.param("quarantine+quarantine", "keeps the message anyway", id="a copy of what is kept"),
        pytest.param("Reject", "no such action", id="letter case"),
    ],
)
def test_what_is_no_response_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Response.parse(text)


def test_the_stronger_action_weighs_more() -> None:
    order = ["accept", "tag", "redirect", "defer", "quarantine", "discard", "reject"]
    assert sorted(Action, key=lambda action: action.weight) == order


def test_what_delivers_and_what_is_final() -> None:
    assert [action for action in Action if action.delivers] == ["accept", "tag", "redirect"]
    assert [action for action in Action if action.is_final] == ["discard", "reject"]
