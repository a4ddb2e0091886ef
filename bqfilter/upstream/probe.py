"""Probe: call an after-filter server once, as `check` does, and tell what it said; no message is sent."""

from dataclasses import dataclass

from bqfilter.config.schema import TimeoutSettings
from bqfilter.errors import ConversationLost, NoSocket
from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Clock, Deadline
from bqfilter.net.stream import connect
from bqfilter.smtp.client import NO_CAPABILITIES, Capabilities
from bqfilter.upstream.connection import Connection


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of the call: `failure` is empty when EHLO was answered, and may be our own."""

    address: SocketAddress
    capabilities: Capabilities
    failure: str = ""
    is_our_own: bool = False


def probe(address: SocketAddress, timeouts: TimeoutSettings, hostname: bytes, clock: Clock) -> Probe:
    """Connect, say EHLO and QUIT, each within the time that a worker would give it."""
    limit = Deadline.after(clock, timeouts.connect + timeouts.greeting + timeouts.ehlo)
    try:
        connection = Connection(connect(address, clock), timeouts, hostname, clock)
    except NoSocket as trouble:
        return Probe(address, NO_CAPABILITIES, trouble.cause, is_our_own=True)
    try:
        connection.open(limit)
    except ConversationLost as loss:
        connection.abort()
        return Probe(address, NO_CAPABILITIES, loss.cause)
    connection.close()
    return Probe(address, connection.capabilities)
