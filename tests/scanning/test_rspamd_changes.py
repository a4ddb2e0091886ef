"""What Rspamd wants changed, carried out: places as with a milter, and no value ends its field."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.errors import ScannerFailure
from bqfilter.mail.fields import Header, edited
from bqfilter.scanning.report import NO_CHANGES
from bqfilter.scanning.rspamd_changes import changes
from bqfilter.scanning.rspamd_reply import AddedHeader, Answer, RemovedHeader

HEADER = Header(b"Received: r\r\nX-Old: 1\r\nSubject: s\r\nx-old: 2\r\nFrom: f\r\nX-OLD: 3\r\n")
PEOPLE = [b"a@example.com", b"B@example.com"]


def answer(**wanted: object) -> Answer:
    return Answer("add header", 7.0, 15.0, False, True, **wanted)  # type: ignore[arg-type]  # names of its fields


def lines(header: Header = HEADER, **wanted: object) -> list[bytes]:
    return edited(header, changes(answer(**wanted), header, PEOPLE).edits).split(b"\r\n")[:-1]


def test_an_answer_that_wants_nothing_changes_nothing() -> None:
    assert changes(answer(), HEADER, PEOPLE) == NO_CHANGES
    assert not changes(answer(), HEADER, PEOPLE)


@pytest.mark.parametrize(
    ("nth", "left"),
    [
        pytest.param(0, [], id="all"),
        pytest.param(1, [b"2", b"3"], id="first"),
        pytest.param(3, [b"1", b"2"], id="third"),
        pytest.param(4, [b"1", b"2", b"3"], id="fourth of three"),
        pytest.param(-1, [b"1", b"2"], id="last"),
        pytest.param(-3, [b"2", b"3"], id="third from the end"),
        pytest.param(-4, [b"1", b"2", b"3"], id="fourth from the end"),
        pytest.param(10**30, [b"1", b"2", b"3"], id="beyond everything"),
    ],
)
def test_a_field_is_removed_by_its_place_among_those_of_its_name(nth: int, left: list[bytes]) -> None:
    header = Header(edited(HEADER, changes(answer(removed=(RemovedHeader("X-Old", nth),)), HEADER, []).edits))
    assert [field.value for field in header.all(b"X-Old")] == left
    assert len(header.fields) == 3 + len(left)


def test_places_are_counted_before_any_field_is_removed() -> None:
    both = (RemovedHeader("X-Old", 1), RemovedHeader("X-Old", 2))
    assert lines(removed=both) == [b"Received: r", b"Subject: s", b"From: f", b"X-OLD: 3"]


@pytest.mark.parametrize(
    ("order", "place"),
    [(0, 0), (1, 1), (5, 5), (6, 6), (10**30, 6), (-1, 6), (-2, 5), (-7, 0), (-(10**30), 0)],
)
def test_a_field_is_added_where_its_order_says(order: int, place: int) -> None:
    assert lines(added=(AddedHeader("X-New", "v", order),)).index(b"X-New: v") == place


def test_fields_at_one_place_from_the_top_stack_up_and_at_the_end_they_queue() -> None:
    added = [AddedHeader("X-N", value, order) for value, order in (("a", 0), ("b", -1), ("c", 0), ("d", -1))]
    result = lines(added=tuple(added))
    assert result[:3] == [b"X-N: c", b"X-N: a", b"Received: r"]
    assert result[-2:] == [b"X-N: b", b"X-N: d"]


def test_a_field_that_is_removed_and_added_is_replaced() -> None:
    result = lines(removed=(RemovedHeader("X-Old"),), added=(AddedHeader("X-Old", "new"),))
    assert result == [b"Received: r", b"Subject: s", b"From: f", b"X-Old: new"]


def test_a_subject_takes_the_place_of_the_one_that_is_there() -> None:
    assert lines(subject="***SPAM*** s")[2] == b"Subject: ***SPAM*** s"
    assert len(lines(subject="t")) == len(HEADER.fields)


def test_a_message_without_a_subject_gets_one() -> None:
    assert lines(Header(b"From: f\r\n"), subject="t") == [b"From: f", b"Subject: t"]


def test_a_subject_beyond_ascii_is_encoded() -> None:
    assert lines(subject="é")[2] == b"Subject: =?utf-8?b?w6k=?="


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_folds_of_a_value_stay(end: str) -> None:
    value = f"default: False [3.00 / 15.00];{end}\tBQ_SCORE(3.00)[opt1]"
    result = edited(HEADER, changes(answer(added=(AddedHeader("X-R", value),)), HEADER, []).edits)
    assert result.endswith(b"\r\nX-R: default: False [3.00 / 15.00];\r\n\tBQ_SCORE(3.00)[opt1]\r\n")


def test_signatures_stand_on_top_in_their_order_with_their_folds() -> None:
    signatures = ("v=1; a=rsa-sha256;\r\n\tb=AA\r\n\t BB==", "v=1; a=ed25519-sha256")
    result = edited(
        HEADER, changes(answer(signatures=signatures, added=(AddedHeader("X", "y", 0),)), HEADER, []).edits
    )
    assert result == (
        b"DKIM-Signature: v=1; a=rsa-sha256;\r\n\tb=AA\r\n\t BB==\r\n"
        b"DKIM-Signature: v=1; a=ed25519-sha256\r\nX: y\r\n" + HEADER.raw
    )


def test_a_name_that_cannot_be_one_is_a_failure() -> None:
    with pytest.raises(ScannerFailure, match="cannot be followed"):
        changes(answer(added=(AddedHeader("X Y", "v"),)), HEADER, [])


def test_added_recipients_get_a_copy() -> None:
    wanted = changes(answer(added_recipients=("<more@example.net>", "c@example.net")), HEADER, PEOPLE)
    assert (wanted.recipients, wanted.copies) == (None, (b"more@example.net", b"c@example.net"))


def test_deleted_recipients_are_compared_without_regard_to_letter_case() -> None:
    assert changes(answer(deleted_recipients=("<b@example.com>",)), HEADER, PEOPLE).recipients == (PEOPLE[0],)


def test_a_message_may_be_redirected_by_deleting_all_and_adding_one() -> None:
    wanted = answer(
        deleted_recipients=("a@example.com", "b@example.com"), added_recipients=("c@example.net",)
    )
    assert changes(wanted, HEADER, PEOPLE).recipients == (b"c@example.net",)
    assert changes(wanted, HEADER, PEOPLE).copies == ()


def test_a_message_that_nobody_would_get_is_a_failure() -> None:
    with pytest.raises(ScannerFailure, match="no recipient would be left"):
        changes(answer(deleted_recipients=("a@example.com", "b@example.com")), HEADER, PEOPLE)


@pytest.mark.parametrize(
    "text", ["", "<>", "nobody", "a@b\r\nRCPT TO:<c@d>", "a@b>,<c@d", "a b@c", "a@b ORCPT=x"]
)
def test_a_recipient_that_is_no_address_is_a_failure(text: str) -> None:
    for wanted in (answer(added_recipients=(text,)), answer(deleted_recipients=(text,))):
        with pytest.raises(ScannerFailure, match="is no address"):
            changes(wanted, HEADER, PEOPLE)


TEXTS = st.text(max_size=60) | st.sampled_from(
    ["a\r\nBcc: x", "a\n\nbody", "\r\n", "a\r\n\tb", "é" * 500, "x" * 3000]
)


@given(st.lists(st.tuples(TEXTS, st.integers(-9, 9)), max_size=4), st.lists(TEXTS, max_size=2), TEXTS)
def test_no_text_of_an_answer_is_more_than_one_field(
    added: list[tuple[str, int]], signatures: list[str], subject: str
) -> None:
    fields = tuple(AddedHeader("X-New", value, order) for value, order in added)
    result = Header(
        edited(
            HEADER,
            changes(answer(added=fields, signatures=tuple(signatures), subject=subject), HEADER, []).edits,
        )
    )

    assert b"".join(field.raw for field in result.fields) == result.raw
    assert len(result.fields) == len(HEADER.fields) + len(added) + len(signatures)
    assert len(result.all(b"X-New")) == len(added)
