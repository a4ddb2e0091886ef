"""What may follow what: the conversation with a client, as one table.

A session is in exactly one `Phase`. Each command has a row that says in which phases it is in order, which
reply it earns elsewhere, and where a positive reply leads. After a refusal the phase stays as it is, with one
exception: the end of data closes the transaction whatever the answer was (RFC 5321 section 4.1.1.4).

    CONNECTED --EHLO/HELO--> READY --MAIL--> MAIL --RCPT--> RCPT --DATA--> BODY --end of data--> READY
                               ^______________EHLO, HELO, RSET______________|

MAIL is accepted without EHLO, as Postfix accepts it. NOOP, VRFY and HELP change nothing; QUIT leads to CLOSED
from anywhere but BODY, where there are no commands: a line "QUIT" there is content.

The diagram in docs/protocol.md is drawn from TABLE, and a test keeps the two equal.
"""

from dataclasses import dataclass
from enum import StrEnum

from bqfilter.smtp import commands, replies
from bqfilter.smtp.commands import Command
from bqfilter.smtp.replies import Reply


class Phase(StrEnum):
    """Where a session stands between two replies."""

    CONNECTED = "connected"  # greeted, not introduced
    READY = "ready"  # no transaction open
    MAIL = "mail"  # a sender, no recipient yet
    RCPT = "rcpt"  # at least one recipient
    BODY = "body"  # 354 said, content on its way
    CLOSED = "closed"  # 221 said


@dataclass(frozen=True, slots=True)
class Row:
    """One command: where it is in order, the reply elsewhere, and the phase after a positive reply.

    `then` None leaves the phase as it is; `drops` ends the open transaction, if there is one.
    """

    allowed: tuple[Phase, ...]
    otherwise: Reply
    then: Phase | None = None
    drops: bool = False


_COMMANDS = (Phase.CONNECTED, Phase.READY, Phase.MAIL, Phase.RCPT)  # wherever commands are read
_OUTSIDE = (Phase.CONNECTED, Phase.READY)  # no transaction
_INSIDE = (Phase.MAIL, Phase.RCPT)

TABLE: dict[type[Command], Row] = {
    commands.Ehlo: Row(_COMMANDS, replies.UNKNOWN_COMMAND, then=Phase.READY, drops=True),
    commands.Helo: Row(_COMMANDS, replies.UNKNOWN_COMMAND, then=Phase.READY, drops=True),
    commands.XForward: Row(_OUTSIDE, replies.TRANSACTION_OPEN),
    commands.Mail: Row(_OUTSIDE, replies.NESTED_MAIL, then=Phase.MAIL),
    commands.Rcpt: Row(_INSIDE, replies.NEED_MAIL, then=Phase.RCPT),
    commands.Data: Row((Phase.RCPT,), replies.NEED_RCPT, then=Phase.BODY),
    commands.EndOfData: Row((Phase.BODY,), replies.NEED_RCPT, then=Phase.READY),
    commands.Rset: Row(_COMMANDS, replies.UNKNOWN_COMMAND, then=Phase.READY, drops=True),
    commands.Noop: Row(_COMMANDS, replies.UNKNOWN_COMMAND),
    commands.Vrfy: Row(_COMMANDS, replies.UNKNOWN_COMMAND),
    commands.Help: Row(_COMMANDS, replies.UNKNOWN_COMMAND),
    commands.Quit: Row(_COMMANDS, replies.UNKNOWN_COMMAND, then=Phase.CLOSED, drops=True),
    commands.Malformed: Row(_COMMANDS, replies.UNKNOWN_COMMAND),
}


def check(phase: Phase, command: Command) -> Reply | None:
    """None where the command is in order, else the reply that it earns."""
    row = TABLE[type(command)]
    if phase in row.allowed:
        return None
    if phase is Phase.MAIL and type(command) is commands.Data:
        return replies.NO_VALID_RECIPIENTS  # there were some, and all were refused: Postfix's words
    return row.otherwise


def advance(phase: Phase, command: Command, reply: Reply) -> Phase:
    """The phase after `reply` was given to `command`."""
    row = TABLE[type(command)]
    if row.then is None or phase not in row.allowed:
        return phase
    if reply.is_positive or type(command) is commands.EndOfData:
        return row.then
    return phase
