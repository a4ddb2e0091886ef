"""Actions and the text in them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter.scanning.rule_action import Action, Template, Verb, check_field, is_address


@pytest.mark.parametrize(
    ("words", "verb", "status", "text"),
    [
        pytest.param(b"REJECT", Verb.REJECT, b"", b"", id="bare"),
        pytest.param(b"reject no thanks", Verb.REJECT, b"", b"no thanks", id="letter case does not matter"),
        pytest.param(b"REJECT\t no  thanks", Verb.REJECT, b"", b"no  thanks", id="blanks"),
        pytest.param(b"REJECT 5.7.1 no", Verb.REJECT, b"5.7.1", b"no", id="with an enhanced status code"),
        pytest.param(b"REJECT 5.7.1", Verb.REJECT, b"5.7.1", b"", id="with nothing else"),
        pytest.param(b"REJECT 5.7.1no", Verb.REJECT, b"", b"5.7.1no", id="with what looks like one"),
        pytest.param(b"REJECT 4.7.1 later", Verb.DEFER, b"4.7.1", b"later", id="a temporary refusal"),
        pytest.param(b"DEFER 4.2.0 later", Verb.DEFER, b"4.2.0", b"later", id="defer with a code"),
        pytest.param(b"DEFER later", Verb.DEFER, b"", b"later", id="defer without"),
        pytest.param(b"DISCARD why", Verb.DISCARD, b"", b"why", id="discard"),
        pytest.param(b"HOLD why", Verb.HOLD, b"", b"why", id="hold"),
        pytest.param(b"QUARANTINE", Verb.HOLD, b"", b"", id="the same by our word"),
        pytest.param(b"PREPEND X-A: b", Verb.PREPEND, b"", b"X-A: b", id="prepend"),
        pytest.param(b"REPLACE X-A: b", Verb.REPLACE, b"", b"X-A: b", id="replace"),
        pytest.param(b"STRIP", Verb.STRIP, b"", b"", id="strip"),
        pytest.param(b"IGNORE x", Verb.IGNORE, b"", b"x", id="ignore"),
        pytest.param(b"REDIRECT a@example.com", Verb.REDIRECT, b"", b"a@example.com", id="redirect"),
        pytest.param(b"BCC a@example.com", Verb.BCC, b"", b"a@example.com", id="bcc"),
        pytest.param(b"WARN 5.7.1 x", Verb.WARN, b"", b"5.7.1 x", id="a code means nothing elsewhere"),
        pytest.param(b"INFO", Verb.INFO, b"", b"", id="info"),
        pytest.param(b"DUNNO", Verb.DUNNO, b"", b"", id="dunno"),
        pytest.param(b"OK", Verb.DUNNO, b"", b"", id="its old name"),
        pytest.param(b"PASS trusted", Verb.PASS, b"", b"trusted", id="pass"),
    ],
)
def test_actions_are_read(words: bytes, verb: Verb, status: bytes, text: bytes) -> None:
    action = Action.parse(words)

    assert (action.verb, action.status, action.text.render(())) == (verb, status, text)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        pytest.param(b"", "no action; there are REJECT, DEFER", id="none"),
        pytest.param(b"FROB x", 'no such action "FROB"; there are REJECT', id="unknown"),
        pytest.param(b"$1 x", 'no such action "$1"', id="one that would be filled in"),
        pytest.param(b"550 5.7.1 x", 'no such action "550"', id="of access tables"),
        pytest.param(b"FILTER smtp:[x]", "FILTER is not available", id="filter"),
        pytest.param(b"PREPEND", "PREPEND needs text", id="prepend nothing"),
        pytest.param(b"REPLACE ", "REPLACE needs text", id="replace by nothing"),
        pytest.param(b"REDIRECT", "REDIRECT needs an address", id="redirect nowhere"),
        pytest.param(b"BCC\t", "BCC needs an address", id="copy nowhere"),
        pytest.param(b"REDIRECT root", "REDIRECT takes an address", id="no domain"),
        pytest.param(b"BCC <a@example.com>", "BCC takes an address", id="brackets"),
        pytest.param(
            b"REJECT 2.0.0 x", "REJECT takes an enhanced status code 4.x.x or 5.x.x", id="code of success"
        ),
        pytest.param(
            b"DEFER 5.7.1 x", "DEFER takes an enhanced status code 4.x.x", id="code of the other class"
        ),
        pytest.param(b"REJECT $x", '"$x" is no group', id="a name"),
        pytest.param(b"REJECT $0", '"$0" is no group', id="zero"),
        pytest.param(b"REJECT ${1", '"${1" is no group', id="no closing brace"),
        pytest.param(b"REJECT $", '"$" is no group', id="a dollar sign alone"),
        pytest.param(b"REJECT $9999", '"$9999" is no group', id="a large number"),
    ],
)
def test_what_is_wrong_with_an_action_is_said(words: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        Action.parse(words)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        pytest.param(b"a", b"a", id="none"),
        pytest.param(b"$1-$2", b"one-two", id="plain"),
        pytest.param(b"${1}2$(2)1", b"one2two1", id="in braces and parentheses"),
        pytest.param(b"$$1 $$", b"$1 $", id="dollar signs"),
        pytest.param(b"$$$1", b"$one", id="one before a group"),
        pytest.param(b"$01", b"one", id="with a zero"),
    ],
)
def test_groups_are_filled_in(text: bytes, rendered: bytes) -> None:
    assert Template.parse(text).render((b"whole", b"one", b"two")) == rendered


@given(st.binary(max_size=30))
def test_text_without_dollar_signs_stands_for_itself(text: bytes) -> None:
    assert Template.parse(text.replace(b"$", b"$$")).render(()) == text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (b"a@example.com", True),
        (b"a@[192.0.2.1]", True),
        (b"a", False),
        (b"", False),
        (b"@b", False),
        (b"a@b\r\nX: y", False),
        (b"a b@c", False),
        (b"<a@b>", False),
        (b"a@b,c@d", False),
        (b"\xff@b", False),
    ],
)
def test_an_address_is_one_address(text: bytes, answer: bool) -> None:
    assert is_address(text) is answer


@pytest.mark.parametrize("words", [b"PREPEND some text", b"REPLACE a b: c"])
def test_a_header_takes_nothing_but_fields(words: bytes) -> None:
    with pytest.raises(ValueError, match=f'{words.split()[0].decode()} takes a header field, "Name: value"'):
        check_field(Action.parse(words))


@pytest.mark.parametrize("words", [b"PREPEND A: b", b"REPLACE $1", b"IGNORE", b"REJECT a b"])
def test_what_may_be_a_field_or_writes_none_is_well(words: bytes) -> None:
    check_field(Action.parse(words))
