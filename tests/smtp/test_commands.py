"""Command lines become values, and no line whatever raises."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bqfilter.smtp import commands, replies
from bqfilter.smtp.commands import (
    Data,
    Ehlo,
    Helo,
    Help,
    Mail,
    Malformed,
    Noop,
    Quit,
    Rcpt,
    Rset,
    Vrfy,
    XForward,
    honest_mail,
    over_long,
    parse_command,
    rcpt_line,
)
from bqfilter.smtp.phases import TABLE

verbs = st.sampled_from([b"EHLO", b"mail from:", b"RCPT TO:<", b"XFORWARD", b"DATA", b"quit", b"", b"\t"])
blanks = st.sampled_from([b"", b" ", b"\t "])


@pytest.mark.parametrize(
    ("line", "command"),
    [
        pytest.param(b"EHLO mx.example", Ehlo(b"mx.example"), id="EHLO"),
        pytest.param(b"ehlo [192.0.2.7] ", Ehlo(b"[192.0.2.7]"), id="EHLO, odd case and blanks"),
        pytest.param(b"HELO mx.example", Helo(b"mx.example"), id="HELO"),
        pytest.param(b"DATA", Data(), id="DATA"),
        pytest.param(b"data ", Data(), id="DATA with a blank, as Postfix forwards it"),
        pytest.param(b"RSET", Rset(), id="RSET"),
        pytest.param(b"noop anything", Noop(), id="NOOP"),
        pytest.param(b"VRFY x", Vrfy(), id="VRFY"),
        pytest.param(b"HELP", Help(), id="HELP"),
        pytest.param(b" QUIT", Quit(), id="QUIT"),
        pytest.param(
            b"MAIL FROM:<a@b.example> SIZE=1",
            Mail(b"MAIL FROM:<a@b.example> SIZE=1", b"a@b.example", b"SIZE=1"),
            id="MAIL",
        ),
        pytest.param(b"mail  from : <>", Mail(b"mail  from : <>", b"", b""), id="MAIL, spaced out"),
        pytest.param(b"\tRCPT TO:x@y ", Rcpt(b"\tRCPT TO:x@y ", b"x@y", b""), id="RCPT without brackets"),
    ],
)
def test_a_line_becomes_a_command(line: bytes, command: commands.Command) -> None:
    assert parse_command(line) == command


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        pytest.param(b"", replies.UNKNOWN_COMMAND, id="an empty line"),
        pytest.param(b"STARTTLS", replies.UNKNOWN_COMMAND, id="STARTTLS"),
        pytest.param(b"BDAT 10 LAST", replies.UNKNOWN_COMMAND, id="BDAT"),
        pytest.param(b"MAILFROM:<a>", replies.UNKNOWN_COMMAND, id="no blank behind the verb"),
        pytest.param(b"EHLO", replies.HELO_SYNTAX, id="EHLO without a name"),
        pytest.param(b"HELO  ", replies.HELO_SYNTAX, id="HELO without a name"),
        pytest.param(b"MAIL", replies.MAIL_SYNTAX, id="MAIL alone"),
        pytest.param(b"MAIL <a@b>", replies.MAIL_SYNTAX, id="MAIL without FROM"),
        pytest.param(b"RCPT FROM:<a@b>", replies.RCPT_SYNTAX, id="RCPT FROM"),
        pytest.param(b"DATA x", replies.DATA_SYNTAX, id="DATA with an argument"),
        pytest.param(b"NOOP\r", replies.STRAY_CONTROL, id="a stray CR"),
        pytest.param(b"NOOP \0", replies.STRAY_CONTROL, id="a NUL"),
    ],
)
def test_a_wrong_line_becomes_the_reply_that_it_earns(line: bytes, reply: replies.Reply) -> None:
    assert parse_command(line) == Malformed(reply)


@pytest.mark.parametrize(
    ("line", "attributes"),
    [
        pytest.param(b"XFORWARD NAME=a ADDR=b", ((b"NAME", b"a"), (b"ADDR", b"b")), id="two"),
        pytest.param(b"xforward name=A", ((b"NAME", b"A"),), id="the name in upper case, the value as it is"),
        pytest.param(b"XFORWARD HELO=a=b", ((b"HELO", b"a=b"),), id="split at the first equals"),
        pytest.param(b"XFORWARD DOMAIN=x FOO=y PORT=1", ((b"PORT", b"1"),), id="unknown names left out"),
        pytest.param(b"XFORWARD NAME", ((b"NAME", b""),), id="no value"),
        pytest.param(b"XFORWARD", (), id="nothing"),
        pytest.param(b"XFORWARD NAME=a NAME=b", ((b"NAME", b"a"), (b"NAME", b"b")), id="twice"),
    ],
)
def test_xforward_is_never_malformed(line: bytes, attributes: tuple[tuple[bytes, bytes], ...]) -> None:
    assert parse_command(line) == XForward(attributes)


def test_an_over_long_line_is_refused_unless_it_is_xforward() -> None:
    assert over_long(b"MAIL FROM:<aaaa") == Malformed(replies.LINE_TOO_LONG)
    assert over_long(b" xforward HELO=aaaa") == XForward(())


@pytest.mark.parametrize(
    ("line", "is_8bit", "honest"),
    [
        pytest.param(b"MAIL FROM:<a@x>", False, b"MAIL FROM:<a@x>", id="nothing declared"),
        pytest.param(b" mail from: <a@x>  SIZE=1 ", False, b" mail from: <a@x> SIZE=99", id="a size"),
        pytest.param(
            b"MAIL FROM:<a@x> size=1 RET=HDRS", False, b"MAIL FROM:<a@x> SIZE=99 RET=HDRS", id="case"
        ),
        pytest.param(b"MAIL FROM:<>", True, b"MAIL FROM:<> BODY=8BITMIME", id="eight bits now"),
        pytest.param(
            b"MAIL FROM:<a@x> BODY=7BIT SMTPUTF8",
            True,
            b"MAIL FROM:<a@x> SMTPUTF8 BODY=8BITMIME",
            id="no more 7BIT",
        ),
        pytest.param(
            b"MAIL FROM:<a@x> BODY=8BITMIME",
            False,
            b"MAIL FROM:<a@x> BODY=8BITMIME",
            id="seven bits as eight",
        ),
        pytest.param(
            b'MAIL FROM:<"SIZE=1 "@x> SIZE=1', False, b'MAIL FROM:<"SIZE=1 "@x> SIZE=99', id="in an address"
        ),
        pytest.param(
            b"MAIL FROM:<a@x> XSIZE=1 SIZE=x", False, b"MAIL FROM:<a@x> XSIZE=1 SIZE=x", id="no size"
        ),
    ],
)
def test_a_mail_line_is_made_true_of_other_content(line: bytes, is_8bit: bool, honest: bytes) -> None:
    mail = parse_command(line)

    assert isinstance(mail, Mail)
    assert honest_mail(mail, 99, is_8bit=is_8bit) == honest


def test_a_recipient_of_our_own() -> None:
    assert rcpt_line(b"a@x") == b"RCPT TO:<a@x>"
    assert parse_command(rcpt_line(b"a@x", b"NOTIFY=NEVER")) == Rcpt(
        b"RCPT TO:<a@x> NOTIFY=NEVER", b"a@x", b"NOTIFY=NEVER"
    )


@given(verbs, st.binary(max_size=200))
def test_no_line_whatever_raises(verb: bytes, rest: bytes) -> None:
    line = verb + rest.replace(b"\n", b"")

    command = parse_command(line)

    assert type(command) in TABLE
    over_long(line)


@given(blanks, st.sampled_from([b"MAIL FROM:", b"rcpt to:"]), st.binary(max_size=200), blanks)
@example(b"\t", b"MAIL FROM:", b"<a>", b" ")
@example(b"\t", b"rcpt to:", b"<a>", b" ")
def test_a_forwarded_line_is_the_line_that_came(lead: bytes, verb: bytes, rest: bytes, tail: bytes) -> None:
    line = lead + verb + rest.replace(b"\n", b"") + tail
    command = parse_command(line)

    if isinstance(command, Mail | Rcpt):
        assert command.line == line
        assert not {0x00, 0x0A, 0x0D} & set(command.line)
