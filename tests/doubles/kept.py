"""Records as a transaction would make them, and kept messages."""

from typing import Any

from bqfilter.mail.envelope import Client
from bqfilter.quarantine import Kept, Quarantine, Record, ReportSummary, State
from bqfilter.smtp.commands import Mail, Rcpt, parse_command

CONTENT = b"Subject: Invoice\r\nMessage-ID: <1@remote.example>\r\n\r\n.\r\n..dots\r\nHello.\r\n"
FACTS = {b"NAME": b"remote.example", b"ADDR": b"192.0.2.7", b"HELO": b"mx", b"SOURCE": b"REMOTE"}


def mail(line: bytes = b"MAIL FROM:<a@remote.example> SIZE=70 BODY=8BITMIME") -> Mail:
    command = parse_command(line)
    assert isinstance(command, Mail)
    return command


def rcpt(address: bytes, parameters: bytes = b"") -> Rcpt:
    command = parse_command(b"RCPT TO:<%b>%b" % (address, parameters))
    assert isinstance(command, Rcpt)
    return command


def record(*recipients: bytes, **others: Any) -> Record:
    """The record of a message for these, one recipient if none is given."""
    usual = {
        "sender": mail(),
        "client": Client(FACTS),
        "session_id": "5F0A1",
        "action": "quarantine",
        "policy": "inbound",
        "reason": "clamd: Eicar-Signature",
        "reports": (
            ReportSummary("clamd", "hit", "Eicar-Signature"),
            ReportSummary("spamd", "clean", "", 0.3),
        ),
        "message_id": "<1@remote.example>",
        "subject": "Invoice",
    }
    return Record(**{**usual, "recipients": tuple(map(rcpt, recipients or (b"b@example.org",))), **others})


def keep(store: Quarantine, *recipients: bytes, state: State = State.HELD, **others: Any) -> Kept:
    """One message more."""
    return store.keep(record(*recipients, **others), [CONTENT], state)
