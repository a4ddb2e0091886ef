"""Messages and envelopes as scanners get them."""

from bqfilter.mail.envelope import Client, Envelope
from bqfilter.mail.message import Message
from bqfilter.net.address import Endpoint
from bqfilter.smtp.commands import Mail, Rcpt

# In two halves, so that no scanner takes this file for spam, or for an infected one.
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*" + b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"


def message(text: str | bytes) -> Message:
    """A message, written with any line ends."""
    content = text.encode() if isinstance(text, str) else text
    return Message.in_memory(content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


def envelope(
    sender: bytes = b"sender@remote.example",
    recipients: tuple[bytes, ...] = (b"one@here.example", b"two@here.example"),
    **attributes: bytes,
) -> Envelope:
    """An envelope; `attributes` are those of XFORWARD."""
    return Envelope(
        Client({name.upper().encode(): value for name, value in attributes.items()}),
        Mail(b"MAIL FROM:<" + sender + b">", sender, b""),
        [Rcpt(b"RCPT TO:<" + address + b">", address, b"") for address in recipients],
        session_id="5f00aa",
        listener=Endpoint("inet", "127.0.0.1", 10025),
    )
