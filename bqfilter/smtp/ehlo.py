"""What we announce to a client: only what both we and the after-filter server can honour.

Our own part is PIPELINING, which we take from anybody, and XFORWARD, which stands on the last line: Postfix
before 3.5.18, 3.6.8 and 3.7.4 loses the last attribute of an XFORWARD line that others follow. Parameters of
MAIL and RCPT pass through us unchanged, so SIZE, 8BITMIME, DSN, SMTPUTF8 and ENHANCEDSTATUSCODES are as good
as the server behind us. CHUNKING, BINARYMIME, STARTTLS, AUTH and all others end here.
"""

import re
from functools import lru_cache

from bqfilter.smtp.client import Capabilities
from bqfilter.smtp.replies import Reply

_PASSED_THROUGH = (b"8BITMIME", b"DSN", b"SMTPUTF8", b"ENHANCEDSTATUSCODES")
_NUMBER = re.compile(rb"[0-9]{1,20}")  # RFC 1870 section 3; a longer one would burst our reply
_XFORWARD = b"XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT"


@lru_cache(maxsize=8)
def ehlo_reply(hostname: bytes, behind: Capabilities, message_size: int) -> Reply:
    """The reply to EHLO; `message_size` is our own limit in bytes, 0 for none."""
    lines = [hostname, b"PIPELINING"]
    size = _size(behind, message_size)
    if size is not None:
        lines.append(b"SIZE %d" % size if size else b"SIZE")
    lines += [keyword for keyword in _PASSED_THROUGH if keyword in behind.keywords]
    return Reply(250, (*lines, _XFORWARD))


def helo_reply(hostname: bytes) -> Reply:
    """The reply to HELO."""
    return Reply(250, (hostname,))


def withheld(before: frozenset[bytes], behind: Capabilities) -> tuple[bytes, ...]:
    """Keywords that a server in front announces but whose parameters nobody behind it understands.

    These are for `smtpd_discard_ehlo_keywords` of the before-filter smtpd: it answers EHLO by itself and
    forwards MAIL and RCPT parameters that the after-filter server would refuse.
    """
    parameters = (
        *_PASSED_THROUGH[:3],
        b"SIZE",
        b"AUTH",
        b"XVERP",
        b"DELIVERBY",
        b"REQUIRETLS",
        b"MT-PRIORITY",
    )
    return tuple(keyword for keyword in parameters if keyword in before and keyword not in behind.keywords)


def _size(behind: Capabilities, own: int) -> int | None:
    """The smaller of both limits; 0 means that none is known, None that SIZE is not understood behind us."""
    announced = behind.keywords.get(b"SIZE")
    if announced is None:
        return None
    theirs = int(announced) if _NUMBER.fullmatch(announced) else 0
    return min((limit for limit in (own, theirs) if limit), default=0)
