"""What may follow what: every cell of the table, and the replies elsewhere."""

import pytest

from bqfilter.smtp import commands, phases, replies
from bqfilter.smtp.commands import Command
from bqfilter.smtp.phases import Phase
from bqfilter.smtp.replies import OK, START_MAIL_INPUT, UPSTREAM_UNAVAILABLE, Reply

EHLO = commands.Ehlo(b"x")
MAIL = commands.Mail(b"MAIL FROM:<a>", b"a", b"")
RCPT = commands.Rcpt(b"RCPT TO:<b>", b"b", b"")
ALL: tuple[Command, ...] = (
    EHLO, commands.Helo(b"x"), commands.XForward(()), MAIL, RCPT, commands.Data(), commands.EndOfData(),
    commands.Rset(), commands.Noop(), commands.Vrfy(), commands.Help(), commands.Quit(),
    commands.Malformed(OK),
)  # fmt: skip


def test_every_command_has_a_row() -> None:
    assert {type(command) for command in ALL} == set(phases.TABLE)


@pytest.mark.parametrize(
    ("phase", "allowed"),
    [
        (Phase.CONNECTED, "EHLO HELO XFORWARD MAIL RSET NOOP VRFY HELP QUIT UNKNOWN"),
        (Phase.READY, "EHLO HELO XFORWARD MAIL RSET NOOP VRFY HELP QUIT UNKNOWN"),
        (Phase.MAIL, "EHLO HELO RCPT RSET NOOP VRFY HELP QUIT UNKNOWN"),
        (Phase.RCPT, "EHLO HELO RCPT DATA RSET NOOP VRFY HELP QUIT UNKNOWN"),
        (Phase.BODY, "END-OF-MESSAGE"),
        (Phase.CLOSED, ""),
    ],
)
def test_the_commands_in_order_in_a_phase(phase: Phase, allowed: str) -> None:
    assert [c.verb for c in ALL if phases.check(phase, c) is None] == allowed.split()


@pytest.mark.parametrize(
    ("phase", "command", "reply"),
    [
        pytest.param(Phase.READY, RCPT, replies.NEED_MAIL, id="RCPT before MAIL"),
        pytest.param(Phase.READY, commands.Data(), replies.NEED_RCPT, id="DATA before MAIL"),
        pytest.param(Phase.MAIL, commands.Data(), replies.NO_VALID_RECIPIENTS, id="DATA, no recipient left"),
        pytest.param(Phase.MAIL, MAIL, replies.NESTED_MAIL, id="MAIL twice"),
        pytest.param(Phase.RCPT, commands.XForward(()), replies.TRANSACTION_OPEN, id="XFORWARD within"),
    ],
)
def test_a_command_out_of_sequence_earns_its_reply(phase: Phase, command: Command, reply: Reply) -> None:
    assert phases.check(phase, command) == reply


@pytest.mark.parametrize(
    ("before", "command", "reply", "after"),
    [
        pytest.param(Phase.CONNECTED, EHLO, OK, Phase.READY, id="EHLO"),
        pytest.param(Phase.RCPT, EHLO, OK, Phase.READY, id="EHLO drops a transaction"),
        pytest.param(Phase.CONNECTED, MAIL, OK, Phase.MAIL, id="MAIL without EHLO"),
        pytest.param(Phase.READY, MAIL, UPSTREAM_UNAVAILABLE, Phase.READY, id="MAIL refused"),
        pytest.param(Phase.MAIL, RCPT, OK, Phase.RCPT, id="RCPT"),
        pytest.param(Phase.MAIL, RCPT, replies.NOT_ALLOWED, Phase.MAIL, id="RCPT refused"),
        pytest.param(Phase.RCPT, RCPT, replies.NOT_ALLOWED, Phase.RCPT, id="another RCPT refused"),
        pytest.param(Phase.RCPT, commands.Data(), START_MAIL_INPUT, Phase.BODY, id="DATA"),
        pytest.param(Phase.RCPT, commands.Data(), UPSTREAM_UNAVAILABLE, Phase.RCPT, id="DATA refused"),
        pytest.param(Phase.BODY, commands.EndOfData(), OK, Phase.READY, id="accepted"),
        pytest.param(Phase.BODY, commands.EndOfData(), UPSTREAM_UNAVAILABLE, Phase.READY, id="refused"),
        pytest.param(Phase.RCPT, commands.Rset(), OK, Phase.READY, id="RSET"),
        pytest.param(Phase.RCPT, commands.Noop(), OK, Phase.RCPT, id="NOOP"),
        pytest.param(Phase.MAIL, commands.Malformed(OK), replies.UNKNOWN_COMMAND, Phase.MAIL, id="unknown"),
        pytest.param(Phase.RCPT, MAIL, replies.NESTED_MAIL, Phase.RCPT, id="out of sequence"),
        pytest.param(Phase.RCPT, commands.Quit(), replies.BYE, Phase.CLOSED, id="QUIT"),
    ],
)
def test_a_reply_leads_to_the_next_phase(before: Phase, command: Command, reply: Reply, after: Phase) -> None:
    assert phases.advance(before, command, reply) is after
