"""Reception: who it is that has connected, before a word is said to him.

On most listeners that is the peer. On one with proxies it is whoever the header of the PROXY protocol names,
and only the named proxies get as far as having it read. A proxy that speaks for itself (a health check, or a
client of which it knows no address) is held to its own address; where that is not in `allow` it may introduce
itself and leave, but sends no mail.

What the header takes of the stream is the header and no byte more. Nothing is answered here.
"""

from dataclasses import dataclass
from enum import Enum, auto

from bqfilter.errors import ConversationLost, PeerLost
from bqfilter.net.address import is_same_host
from bqfilter.net.deadline import Deadline
from bqfilter.net.listeners import Accepted, Listener
from bqfilter.net.proxy_protocol import Announcement, announced, wanted
from bqfilter.net.stream import Stream

# Seconds. Whoever leaves the queue sooner is no Postfix that has lost its patience.
_SHORTEST_PATIENCE = 1.0


class Standing(Enum):
    """What becomes of a connection."""

    CLIENT = auto()  # is served
    PROXY = auto()  # is served, and sends no mail
    STRANGER = auto()  # is not in the list that it should be in
    UNANNOUNCED = auto()  # comes from a proxy without a header that can be used
    LEFT = auto()  # has waited, and has gone before it was greeted
    PASSED_BY = auto()  # has gone without having waited: it only looked whether somebody listens


@dataclass(frozen=True, slots=True)
class Visitor:
    """A connection with its `standing`; `peer` is whom the log speaks of, `cause` why it cannot be served."""

    standing: Standing
    peer: str
    cause: str = ""

    @property
    def is_served(self) -> bool:
        """There is a conversation with it."""
        return self.standing in (Standing.CLIENT, Standing.PROXY)


def receive(
    listener: Listener, accepted: Accepted, stream: Stream, deadline: Deadline, *, is_queued: bool
) -> Visitor:
    """Who has come in by this listener, and had to wait if `is_queued`; a header has until the deadline."""
    client = _gone(accepted, is_queued) if accepted.is_abandoned else Standing.CLIENT
    if listener.proxies is None:
        is_let_in = accepted.is_abandoned or listener.permits(accepted)
        return Visitor(client if is_let_in else Standing.STRANGER, accepted.peer)
    if not listener.permits(accepted):
        return Visitor(Standing.STRANGER, accepted.peer)
    head = bytearray()
    try:
        announcement = _read_header(head, stream, deadline)
    except (ConversationLost, ValueError) as trouble:
        if isinstance(trouble, PeerLost) and not head:
            return Visitor(Standing.PASSED_BY, accepted.peer)
        return Visitor(Standing.UNANNOUNCED, accepted.peer, str(trouble))
    return _judge(announcement, listener, accepted, client)


def _gone(accepted: Accepted, is_queued: bool) -> Standing:
    """What it means that the peer has closed already: of a unix client nobody knows how long it waited."""
    had_to_wait = is_queued and (accepted.waited is None or accepted.waited >= _SHORTEST_PATIENCE)
    return Standing.LEFT if had_to_wait else Standing.PASSED_BY


def _read_header(head: bytearray, stream: Stream, deadline: Deadline) -> Announcement:
    """The header that the stream begins with; what has come of it is in `head`, also where the rest does not.

    Raises ValueError, PeerTimeout or PeerLost.
    """
    while count := wanted(bytes(head)):
        head += stream.read(deadline, count)
    return announced(bytes(head))


def _judge(announcement: Announcement, listener: Listener, accepted: Accepted, client: Standing) -> Visitor:
    """`client` is the standing of one that may send mail."""
    host = announcement.host or accepted.host
    peer = f"{announcement.host}:{announcement.port}" if announcement.host else accepted.peer
    if not announcement.is_local and listener.allow.permits(host):
        return Visitor(client, peer)
    if announcement.is_local or is_same_host(host, accepted.host):
        return Visitor(Standing.PASSED_BY if accepted.is_abandoned else Standing.PROXY, peer)
    return Visitor(Standing.STRANGER, peer)
