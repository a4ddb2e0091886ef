"""What happened to a kept message, and what follows for each recipient and for the file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.quarantine.history import (
    Event,
    What,
    decode,
    encode,
    has_it,
    is_in_doubt,
    resting_state,
    standing,
)
from bqfilter.quarantine.names import State
from tests.doubles.kept import record

A, B = b"a@example.org", b"b@example.org"
AT = "2025-11-25T13:27:23+00:00"


def event(what: What, *recipients: bytes) -> Event:
    return Event(what=what, at=AT, recipients=recipients)


EVENTS = st.builds(
    Event,
    what=st.sampled_from(What),
    at=st.just(AT),
    by=st.sampled_from(["", "root"]),
    recipients=st.lists(st.binary(max_size=20)).map(tuple),
    queue_id=st.sampled_from(["", "4Q1"]),
    text=st.sampled_from(["", "250 2.0.0 Ok"]),
)


@given(st.lists(EVENTS, max_size=5))
def test_what_was_written_is_read(events: list[Event]) -> None:
    assert decode(b"".join(map(encode, events))) == tuple(events)


@given(st.lists(EVENTS, min_size=1, max_size=3), EVENTS, st.integers(0, 200))
def test_a_torn_line_takes_no_other_with_it(events: list[Event], torn: Event, cut: int) -> None:
    line = encode(torn)[:-1]
    written = b"".join(map(encode, events)) + line[: min(cut, len(line) - 1)] + encode(events[0])
    assert decode(written) == (*events, events[0])


def test_a_line_of_somebody_else_is_no_event() -> None:
    assert decode(b'\n[]\n{"event":"sold"}\n{}\nhello\n') == ()


HANDOVER, RELEASED, NOT_DELIVERED, FAILED = What.HANDOVER, What.RELEASED, What.NOT_DELIVERED, What.FAILED


@pytest.mark.parametrize(
    ("events", "state"),
    [
        pytest.param([], State.HELD, id="nothing happened"),
        pytest.param([event(FAILED, A, B)], State.HELD, id="it did not come to a handover"),
        pytest.param([event(HANDOVER, A, B)], State.UNKNOWN, id="no reply is known"),
        pytest.param([event(HANDOVER, A, B), event(RELEASED, A, B)], State.RELEASED, id="all have it"),
        pytest.param([event(HANDOVER, A), event(RELEASED, A)], State.HELD, id="one of two has it"),
        pytest.param(
            [event(HANDOVER, A, B), event(NOT_DELIVERED, A, B)], State.HELD, id="refused at the dot"
        ),
        pytest.param(
            [event(HANDOVER, A, B), event(RELEASED, A, B), event(HANDOVER, A), event(NOT_DELIVERED, A)],
            State.RELEASED,
            id="refused when sent again to somebody who has it",
        ),
        pytest.param(
            [event(HANDOVER, A, B), event(FAILED, A, B)], State.UNKNOWN, id="in doubt, then not even tried"
        ),
        pytest.param(
            [event(HANDOVER, A, B), event(HANDOVER, A, B), event(NOT_DELIVERED, A, B)],
            State.UNKNOWN,
            id="in doubt, then refused",
        ),
        pytest.param(
            [event(HANDOVER, A, B), event(HANDOVER, A, B), event(RELEASED, A, B)],
            State.RELEASED,
            id="in doubt, then taken",
        ),
        pytest.param(
            [event(HANDOVER, b"x@y"), event(RELEASED, b"x@y")], State.HELD, id="sent to somebody else"
        ),
        pytest.param([event(What.DELIVERED, b"A@EXAMPLE.ORG", B)], State.RELEASED, id="in capitals"),
    ],
)
def test_where_a_file_belongs(events: list[Event], state: State) -> None:
    assert resting_state(record(A, B), standing(events)) is state


def test_each_recipient_is_followed_by_itself() -> None:
    fared = standing([event(HANDOVER, A), event(RELEASED, A), event(HANDOVER, B)])
    assert has_it(A, fared)
    assert not is_in_doubt(A, fared)
    assert is_in_doubt(b"B@example.org", fared)
    assert not has_it(B, fared)
