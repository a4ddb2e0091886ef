"""Envelope and client facts: what is known about a message apart from its content.

"Unknown" and "not told" are different: Postfix says [UNAVAILABLE] for a client name that it could not verify,
and an after-queue client leaves the attribute out. Both read as None here; `attributes` keeps the difference.
"""

from dataclasses import dataclass, field

from bqfilter.net.address import Endpoint
from bqfilter.smtp import grammar
from bqfilter.smtp.commands import Mail, Rcpt


@dataclass(frozen=True, slots=True)
class Client:
    """The remote client as XFORWARD describes it: attribute name to value, both as on the wire (xtext)."""

    attributes: dict[bytes, bytes] = field(default_factory=dict)

    def with_attributes(self, more: tuple[tuple[bytes, bytes], ...]) -> "Client":
        """These facts with more of them, the later ones winning."""
        return Client({**self.attributes, **dict(more)})

    def fact(self, name: bytes) -> bytes | None:
        """The decoded value of an attribute; None where it is unknown or was not told."""
        value = self.attributes.get(name)
        if not value or value.upper() == grammar.UNAVAILABLE:
            return None
        return grammar.decode_xtext(value)

    @property
    def name(self) -> bytes:
        """The verified host name, "unknown" without one (Postfix's word)."""
        return self.fact(b"NAME") or b"unknown"

    @property
    def address(self) -> bytes:
        """The IP address without "IPv6:", "unknown" without one."""
        address = self.fact(b"ADDR") or b"unknown"
        return address[5:] if address[:5].upper() == b"IPV6:" else address

    @property
    def namaddr(self) -> bytes:
        """The form in which Postfix logs a client: name[address]."""
        return b"%b[%b]" % (self.name, self.address)

    @property
    def source(self) -> str:
        """ "local" for a client that Postfix counts as such; "remote" for any other, known or not."""
        return "local" if (self.fact(b"SOURCE") or b"").upper() == b"LOCAL" else "remote"

    @property
    def helo(self) -> bytes:
        """What the client called itself, empty where unknown."""
        return self.fact(b"HELO") or b""


@dataclass(slots=True)
class Envelope:
    """One message's sender and recipients, as the client gave them and the after-filter server took them."""

    client: Client
    sender: Mail
    recipients: list[Rcpt] = field(default_factory=list)
    refused_count: int = 0
    session_id: str = ""  # what the log calls the session
    listener: Endpoint | None = None  # where the client came in
