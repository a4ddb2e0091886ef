"""Dialling: a connection to one of several endpoints of a scanning daemon, for one exchange.

Endpoints are tried in the order of the settings: the next one when one refuses, or is silent for longer than
its share of the time. The one that worked last is tried first, so that a dead one costs one message and not
each; after a minute the first of the list is given another chance. A conversation that is lost half way moves
on as well, for the next message: the same message is not tried elsewhere, because one that crashes a daemon
would crash them all. All of this is remembered by one object in one worker, which no other one asks.

Whatever fails gets the name of the endpoint in front of its cause. Nothing here outlasts the deadline.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bqfilter.errors import ConversationLost, PeerUnreachable, ScannerFailure
from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Clock, Deadline
from bqfilter.net.stream import Stream
from bqfilter.net.stream import connect as connect_stream

_SILENT_TIMEOUT = 5.0  # seconds for a handshake while there are others to try; a SYN lost twice takes 3
_RETRY_FIRST_AFTER = 60.0  # seconds until the first of the list is tried first again

Connect = Callable[[SocketAddress, Clock], Stream]


class Dialler:
    """Makes connections to `addresses`, at least one, in order of preference."""

    def __init__(
        self, addresses: Sequence[SocketAddress], clock: Clock, connect: Connect = connect_stream
    ) -> None:
        self._addresses = tuple(addresses)
        self._clock = clock
        self._connect = connect
        self._preferred = 0
        self._preferred_at = clock()

    @contextmanager
    def stream(self, deadline: Deadline) -> Iterator[Stream]:
        """A connection, closed at the end. Raises PeerUnreachable where there is none to be had."""
        index, stream = self._open(deadline)
        try:
            yield stream
        except ConversationLost as loss:
            self._prefer((index + 1) % len(self._addresses))
            raise type(loss)(f"{stream.peer}: {loss.cause}", loss.written) from loss
        except ScannerFailure as failure:
            raise ScannerFailure(f"{stream.peer}: {failure.cause}") from failure
        finally:
            stream.close()

    def survey(self, ask: Callable[[Stream, Deadline], str], deadline: Deadline) -> str:
        """Ask every endpoint, each within its share of the time: "ENDPOINT: answer; ENDPOINT: cause".

        Raises PeerUnreachable where none answers.
        """
        lines, answer_count = [], 0
        for tried, address in enumerate(self._addresses):
            limit = deadline.within(deadline.remaining() / (len(self._addresses) - tried))
            try:
                with Dialler([address], self._clock, self._connect).stream(limit) as stream:
                    lines.append(f"{address}: {ask(stream, limit)}")
                    answer_count += 1
            except (ConversationLost, ScannerFailure) as failure:
                lines.append(failure.cause)
        if not answer_count:
            raise PeerUnreachable("; ".join(lines))
        return "; ".join(lines)

    def _open(self, deadline: Deadline) -> tuple[int, Stream]:
        causes = []
        order = self._order()
        for tried, index in enumerate(order):
            address = self._addresses[index]
            try:
                stream = self._dial(address, self._share(deadline, len(order) - tried))
            except PeerUnreachable as loss:
                causes.append(f"{address}: {loss.cause}")
                continue
            if index != self._preferred:
                self._prefer(index)
            return index, stream
        raise PeerUnreachable("; ".join(causes))

    def _order(self) -> list[int]:
        if self._preferred and self._clock() - self._preferred_at > _RETRY_FIRST_AFTER:
            self._prefer(0)
        first = self._preferred
        return [first, *(index for index in range(len(self._addresses)) if index != first)]

    def _prefer(self, index: int) -> None:
        self._preferred, self._preferred_at = index, self._clock()

    def _share(self, deadline: Deadline, left: int) -> Deadline:
        """How long one of `left` endpoints may take to shake hands; the last one may take all there is."""
        if left == 1:
            return deadline
        return deadline.within(min(_SILENT_TIMEOUT, deadline.remaining() / left))

    def _dial(self, address: SocketAddress, limit: Deadline) -> Stream:
        stream = self._connect(address, self._clock)
        try:
            stream.finish_connecting(limit)
        except PeerUnreachable:
            stream.close()
            raise
        return stream
