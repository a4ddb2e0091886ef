"""Reading Rspamd's JSON: whole answers of the right types, or a failure; a clean message is never a guess."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.errors import ScannerFailure
from bqfilter.scanning.rspamd_reply import (
    APPEND,
    MAX_HEADER_CHANGES,
    AddedHeader,
    Answer,
    RemovedHeader,
    Symbol,
    parse_answer,
    parse_error,
)

# As Rspamd 3.4 said them.
HAM = {
    "is_skipped": False, "score": 0.0, "required_score": 15.0, "action": "no action", "symbols": {},
    "messages": {}, "message-id": "1234@example.com", "time_real": 0.05,
}  # fmt: skip
SPAM = {
    **HAM, "score": 16, "action": "reject", "messages": {"smtp_message": "Gtube pattern"},
    "symbols": {"BQ_SCORE": {"name": "BQ_SCORE", "score": 16.0, "metric_score": 1.0, "options": ["opt1"]}},
}  # fmt: skip


def read(answer: Any) -> Answer:
    return parse_answer(json.dumps(answer).encode())


def with_milter(**milter: Any) -> Answer:
    return read({**HAM, "milter": milter})


def test_a_clean_message() -> None:
    assert read(HAM) == Answer("no action", 0.0, 15.0, is_skipped=False, has_message=True)


def test_a_spam_message() -> None:
    assert read(SPAM) == Answer(
        "reject", 16.0, 15.0, False, True, symbols=(Symbol("BQ_SCORE", 16.0),), text="Gtube pattern"
    )


def test_the_answer_to_an_empty_request_says_that_there_was_no_message() -> None:
    assert not read({key: value for key, value in HAM.items() if key != "message-id"}).has_message


def test_a_site_where_no_score_is_ever_rejected_has_no_required_score() -> None:
    assert read({**HAM, "required_score": None}).required is None


def test_added_header_fields_come_in_three_shapes() -> None:
    answer = with_milter(
        add_headers={
            "X-Flag": "YES",
            "X-Two": ["one", "two"],
            "X-Top": {"value": "v", "order": 1},
            "X-Index": {"value": "v", "index": 0},
            "X-Last": {"value": "default: False;\r\n\tA(1)", "order": -1},
            "X-Both": [{"value": "a", "order": 0.0}, {"value": "b"}],
        }
    )

    assert answer.added == (
        AddedHeader("X-Flag", "YES", APPEND),
        AddedHeader("X-Two", "one"),
        AddedHeader("X-Two", "two"),
        AddedHeader("X-Top", "v", 1),
        AddedHeader("X-Index", "v", 0),
        AddedHeader("X-Last", "default: False;\r\n\tA(1)", -1),
        AddedHeader("X-Both", "a", 0),
        AddedHeader("X-Both", "b", APPEND),
    )


def test_removed_header_fields_are_numbers_or_lists_of_them() -> None:
    answer = with_milter(remove_headers={"X-All": 0, "X-Old": 2, "X-Some": [1, -1]})

    assert answer.removed == (
        RemovedHeader("X-All", 0),
        RemovedHeader("X-Old", 2),
        RemovedHeader("X-Some", 1),
        RemovedHeader("X-Some", -1),
    )


@pytest.mark.parametrize(
    ("spam_header", "name"), [("very", "X-Spam"), ({"X-Junk": "very"}, "X-Junk")], ids=["text", "table"]
)
def test_a_spam_header_replaces_those_of_its_name_where_the_action_is_add_header(
    spam_header: Any, name: str
) -> None:
    answer = read({**HAM, "action": "add header", "milter": {"spam_header": spam_header}})
    assert (answer.removed, answer.added) == ((RemovedHeader(name),), (AddedHeader(name, "very"),))
    assert with_milter(spam_header=spam_header).added == ()


@pytest.mark.parametrize("instead", ["discard", "quarantine"])
def test_a_milter_reply_may_ask_for_something_else_instead_of_a_reject(instead: str) -> None:
    assert read({**SPAM, "milter": {"reject": instead}}).action == instead
    assert with_milter(reject=instead).action == "no action"
    assert read({**SPAM, "milter": {"reject": "no such thing"}}).action == "reject"


def test_recipients_subject_signatures_and_abstention() -> None:
    answer = read(
        {
            **HAM,
            "subject": "***SPAM*** hi",
            "dkim-signature": ["v=1;\r\n\ta=rsa", "v=1; a=ed25519"],
            "milter": {
                "add_rcpt": ["a@x"],
                "del_rcpt": ["b@x"],
                "change_from": "<c@x>",
                "no_action": True,
            },
        }
    )

    assert answer.subject == "***SPAM*** hi"
    assert answer.signatures == ("v=1;\r\n\ta=rsa", "v=1; a=ed25519")
    assert (answer.added_recipients, answer.deleted_recipients) == (("a@x",), ("b@x",))
    assert answer.is_not_to_be_applied


def test_one_signature_is_not_in_a_list() -> None:
    assert read({**HAM, "dkim-signature": "v=1"}).signatures == ("v=1",)


def test_messages_of_old_configurations_are_a_list_and_none_is_for_the_client() -> None:
    assert read({**SPAM, "messages": ["Gtube pattern"]}).text == ""


def test_bytes_that_an_author_chose_do_not_stop_the_scan() -> None:
    body = json.dumps({**SPAM, "subject": "@"}).encode().replace(b"@", b"\xff\x00\x1f\xc3")
    assert parse_answer(body).subject == "�\x00\x1f�"


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in HAM.items() if name != key}


@pytest.mark.parametrize(
    "answer",
    [
        *(pytest.param(without(key), id=f"no {key}") for key in ("action", "score", "symbols", "is_skipped")),
        *(pytest.param(value, id=f"top is {value!r}") for value in ({}, [], None, 0, "no action", [HAM])),
        pytest.param({**HAM, "action": None}, id="action is null"),
        pytest.param({**HAM, "action": 0}, id="action is a number"),
        pytest.param({**HAM, "action": ["no action"]}, id="action is a list"),
        pytest.param({**HAM, "score": "0"}, id="score is a text"),
        pytest.param({**HAM, "score": True}, id="score is true"),
        pytest.param({**HAM, "score": 10**400}, id="score is beyond all floats"),
        pytest.param({**HAM, "required_score": "15"}, id="required score is a text"),
        pytest.param({**HAM, "is_skipped": 0}, id="is_skipped is a number"),
        pytest.param({**HAM, "symbols": []}, id="symbols are a list"),
        pytest.param({**HAM, "symbols": {"A": 1}}, id="a symbol is a number"),
        pytest.param({**HAM, "symbols": {"A": {"score": None}}}, id="a symbol has no score"),
        pytest.param({**HAM, "messages": "no"}, id="messages are a text"),
        pytest.param({**HAM, "messages": {"smtp_message": 1}}, id="the text for the client is a number"),
        pytest.param({**HAM, "subject": 1}, id="subject is a number"),
        pytest.param({**HAM, "dkim-signature": {}}, id="signature is an object"),
        pytest.param({**HAM, "dkim-signature": ["a", None]}, id="a signature is null"),
        pytest.param({**HAM, "milter": []}, id="milter is a list"),
        pytest.param({**HAM, "milter": {"add_headers": []}}, id="added are a list"),
        pytest.param({**HAM, "milter": {"add_headers": {"X": 1}}}, id="value is a number"),
        pytest.param({**HAM, "milter": {"add_headers": {"X": {"order": 1}}}}, id="no value"),
        pytest.param(
            {**HAM, "milter": {"add_headers": {"X": {"value": "a", "order": "1"}}}}, id="text order"
        ),
        pytest.param(
            {**HAM, "milter": {"add_headers": {"X": {"value": "a", "order": 0.5}}}}, id="half order"
        ),
        pytest.param({**HAM, "milter": {"remove_headers": {"X": "all"}}}, id="removed is a text"),
        pytest.param({**HAM, "milter": {"remove_headers": {"X": [True]}}}, id="removed is true"),
        pytest.param({**HAM, "milter": {"add_rcpt": {"a": "b"}}}, id="recipients are an object"),
        pytest.param({**HAM, "milter": {"no_action": "yes"}}, id="no_action is a text"),
        pytest.param(
            {**HAM, "milter": {"remove_headers": {"X": [1] * (MAX_HEADER_CHANGES + 1)}}},
            id="too many changes",
        ),
    ],
)
def test_an_answer_with_something_missing_or_of_another_type_is_a_failure(answer: Any) -> None:
    with pytest.raises(ScannerFailure, match="its answer"):
        read(answer)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"pong\r\n", id="text"),
        pytest.param(b"<html>", id="html"),
        pytest.param(json.dumps(HAM).encode()[:-1], id="cut off"),
        pytest.param(json.dumps(HAM).encode() * 2, id="twice"),
        pytest.param(json.dumps(HAM).replace("0.0", "NaN").encode(), id="NaN"),
        pytest.param(json.dumps(HAM).replace("0.0", "1e999").encode(), id="infinite"),
        pytest.param(json.dumps(HAM).replace("0.0", "9" * 5000).encode(), id="more digits than are read"),
        pytest.param(b"[" * 1000000, id="deep"),
        pytest.param(b'{"a":' * 100000, id="deep objects"),
        pytest.param(json.dumps(HAM).encode("utf-16"), id="utf-16"),
    ],
)
def test_what_is_no_json_is_a_failure(body: bytes) -> None:
    with pytest.raises(ScannerFailure, match="its answer"):
        parse_answer(body)


@given(st.integers(0, len(json.dumps(SPAM)) - 1))
def test_no_beginning_of_an_answer_is_an_answer(length: int) -> None:
    with pytest.raises(ScannerFailure):
        parse_answer(json.dumps(SPAM).encode()[:length])


KEYS = st.sampled_from(
    [*HAM, "milter", "add_headers", "remove_headers", "value", "order", "score", "subject"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([HAM, 10**400]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=6), st.sets(KEYS, max_size=1))
def test_any_json_is_an_answer_or_a_failure_and_never_a_clean_message_by_accident(
    values: dict[str, Any], left_out: set[str]
) -> None:
    mixed = {key: value for key, value in {**HAM, **values}.items() if key not in left_out}
    try:
        answer = read(mixed)
    except ScannerFailure:
        return
    assert answer.action == mixed["action"]
    assert answer.score == float(mixed["score"])


@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_a_failure(body: bytes) -> None:
    with pytest.raises(ScannerFailure):
        parse_answer(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error":"Unauthorized"}', "Unauthorized"),
        (b'{"error":1}', ""),
        (b"{}", ""),
        (b"<html>no</html>", ""),
        (b"", ""),
    ],
)
def test_an_error_response_says_why_where_it_can(body: bytes, said: str) -> None:
    assert parse_error(body) == said
