"""What is played, and what must come of it: one `Scene` a row.

Add a row to `SCENES` to show more. The remote client in all of them is `before_filter.REMOTE_CLIENT`.
"""

from dataclasses import dataclass

from bqfilter.demo.after_filter import NO_SUCH_USER
from bqfilter.demo.before_filter import Message

_ACCEPTED = "250 2.0.0 Ok: queued as "


@dataclass(frozen=True, slots=True)
class Scene:
    """One message on its way.

    `told` is how the reply to the client must begin, "" where there is none. `logged` are words that
    bqfilterd must have logged. `arrivals` is the number of messages that must have come to the Maildir, and
    `is_unchanged` whether the first of them must have the content that was sent.
    """

    title: str
    message: Message
    told: str
    logged: str
    arrivals: int
    is_unchanged: bool = True
    gives_up: bool = False  # in the middle of the content
    passes_filter: bool = True  # else it goes straight to the after-filter server
    after_filter_is_up: bool = True


def _message(subject: str, body: bytes, recipient: str = "sysadmin@demo.example") -> Message:
    head = (
        "Received: from mail.remote.example (mail.remote.example [192.0.2.7])\r\n"
        "\tby before.demo.example (Postfix) with ESMTP; Thu, 1 Oct 2026 12:00:00 +0000 (UTC)\r\n"
        "Date: Thu, 1 Oct 2026 12:00:00 +0000\r\n"
        "From: sender@remote.example\r\n"
        f"To: {recipient}\r\n"
        f"Message-ID: <{subject.lower().replace(' ', '-')}@remote.example>\r\n"
        f"Subject: {subject}\r\n"
        "\r\n"
    )
    rcpt = f"RCPT TO:<{recipient}>".encode()
    return Message(b"MAIL FROM:<sender@remote.example>", rcpt, head.encode() + body)


_CLEAN = _message(
    "A clean message", b"Hello,\r\n..a line that begins with a dot stays what it is.\r\nBye\r\n"
)

_UNKNOWN = _message("To nobody", b"Hello?\r\n", recipient="unknown@demo.example")

_EIGHT_BIT = Message(
    "MAIL FROM:<jürgen@bücher.example> SMTPUTF8 BODY=8BITMIME".encode(),
    "RCPT TO:<δοκιμή@demo.example>".encode(),
    "From: Jürgen <jürgen@bücher.example>\r\n"
    "To: δοκιμή@demo.example\r\n"
    "Message-ID: <eight-bits@bücher.example>\r\n"
    "Subject: Grüße\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n"
    "\r\n"
    "Schöne Grüße, καλημέρα, 日本語\r\n".encode(),
)

# The line ".<CR><CR><LF>" is the way in: Postfix hands it through, and a server that drops all CRs in front
# of an LF takes it for the end of the message. What follows then looks like a second message.
_SMUGGLING = _message(
    "Two in one",
    b"The first message ends here, some say.\r\n"
    b".\r\r\n"
    b"MAIL FROM:<ceo@demo.example>\r\n"
    b"RCPT TO:<accounting@demo.example>\r\n"
    b"DATA\r\n"
    b"From: ceo@demo.example\r\n"
    b"Subject: Pay this at once\r\n"
    b"\r\n"
    b"No filter has seen this one.\r\n",
)

_CUT_SHORT = _message("Cut short", b"This line will not be sent to its end.\r\n" * 4)

SCENES = (
    Scene("A clean message", _CLEAN, _ACCEPTED, "message result=accepted", 1),
    Scene(
        "A recipient that the after-filter server does not know: its own words reach the client",
        _UNKNOWN,
        str(NO_SUCH_USER),
        "reject command=RCPT",
        0,
    ),
    Scene(
        "Eight-bit content and UTF-8 addresses",
        _EIGHT_BIT,
        _ACCEPTED,
        "message result=accepted",
        1,
    ),
    Scene(
        "A smuggling attempt, straight to the after-filter server: it takes one message for two",
        _SMUGGLING,
        _ACCEPTED,
        "",
        2,
        is_unchanged=False,
        passes_filter=False,
    ),
    Scene(
        "The same bytes through bqfilterd: one message stays one message",
        _SMUGGLING,
        _ACCEPTED,
        "message result=accepted",
        1,
        is_unchanged=False,
    ),
    Scene(
        "A client that gives up in the middle of its message",
        _CUT_SHORT,
        "",
        "lost connection after DATA",
        0,
        gives_up=True,
    ),
    Scene(
        "A message while the after-filter server is down: try again later",
        _message("Sent too early", b"Anybody there?\r\n"),
        "451 4.3.0 ",
        "after-filter server failed",
        0,
        after_filter_is_up=False,
    ),
    Scene(
        "The same message when the after-filter server is back",
        _message("Sent too early", b"Anybody there?\r\n"),
        _ACCEPTED,
        "message result=accepted",
        1,
    ),
)
