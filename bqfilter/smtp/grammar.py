"""The shapes of what travels on the wire, each regular expression under the grammar that it stands for.

We are more liberal than the grammar wherever Postfix is: what its smtpd has let through must not be refused
here, since the remote client would be told a failure that nobody meant. So an address without brackets, with
blanks around it, with a source route or with eight-bit characters is still an address.
"""

import re

# Mail-parameters apart (RFC 5321 section 4.1.2):
#   Path        = "<" [ A-d-l ":" ] Mailbox ">"       (or nothing between the brackets: the null sender)
#   Local-part  = Dot-string / Quoted-string          (a quoted string may hold ">" and blanks)
# The possessive quantifiers keep a hostile line linear: there is nothing to come back to.
PATH = re.compile(
    rb"""[ \t]*+ (?: < (?P<bracketed> (?: [^"<>]++ | "(?:[^"\\]|\\.)*+" )*+ ) >
                   | (?P<bare> [^\s<>]++ ) )
         [ \t]*+ (?P<parameters> .*+ )""",
    re.VERBOSE | re.DOTALL,
)

# A-d-l = At-domain *( "," At-domain )                (RFC 5321: MUST be accepted, SHOULD be ignored)
# Postfix takes anything from an "@" in front up to the first colon for one, and what is left may begin with
# another (smtpd.c:extract_addr). Read otherwise, an address would be another one for us than for Postfix.
SOURCE_ROUTE = re.compile(rb"(?:@[^:]*+:)++")

# The word after the verb: "FROM:" behind MAIL, "TO:" behind RCPT, blanks tolerated around it as Postfix does.
FROM = re.compile(rb"[ \t]*+FROM[ \t]*+:", re.IGNORECASE)
TO = re.compile(rb"[ \t]*+TO[ \t]*+:", re.IGNORECASE)

# hexchar = ASCII "+" followed by two upper-case hexadecimal digits (RFC 3461 section 4; we take either case)
XTEXT_ESCAPE = re.compile(rb"\+([0-9A-Fa-f]{2})")
XTEXT_BROKEN = re.compile(rb"\+(?![0-9A-Fa-f]{2})")

# Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF  (RFC 5321, 4.2)
REPLY_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)

# What an XFORWARD server accepts as a value of each attribute (XFORWARD_README, smtpd.c:xforward_cmd).
# A value is checked as it stands on the wire, still in xtext, since there it has to fit into 255 bytes.
_LABEL = rb"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_XCHARS = rb"[!-~]{1,255}"
XFORWARD_VALUES: dict[bytes, re.Pattern[bytes]] = {
    b"NAME": re.compile(rb"(?=.{1,255}\Z)(?!(?:[0-9]+\.)*[0-9]+\Z)" + _LABEL + rb"(?:\." + _LABEL + rb")*"),
    b"ADDR": re.compile(rb"(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|IPv6:[0-9A-Fa-f:.]{2,45})", re.IGNORECASE),
    b"PORT": re.compile(rb"[0-9]{1,5}"),
    b"PROTO": re.compile(rb"[!-~]{1,64}"),
    b"HELO": re.compile(_XCHARS),
    b"IDENT": re.compile(_XCHARS),
    b"SOURCE": re.compile(rb"LOCAL|REMOTE", re.IGNORECASE),
}
UNAVAILABLE = b"[UNAVAILABLE]"

# The order in which Postfix itself sends them.
XFORWARD_ATTRIBUTES = (b"NAME", b"ADDR", b"PORT", b"HELO", b"IDENT", b"PROTO", b"SOURCE")


def decode_xtext(value: bytes) -> bytes:
    """Undo RFC 3461 xtext; a value that is not well-formed xtext is taken as it is, as Postfix takes it."""
    if b"+" not in value or XTEXT_BROKEN.search(value):
        return value
    return XTEXT_ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), value)


def parse_path(text: bytes) -> tuple[bytes, bytes]:
    """Split what follows "FROM:" or "TO:" into the address, without brackets or route, and its parameters.

    The address is for policy and log only, the line itself is forwarded as it came. What cannot be read as
    a path is given back whole as the address: a log line then shows what the client said.
    """
    match = PATH.fullmatch(text)
    if match is None:
        return text.strip(), b""
    bracketed, bare, parameters = match.groups()
    address = (bare if bracketed is None else bracketed).strip()
    route = SOURCE_ROUTE.match(address)
    return address[route.end() :] if route else address, parameters.rstrip()
