"""Upstream: a worker's leg to the after-filter servers; it lives as long as the worker.

It calls the server that `servers` picks, keeps a connection where that is wished, connects while the client
is still talking, and carries one transaction at a time. A connection that turns out to be dead before DATA is
replaced and the transaction so far is said again, perhaps to another server, without the client noticing:
nothing has been handed over yet. After the final dot there is no second try, ever.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bqfilter.config.schema import Settings
from bqfilter.errors import ConversationLost, NoSocket, OutcomeUnknown, PeerTimeout, UpstreamFailure
from bqfilter.ledger import Ledger, Stage
from bqfilter.log import Log
from bqfilter.mail.envelope import Client
from bqfilter.mail.outgoing import Outgoing
from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Clock, Deadline
from bqfilter.net.stream import Stream
from bqfilter.scoreboard import UPSTREAM_READY, Slot, Word
from bqfilter.smtp.client import NO_CAPABILITIES, Capabilities, common
from bqfilter.smtp.replies import Reply
from bqfilter.upstream.board import UpstreamPlace
from bqfilter.upstream.connection import Connection
from bqfilter.upstream.servers import Servers

_RESET_TIMEOUT = 1.0  # seconds; nobody waits for it but the worker

Connect = Callable[[SocketAddress, Clock], Stream]


@dataclass(slots=True)
class _Said:
    """The transaction so far, to be said again on another connection."""

    client: Client
    mail: bytes
    recipients: list[bytes] = field(default_factory=list)
    is_open: bool = False  # MAIL was accepted
    is_replayed: bool = False


class Upstream:
    """The leg to the servers at `addresses`. One per worker, whose slot shows how it fares.

    `places` are those of the servers in the scoreboard, of which `rows` rows are looked at.
    """

    def __init__(
        self, settings: Settings, addresses: Sequence[SocketAddress], hostname: bytes,
        clock: Clock, connect: Connect, log: Log, slot: Slot | None = None,
        places: Sequence[UpstreamPlace] = (), rows: int = 1,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._servers = Servers(settings, addresses, clock, places, rows)
        self._hostname = hostname
        self._clock = clock
        self._connect = connect
        self._log = log
        self._slot = slot or Slot.unseen()
        self._started_at = clock()  # the connection
        self._connection: Connection | None = None
        self._said: _Said | None = None
        self._at = 0  # index of its server
        self._announced: dict[int, Capabilities] = {}  # by each server that has answered

    @property
    def peer(self) -> str:
        """The address of the server in use, empty where there is none."""
        return self._connection.peer if self._connection else ""

    @property
    def dot_is_out(self) -> bool:
        """The final dot of the present transaction may have been sent."""
        return self._connection is not None and self._connection.dot_is_out

    def prepare(self) -> None:
        """Get on with connecting as far as nothing has to be waited for. Never raises: `begin` will tell."""
        if self._said is not None:
            return  # nothing to prepare in the middle of a transaction
        try:
            if self._connection is not None and self._connection.is_ready:
                self._drop_if_stale(self._connection)
            if self._connection is None:
                self._connection = self._start(self._servers.order()[0])
            self._connection.progress()
        except ConversationLost as loss:
            self._pass_over(loss, is_last=not self._servers.are_several)

    def capabilities(self, limit: Deadline, ledger: Ledger) -> Capabilities:
        """What the after-filter server can do, as of the last EHLO; the first time this waits for it.

        Of several servers, what all can do that have answered so far: which one it will be is not known yet.
        Without a server there is nothing to announce: the client learns of the trouble with MAIL.
        """
        if not self._announced:
            try:
                self._open(limit, ledger)
            except UpstreamFailure:
                return NO_CAPABILITIES
        return common(tuple(self._announced.values()))

    def begin(self, client: Client, mail: bytes, limit: Deadline, ledger: Ledger) -> Reply:
        """Open a transaction with the client's MAIL line. Raises UpstreamFailure."""
        said = self._said = _Said(client, mail)
        self._slot.serve(client.address)

        def say(connection: Connection) -> Reply:
            self._servers.began(self._at)
            return connection.begin(client, mail, limit)

        reply = self._with_replay(say, limit, ledger)
        said.is_open = reply.is_positive
        return reply

    def recipient(self, rcpt: bytes, limit: Deadline, ledger: Ledger) -> Reply:
        """The client's RCPT line. Raises UpstreamFailure."""
        said = self._open_transaction()
        reply = self._with_replay(lambda connection: connection.recipient(rcpt, limit), limit, ledger)
        if reply.is_positive:
            said.recipients.append(rcpt)
        return reply

    def hand_over(
        self,
        message: Outgoing,
        go: Callable[[], None],
        handover: Deadline,
        last_moment: Deadline,
        ledger: Ledger,
        *,
        more: bool = False,
    ) -> Reply:
        """DATA, the content, the final dot, and the server's reply; with `more` another transaction follows.

        Raises UpstreamFailure while the message is certainly not delivered, OutcomeUnknown where that cannot
        be told, and whatever `go` raises to call the hand-over off right before the dot.
        """
        reply = self._with_replay(lambda connection: connection.data(handover), handover, ledger)
        connection = self._connection
        if not reply.is_positive:
            return reply
        if reply.code != 354 or connection is None:
            raise self._failed(f"answered DATA with {reply}")  # a positive reply that cannot be relayed
        ledger.enter(Stage.HANDOVER, last_moment.at)
        last = connection.transaction_count >= self._max_messages and not more
        try:
            connection.content(message, go, handover, last=last)
            reply = connection.final_reply(last_moment)
        except ConversationLost as loss:
            early = connection.early_reply()
            self._hang_up()  # in the middle of content there is no other way out
            if early is not None:
                return early
            self._count_loss()
            raise UpstreamFailure(f"{connection.peer}: {loss.cause} while sending content") from loss
        except OutcomeUnknown:
            self._count_loss()
            raise
        self._said = None
        return reply

    def finish(self) -> None:
        """The message is done with and answered: keep the connection or part with it.

        A transaction without a recipient is left open; RSET will precede the next message. For one with a
        recipient a server holds a process and a queue file, so it is left at once.
        """
        connection, said, self._said = self._connection, self._said, None
        if connection is None:
            return
        if not connection.is_ready or connection.transaction_count >= self._max_messages:
            self.close()
        elif said is not None and said.recipients:
            self._reset(connection)

    def _reset(self, connection: Connection) -> None:
        try:
            connection.reset(Deadline.after(self._clock, _RESET_TIMEOUT))
        except ConversationLost:
            self._hang_up()  # which ends the transaction as well

    def end_session(self) -> None:
        """The client is gone: part with a connection that was made for a message that did not come."""
        if not self._keeps_connections:
            self.close()

    def abandon(self) -> None:
        """Leave the open transaction without a message."""
        self._said = None
        self._hang_up()

    def disown(self) -> None:
        """Leave a server whose answers make no sense: it counts as lost."""
        self._count_loss()
        self.abandon()

    def close(self) -> None:
        """Part with the server politely."""
        self._said = None
        if self._connection is not None:
            self._connection.close()
            self._forget()

    def close_if_idle(self) -> None:
        """Give a kept connection back that has lain unused too long, or that the server has closed."""
        if self._connection is not None and self._said is None:
            self._drop_if_stale(self._connection)

    @property
    def _max_messages(self) -> int:
        return self._settings.upstream.max_messages_per_connection

    @property
    def _keeps_connections(self) -> bool:
        return self._max_messages > 1

    def _open_transaction(self) -> _Said:
        if self._said is None:
            raise UpstreamFailure("no transaction is open")
        return self._said

    def _with_replay(self, step: Callable[[Connection], Reply], limit: Deadline, ledger: Ledger) -> Reply:
        """Take one step of the transaction; on a connection that proves dead, say it all again, once.

        A server that is merely silent is not dead: waiting for it a second time would cost the client twice.
        """
        said = self._open_transaction()
        connection = self._open(limit, ledger)
        is_news = not said.is_open and not connection.is_kept  # a kept one may have gone for its age
        may_retry = not said.is_replayed and (not is_news or self._servers.are_several)
        ledger.enter(Stage.UPSTREAM_WAIT, limit.at)
        try:
            reply = step(connection)
            if reply.code != 421:
                return reply
            if is_news:
                self._servers.failed(self._at)
            if not may_retry:
                return reply
            cause = str(reply)
        except ConversationLost as loss:
            cause = loss.cause
            if is_news:
                self._servers.failed(self._at)
            if not may_retry or isinstance(loss, PeerTimeout):
                raise self._failed(cause) from loss
        self._log.info("upstream connection replaced", upstream=self.peer, cause=cause)
        self._hang_up()
        said.is_replayed = True
        if said.is_open:
            self._say_again(said, limit, ledger)
        return self._with_replay(step, limit, ledger)

    def _say_again(self, said: _Said, limit: Deadline, ledger: Ledger) -> None:
        """MAIL and the recipients once more; each was accepted before and has to be accepted again."""
        connection = self._open(limit, ledger)
        self._servers.began(self._at)
        ledger.enter(Stage.UPSTREAM_WAIT, limit.at)
        try:
            replies = [connection.begin(said.client, said.mail, limit)]
            replies += [connection.recipient(line, limit) for line in said.recipients]
        except ConversationLost as loss:
            raise self._failed(loss.cause) from loss
        for reply in replies:
            if reply.code // 100 != 2:
                raise self._failed(f"a command accepted before was answered {reply}")

    def _failed(self, cause: str) -> UpstreamFailure:
        peer = self.peer
        self._hang_up()
        self._count_loss()
        return UpstreamFailure(f"{peer}: {cause}" if peer else cause)

    def _open(self, limit: Deadline, ledger: Ledger) -> Connection:
        """The connection, introduced; the servers of the list are tried in turn. Raises UpstreamFailure."""
        if self._connection is not None and self._connection.is_ready:
            return self._connection
        ledger.enter(Stage.UPSTREAM_CONNECT, limit.at)
        causes = []
        order = self._order()
        for tried, index in enumerate(order, start=1):
            others = len(order) - tried
            try:
                return self._open_one(index, limit, others)
            except ConversationLost as loss:
                causes.append(f"{self._servers.addresses[index]}: {loss.cause}")
                self._pass_over(loss, is_last=not others or limit.has_passed)
                if limit.has_passed:
                    break
        self._slot.count(Word.UNREACHED)
        raise UpstreamFailure("; ".join(causes))

    def _open_one(self, index: int, limit: Deadline, others: int) -> Connection:
        if self._connection is None:
            self._connection = self._start(index)
        self._connection.open(self._servers.patience(index, limit, others))
        self._slot.observe(UPSTREAM_READY, self._clock() - self._started_at)
        self._servers.answered(index)
        self._learn(index, self._connection.capabilities)
        return self._connection

    def _pass_over(self, loss: ConversationLost, *, is_last: bool) -> None:
        """The server could not be reached. Where it was the last, the message's own line says so."""
        if not is_last:
            self._log.warning(
                "after-filter server not reached, trying the next",
                upstream=str(self._servers.addresses[self._at]),
                cause=loss.cause,
            )
        if isinstance(loss, NoSocket):
            self._servers.closed(self._at)  # it was not called
        else:
            self._servers.unreached(self._at)
        self._hang_up()

    def _learn(self, index: int, capabilities: Capabilities) -> None:
        """Remember what was announced; a server that hears nothing of the client is worth a line, once."""
        known = self._announced.get(index)
        if not capabilities.xforward and (known is None or known.xforward):
            self._log.warning(
                "after-filter server announces no XFORWARD: it takes every message for one of this host",
                upstream=self.peer,
                remedy="set smtpd_authorized_xforward_hosts there",
            )
        self._announced[index] = capabilities

    def _order(self) -> list[int]:
        """The servers in the order in which they are tried; one that is being called already comes first."""
        order = self._servers.order()
        if self._connection is None:
            return order
        return [self._at, *(index for index in order if index != self._at)]

    def _start(self, index: int) -> Connection:
        self._at, self._started_at = index, self._clock()
        self._servers.trying(index)
        stream = self._connect(self._servers.addresses[index], self._clock)
        self._servers.opened(index)
        self._slot[Word.UPSTREAM_OPEN] = 1
        return Connection(stream, self._settings.timeouts, self._hostname, self._clock)

    def _drop_if_stale(self, connection: Connection) -> None:
        if connection.has_gone_stale(self._settings.upstream.idle_timeout):
            self.close()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._forget()

    def _forget(self) -> None:
        self._connection = None
        self._servers.closed(self._at)
        self._slot[Word.UPSTREAM_OPEN] = 0

    def _count_loss(self) -> None:
        """It was lost in the middle of a message."""
        self._slot.count(Word.UPSTREAM_LOST)
        self._servers.lost(self._at)
