"""What is played, and what must come of it: one `Scene` a row.

Add a row to `SCENES` to show more. The remote client in all of them is `before_filter.REMOTE_CLIENT`, and
what bqfilterd does about content stands in `sample`.
"""

import base64
import io
import zipfile
from dataclasses import dataclass

from bqfilter.demo.after_filter import NO_SUCH_USER
from bqfilter.demo.before_filter import Message

_ACCEPTED = "250 2.0.0 Ok: queued as "
_SYSADMIN = "sysadmin@demo.example"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message in the Maildir: for whom, and the content as it travelled there, without the dot."""

    to: tuple[str, ...]
    content: bytes


@dataclass(frozen=True, slots=True)
class Scene:
    """One message on its way.

    `told` is how the reply to the client must begin, "" where there is none. `logged` are words that
    bqfilterd must have logged. `arrivals` is what must have come to the Maildir, in this order, and no more.
    """

    title: str
    message: Message
    told: str
    logged: tuple[str, ...]
    arrivals: tuple[Arrival, ...]
    gives_up: bool = False  # in the middle of the content
    passes_filter: bool = True  # else it goes straight to the after-filter server
    after_filter_is_up: bool = True


def _message(
    subject: str, body: bytes, *recipients: str, fields: str = "Content-Type: text/plain\r\n"
) -> Message:
    recipients = recipients or (_SYSADMIN,)
    head = (
        "Received: from mail.remote.example (mail.remote.example [192.0.2.7])\r\n"
        "\tby before.demo.example (Postfix) with ESMTP; Thu, 1 Oct 2026 12:00:00 +0000 (UTC)\r\n"
        "Date: Thu, 1 Oct 2026 12:00:00 +0000\r\n"
        "From: sender@remote.example\r\n"
        f"To: {', '.join(recipients)}\r\n"
        f"Message-ID: <{subject.lower().replace(',', '').replace(' ', '-')}@remote.example>\r\n"
        f"Subject: {subject}\r\n"
        "MIME-Version: 1.0\r\n"
        f"{fields}"
        "\r\n"
    )
    rcpts = tuple(f"RCPT TO:<{recipient}>".encode() for recipient in recipients)
    return Message(b"MAIL FROM:<sender@remote.example>", rcpts, head.encode() + body)


def _with_attachment(subject: str, name: str, type_: str, data: bytes) -> Message:
    part = (
        "--part\r\n"
        "Content-Type: text/plain\r\n"
        "\r\n"
        "Please find attached what you asked for.\r\n"
        "--part\r\n"
        f'Content-Type: {type_}; name="{name}"\r\n'
        f'Content-Disposition: attachment; filename="{name}"\r\n'
        "Content-Transfer-Encoding: base64\r\n"
        "\r\n"
    )
    body = part.encode() + base64.encodebytes(data).replace(b"\n", b"\r\n") + b"--part--\r\n"
    return _message(subject, body, fields="Content-Type: multipart/mixed; boundary=part\r\n")


def _zip_with(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"harmless, but for its name")
    return file.getvalue()


_CLEAN = _message(
    "A clean message", b"Hello,\r\n..a line that begins with a dot stays what it is.\r\nBye\r\n"
)

_UNKNOWN = _message("To nobody", b"Hello?\r\n", "unknown@demo.example")

_EIGHT_BIT = Message(
    "MAIL FROM:<jürgen@bücher.example> SMTPUTF8 BODY=8BITMIME".encode(),
    ("RCPT TO:<δοκιμή@demo.example>".encode(),),
    "From: Jürgen <jürgen@bücher.example>\r\n"
    "To: δοκιμή@demo.example\r\n"
    "Message-ID: <eight-bits@bücher.example>\r\n"
    "Subject: Grüße\r\n"
    "Content-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n"
    "\r\n"
    "Schöne Grüße, καλημέρα, 日本語\r\n".encode(),
)

# In two halves, so that a virus scanner does not take this file for the one that it is tried out with.
_EICAR_TEXT = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD" + b"-ANTIVIRUS-TEST-FILE!$H+H*"
_EICAR = _with_attachment("What you asked for", "eicar.txt", "text/plain", _EICAR_TEXT)

_PROGRAM = _with_attachment("Your invoice", "invoice.zip", "application/zip", _zip_with("invoice.pdf.exe"))

_PRIZE_BODY = b"Send us your password, and we will send you a million.\r\n"
_PRIZE = _message("You have WON", _PRIZE_BODY)
_PRIZE_COMPLAINT = _message("Once more, you have won", _PRIZE_BODY, _SYSADMIN, "abuse@demo.example")

_NEWSLETTER = _message("Our newsletter", b"News, news, news.\r\n")

_FORMER = _message("The offer", b"As we said on the phone.\r\n", "former@demo.example")

# The field that a message with a finding gets.
_REDIRECTED = (
    b"X-Bqfilter-Report: filter.demo.example;\r\n"
    b"\taction=redirect;\r\n"
    b"\trules=hit (recipient_checks.regexp:2 REDIRECT successor@demo.example);\r\n"
    b"\tattachments=clean\r\n"
)

_CONTRACT = _message("The contract", b"Signed and sealed.\r\n", "contracts@demo.example")

# The line ".<CR><CR><LF>" is the way in: Postfix hands it through, and a server that drops all CRs in front
# of an LF takes it for the end of the message. What follows then looks like a second message.
_FIRST_HALF = b"The first message ends here, some say.\r\n"
_SECOND_CONTENT = (
    b"From: ceo@demo.example\r\nSubject: Pay this at once\r\n\r\nNo filter has seen this one.\r\n"
)
_SECOND = b"MAIL FROM:<ceo@demo.example>\r\nRCPT TO:<accounting@demo.example>\r\nDATA\r\n" + _SECOND_CONTENT
_SMUGGLING = _message("Two in one", _FIRST_HALF + b".\r\r\n" + _SECOND)

_CUT_SHORT = _message("Cut short", b"This line will not be sent to its end.\r\n" * 4)

_EARLY = _message("Sent too early", b"Anybody there?\r\n")


def _as_sent(message: Message, *recipients: str) -> Arrival:
    return Arrival(recipients or (_SYSADMIN,), message.content)


SCENES = (
    Scene("A clean message", _CLEAN, _ACCEPTED, ("message result=accepted",), (_as_sent(_CLEAN),)),
    Scene(
        "A recipient that the after-filter server does not know: its own words reach the client",
        _UNKNOWN,
        str(NO_SUCH_USER),
        ("reject command=RCPT",),
        (),
    ),
    Scene(
        "Eight-bit content and UTF-8 addresses",
        _EIGHT_BIT,
        _ACCEPTED,
        ("message result=accepted",),
        (_as_sent(_EIGHT_BIT, "δοκιμή@demo.example"),),
    ),
    Scene(
        "The EICAR test file, in base64: a rule refuses it, and the remote client is told",
        _EICAR,
        "550 5.7.1 This is the EICAR test file",
        ("message result=rejected", "verdict=reject", "body_checks.regexp:2 REJECT"),
        (),
    ),
    Scene(
        "A program, in a zip archive: the attachment is refused by its name",
        _PROGRAM,
        "554 5.7.1 Attachment refused: invoice.pdf.exe in invoice.zip",
        ("message result=rejected", "verdict=reject", "attachments: invoice.pdf.exe in invoice.zip"),
        (),
    ),
    Scene(
        "Spam: a rule puts it into the quarantine, and the client does not notice",
        _PRIZE,
        "250 2.0.0 Ok",
        ("message result=quarantined", "verdict=quarantine", "header_checks.regexp:2", "kept_as="),
        (),
    ),
    Scene(
        "Spam for two: one of them is abuse@, with a policy of its own, and gets it",
        _PRIZE_COMPLAINT,
        _ACCEPTED,
        ("message result=accepted", "policy=default,abuse-desk", "verdict=quarantine,accept", "kept_as="),
        (_as_sent(_PRIZE_COMPLAINT, "abuse@demo.example"),),
    ),
    Scene(
        "A newsletter: a rule adds a field, and every other byte stays as it is",
        _NEWSLETTER,
        _ACCEPTED,
        ("message result=accepted", "verdict=accept", "header_checks.regexp:5 PREPEND"),
        (Arrival((_SYSADMIN,), _NEWSLETTER.content.replace(b"Subject:", b"X-Demo-Class: bulk\r\nSubject:")),),
    ),
    Scene(
        "A recipient who has left: a rule redirects the message to the successor",
        _FORMER,
        _ACCEPTED,
        ("message result=accepted", "recipient_checks.regexp:2 REDIRECT successor@demo.example"),
        (Arrival(("successor@demo.example",), _REDIRECTED + _FORMER.content),),
    ),
    Scene(
        "A recipient whose policy sends a copy to the archive",
        _CONTRACT,
        _ACCEPTED,
        ("message result=accepted", "policy=contracts", "verdict=accept"),
        (_as_sent(_CONTRACT, "contracts@demo.example", "archive@demo.example"),),
    ),
    Scene(
        "A smuggling attempt, straight to the after-filter server: it takes one message for two",
        _SMUGGLING,
        _ACCEPTED,
        (),
        (
            Arrival((_SYSADMIN,), _message("Two in one", _FIRST_HALF).content),
            Arrival(("accounting@demo.example",), _SECOND_CONTENT),
        ),
        passes_filter=False,
    ),
    Scene(
        "The same bytes through bqfilterd: one message stays one message",
        _SMUGGLING,
        _ACCEPTED,
        ("message result=accepted",),
        (Arrival((_SYSADMIN,), _message("Two in one", _FIRST_HALF + b". \r\n" + _SECOND).content),),
    ),
    Scene(
        "A client that gives up in the middle of its message",
        _CUT_SHORT,
        "",
        ("lost connection after DATA",),
        (),
        gives_up=True,
    ),
    Scene(
        "A message while the after-filter server is down: try again later",
        _EARLY,
        "451 4.3.0 ",
        ("after-filter server failed",),
        (),
        after_filter_is_up=False,
    ),
    Scene(
        "The same message when the after-filter server is back",
        _EARLY,
        _ACCEPTED,
        ("message result=accepted",),
        (_as_sent(_EARLY),),
    ),
)
