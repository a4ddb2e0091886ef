"""The public face for filters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bqfilter import api
from bqfilter.api import EditKind, HeaderEdit, Message, accept, defer, discard, found, quarantine, reject, tag
from bqfilter.config.actions import Action, Response
from bqfilter.smtp.replies import MAX_LINE_BYTES, Reply
from tests.doubles.messages import envelope

MAIL = Message.from_bytes(
    b"Received: one\nReceived: two\nSubject: =?utf-8?q?Gr=C3=B6=C3=9Fe?=\n =?utf-8?q?_1?=\n"
    b"To: x@y\n\nHello\nWorld\n"
)


def test_a_message_shows_its_header_decoded_and_as_it_came() -> None:
    assert MAIL.header("subject") == "Größe 1"
    assert MAIL.raw_headers("subject") == (b"=?utf-8?q?Gr=C3=B6=C3=9Fe?= =?utf-8?q?_1?=",)
    assert MAIL.headers("Received") == ("one", "two")
    assert MAIL.header("Missing") == ""
    assert MAIL.header("Missing", "none") == "none"
    assert MAIL.fields()[2:] == (("Subject", "Größe 1"), ("To", "x@y"))


def test_a_message_shows_its_bytes_as_often_as_asked() -> None:
    assert b"".join(MAIL.body()) == b"".join(MAIL.body()) == b"Hello\r\nWorld\r\n"
    assert MAIL.as_bytes() == b"".join(MAIL.content())
    assert MAIL.size == len(MAIL.as_bytes())


def test_a_message_is_parsed_by_the_standard_library_if_it_is_small_enough() -> None:
    assert MAIL.as_email().get_content() == "Hello\r\nWorld\r\n"
    with pytest.raises(ValueError, match="more than 10"):
        MAIL.as_email(limit=10)


def test_an_envelope_is_text_that_can_be_turned_back() -> None:
    seen = api.Envelope.of(
        envelope(
            b"Big\xff@Remote.Example",
            (b"a@one.example", b"b@Two.example"),
            addr=b"IPv6:2001:db8::1",
            name=b"mx.remote.example",
            helo=b"remote",
            source=b"remote",
        )
    )
    assert seen.sender_bytes == b"Big\xff@Remote.Example"
    assert seen.recipient_bytes == (b"a@one.example", b"b@Two.example")
    assert (seen.sender_domain, seen.recipient_domains) == ("remote.example", {"one.example", "two.example"})
    assert (seen.client_address, seen.client_name) == ("2001:db8::1", "mx.remote.example")
    assert (seen.client_helo, seen.client_source) == ("remote", "REMOTE")
    assert (seen.session_id, seen.listener) == ("5f00aa", "inet:127.0.0.1:10025")


def test_what_postfix_does_not_know_is_said_to_be_unknown() -> None:
    seen = api.Envelope.of(envelope(b"", (b"postmaster",), name=b"[UNAVAILABLE]"))
    assert (seen.sender, seen.sender_domain, seen.recipient_domains) == ("", "", {""})
    assert (seen.client_address, seen.client_name, seen.client_helo) == ("unknown", "unknown", "")


@pytest.mark.parametrize(
    ("verdict", "is_hit", "response", "reply"),
    [
        pytest.param(accept(), False, None, None, id="accept"),
        pytest.param(found("x"), True, None, None, id="found"),
        pytest.param(tag("x"), True, "tag", None, id="tag"),
        pytest.param(quarantine("x"), True, "quarantine", None, id="quarantine"),
        pytest.param(discard("x"), True, "discard", None, id="discard"),
        pytest.param(reject("Go away"), True, "reject", Reply(550, (b"5.7.1 Go away",)), id="reject"),
        pytest.param(
            reject("No", 554, "5.6.0"), True, "reject", Reply(554, (b"5.6.0 No",)), id="reject otherwise"
        ),
        pytest.param(defer("Later"), True, "defer", Reply(451, (b"4.7.1 Later",)), id="defer"),
        pytest.param(tag("x").keep_copy(), True, "tag+quarantine", None, id="tag with a copy"),
    ],
)
def test_a_verdict_says_what_is_to_be_done(
    verdict: api.Verdict, is_hit: bool, response: str | None, reply: Reply | None
) -> None:
    wanted = Response.parse(response) if response else None
    assert (verdict.is_hit, verdict.response, verdict.reply) == (is_hit, wanted, reply)


def test_a_verdict_is_built_step_by_step_and_never_changes() -> None:
    first = tag("x")
    second = (
        first.add_header("X-One", "1")
        .prepend_header("X-Two", "2")
        .replace_header("Subject", "new", -1)
        .remove_header("X-Three")
        .replace_body("text")
        .redirect("a@b.example", "c@d.example")
        .add_recipients("e@f.example")
        .add_recipients("g@h.example")
        .with_score(7)
    )
    assert first == tag("x")
    assert second.edits == (
        HeaderEdit(EditKind.ADD, b"X-One", b"X-One: 1\r\n"),
        HeaderEdit(EditKind.PREPEND, b"X-Two", b"X-Two: 2\r\n"),
        HeaderEdit(EditKind.REPLACE, b"Subject", b"Subject: new\r\n", -1),
        HeaderEdit(EditKind.REMOVE, b"X-Three"),
    )
    assert (second.body, second.score) == (b"text", 7.0)
    assert second.recipients == ("a@b.example", "c@d.example")
    assert second.copies == ("e@f.example", "g@h.example")


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda: reject("x", 421), id="421 hangs up"),
        pytest.param(lambda: reject("x", 521), id="521 hangs up"),
        pytest.param(lambda: defer("x", 421), id="421 as a deferral"),
        pytest.param(lambda: reject("x", 450), id="4xx as a rejection"),
        pytest.param(lambda: defer("x", 550), id="5xx as a deferral"),
        pytest.param(lambda: reject("x", 550, "4.7.1"), id="classes that differ"),
        pytest.param(lambda: reject("x", 550, "nonsense"), id="no enhanced code"),
        pytest.param(lambda: reject(" \r\n"), id="no words"),
        pytest.param(lambda: accept().add_header("Bad Name", "x"), id="blank in a name"),
        pytest.param(lambda: accept().add_header("X:\r\nY", "x"), id="line end in a name"),
        pytest.param(lambda: accept().remove_header(""), id="empty name"),
        pytest.param(lambda: accept().add_header("Größe", "x"), id="name beyond ASCII"),
        pytest.param(lambda: accept().remove_header("X", 0), id="occurrence 0"),
        pytest.param(lambda: accept().redirect(), id="to nobody"),
        pytest.param(lambda: accept().redirect("nobody"), id="no address"),
        pytest.param(lambda: accept().redirect("a@b.example>\r\nDATA"), id="smuggling"),
        pytest.param(lambda: accept().add_recipients("ä@b.example"), id="address beyond ASCII"),
        pytest.param(lambda: accept().replace_body(7), id="a number as a body"),
        pytest.param(lambda: accept().with_score(float("nan")), id="no number"),
        pytest.param(lambda: accept().keep_copy(), id="a copy beside nothing"),
        pytest.param(lambda: quarantine("x").keep_copy(), id="a copy beside the quarantine"),
    ],
)
def test_what_cannot_be_done_is_refused_when_it_is_built(build: object) -> None:
    with pytest.raises(ValueError):
        build()  # type: ignore[operator]


@given(st.text(max_size=600))
def test_no_text_breaks_a_reply(text: str) -> None:
    try:
        wire = reject(text).reply.wire  # type: ignore[union-attr]
    except ValueError:
        assert not text.split()
        return
    assert len(wire) <= MAX_LINE_BYTES
    assert wire.count(b"\r") == wire.count(b"\n") == 1
    assert wire.startswith(b"550 5.7.1 ")
    assert wire.isascii()


@given(st.text(max_size=300))
def test_no_value_ends_its_header_field(value: str) -> None:
    field = accept().add_header("X-Any", value).edits[0].field
    lines = field.split(b"\r\n")
    assert lines[-1] == b""
    assert all(line.startswith((b" ", b"\t")) for line in lines[1:-1])
    assert not any(mark in line for line in lines for mark in (b"\r", b"\n", b"\0"))


@given(st.text(max_size=600))
def test_a_detail_is_one_line(text: str) -> None:
    assert len(found(text).detail) <= 200
    assert found(text).detail == "" or found(text).detail.isprintable()


def test_every_action_that_a_filter_may_take_has_a_function() -> None:
    verdicts = (tag("x"), quarantine("x"), discard("x"), reject("x"), defer("x"))
    actions = {verdict.response.action for verdict in verdicts if verdict.response}
    assert set(Action) - actions == {Action.ACCEPT, Action.REDIRECT}


def test_the_public_names_are_all_there() -> None:
    assert [name for name in api.__all__ if not hasattr(api, name)] == []
