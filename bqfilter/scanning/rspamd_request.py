"""What Rspamd is told about a message beside its content: request headers, from envelope and client facts.

Each value is checked against what Rspamd reads it as. What does not fit is left out: a fact less, and never
one that a remote client could forge by what it writes into another. Recipients go up to a limit in bytes, as
Rspamd drops a request whose headers exceed 80 KiB; a message for thousands must not go unscanned for that.
"""

import ipaddress
import re
from collections.abc import Iterator

from bqfilter.mail.envelope import Client, Envelope
from bqfilter.net.address import written

MAX_RECIPIENT_BYTES = 60 * 1024  # header lines of recipients; with all others well below the 80 KiB

# What Rspamd 3.4 can read as an address (src/ragel/smtp_address.rl): for one that it cannot it has a symbol
# of ten points, BROKEN_HEADERS, which such addresses do not deserve; eight-bit ones are among them. The
# length has room for more than RFC 5321 section 4.5.3.1.3 allows, for Postfix takes more.
_ADDRESS = re.compile(
    rb"""(?=.{1,512}\Z)
         (?: [\w!#$%&'*+/=?^`{|}~-]++ (?: \. [\w!#$%&'*+/=?^`{|}~-]++ )*+
           | "(?: [ !#-\[\]-~] | \\[ -~] )*+" )
         @
         (?: [A-Za-z0-9] [\w-]*+ (?<![_-]) (?: \. [A-Za-z0-9] [\w-]*+ (?<![_-]) )*+ \.?+
           | \[ (?: [0-9]{1,3} (?: \.[0-9]{1,3} ){3} | IPv6: [0-9A-Fa-f:.]{2,45} ) \] )""",
    re.VERBOSE,
)
_HOST = re.compile(rb"[A-Za-z0-9._-]{1,255}")
_HELO = re.compile(rb"[!-~\x80-\xff]{1,255}")
_WORD = re.compile(rb"[!-~]{1,255}")

RequestHeaders = tuple[tuple[bytes, bytes], ...]


def request_headers(envelope: Envelope, hostname: str, password: str) -> RequestHeaders:
    """The headers for one message; `hostname` is ours, which Rspamd writes into Authentication-Results."""
    candidates = [
        (b"Password", _WORD, password.encode("ascii", "replace")),
        (b"Queue-Id", _WORD, envelope.session_id.encode("ascii", "replace")),
        (b"MTA-Name", _HOST, hostname.encode("ascii", "replace")),
        (b"Hostname", _HOST, envelope.client.fact(b"NAME") or b""),
        (b"Helo", _HELO, envelope.client.helo),
    ]
    checked = [(name, value) for name, pattern, value in candidates if pattern.fullmatch(value)]
    return (*checked, *_ip(envelope.client), *_sender(envelope), *_recipients(envelope))


def _ip(client: Client) -> Iterator[tuple[bytes, bytes]]:
    text = client.address.decode("ascii", "replace")
    try:
        if "%" not in text:  # a scope may hold anything
            yield b"IP", written(ipaddress.ip_address(text)).encode("ascii")
    except ValueError:
        return


def _sender(envelope: Envelope) -> Iterator[tuple[bytes, bytes]]:
    address = envelope.sender.address
    if not address or _ADDRESS.fullmatch(address):
        yield b"From", b"<%b>" % address


def _recipients(envelope: Envelope) -> Iterator[tuple[bytes, bytes]]:
    addresses = [one.address for one in envelope.recipients if _ADDRESS.fullmatch(one.address)]
    if len(envelope.recipients) == 1 and addresses:
        yield b"Deliver-To", addresses[0]
    room = MAX_RECIPIENT_BYTES
    for address in addresses:
        room -= len(address) + len(b"Rcpt: <>\r\n")
        if room < 0:
            return
        yield b"Rcpt", b"<%b>" % address
