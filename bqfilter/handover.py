"""Handover: the end of one transaction behind us, from DATA to the reply to its final dot, as an Outcome.

It keeps the promises about delivery. The dot is sent only while the client is still there and enough of the
reply budget is left. What fails before it is a 451 and certainly not delivered; what fails behind it is a 451
too, and the one case in which nobody can know. A 2xx is the after-filter server's own.
"""

from collections.abc import Callable, Sequence

from bqfilter.budget import Budget
from bqfilter.errors import ClientGone, OutcomeUnknown, OutOfTime, UpstreamFailure
from bqfilter.ledger import Ledger
from bqfilter.mail.envelope import Client
from bqfilter.mail.outgoing import Outgoing
from bqfilter.outcome import Outcome, Result
from bqfilter.smtp import replies
from bqfilter.smtp.client import Capabilities
from bqfilter.smtp.replies import Reply, queue_id, relayable
from bqfilter.upstream import Upstream


class Handover:
    """Hands one message over, in one transaction or several; its end came at the instant `arrived`."""

    def __init__(
        self,
        upstream: Upstream,
        budget: Budget,
        ledger: Ledger,
        arrived: float,
        client_has_left: Callable[[], bool],
    ) -> None:
        self._upstream = upstream
        self._ledger = ledger
        self._client_has_left = client_has_left
        self._last_moment = budget.last_moment(arrived)
        self.limit = budget.handover(arrived)

    def go(self) -> None:
        """May what cannot be taken back be done now? Raises ClientGone or OutOfTime where not."""
        if self._client_has_left():
            raise ClientGone
        if self.limit.has_passed:
            raise OutOfTime

    def tell(self) -> None:
        """Will the client still hear what we say? Raises ClientGone or OutOfTime where not."""
        if self._client_has_left():
            raise ClientGone
        if self._last_moment.has_passed:
            raise OutOfTime

    def send(self, message: Outgoing, *, more: bool = False) -> Outcome:
        """DATA, the content and the dot in the transaction that is open; `more` of them may follow."""
        return self.attempt(lambda: self._send(message, more))

    def open_and_send(
        self,
        client: Client,
        mail: bytes,
        recipients: Sequence[bytes],
        message: Outgoing,
        *,
        more: bool = False,
    ) -> Outcome:
        """The same in a transaction of its own, begun with these lines; all of them have to be taken."""

        def act() -> Outcome:
            self._open(client, mail, recipients)
            return self._send(message, more)

        return self.attempt(act)

    def attempt(self, act: Callable[[], Outcome]) -> Outcome:
        """What `act` comes to. Where it fails, the after-filter server is left without the message."""
        try:
            return act()
        except (ClientGone, OutOfTime, UpstreamFailure, OSError, OutcomeUnknown) as failure:
            self._upstream.abandon()
            return _failed(failure)

    def abandon(self) -> None:
        """Leave the after-filter server without whatever is open."""
        self._upstream.abandon()

    def capabilities(self) -> Capabilities:
        """What the after-filter server can do."""
        return self._upstream.capabilities(self.limit, self._ledger)

    def _send(self, message: Outgoing, more: bool) -> Outcome:
        self.go()
        reply = self._upstream.hand_over(
            message, self.go, self.limit, self._last_moment, self._ledger, more=more
        )
        if reply.code // 100 == 2:
            self._ledger.hold()  # until the client has its answer a crash means that it comes again
        return _outcome_of(reply)

    def _open(self, client: Client, mail: bytes, recipients: Sequence[bytes]) -> None:
        """A transaction that nobody but we asked for: a refusal is our own trouble."""
        self.go()
        _insist(self._upstream.begin(client, mail, self.limit, self._ledger), mail)
        for line in recipients:
            _insist(self._upstream.recipient(line, self.limit, self._ledger), line)


def _failed(failure: Exception) -> Outcome:
    match failure:
        case ClientGone():
            return Outcome(Result.CLIENT_ABORT, replies.CLIENT_LEFT, "client gave up before the final dot")
        case OutOfTime():
            return Outcome(Result.TEMPFAILED, replies.OUT_OF_TIME, "reply budget spent before the final dot")
        case OutcomeUnknown(cause=cause):
            told = f"{cause} after the final dot: possible duplicate"
            return Outcome(Result.OUTCOME_UNKNOWN, replies.UPSTREAM_LOST, told)
        case UpstreamFailure(cause=cause):
            return Outcome(Result.TEMPFAILED, replies.UPSTREAM_LOST, cause)
        case _:  # an OSError: sockets have their own errors, so this is the file that cannot be read back
            return Outcome(Result.TEMPFAILED, replies.SPOOL_FAILED, f"spool: {failure}")


def _insist(reply: Reply, line: bytes) -> None:
    if reply.code // 100 != 2:
        said = line.decode("utf-8", "backslashreplace")
        raise UpstreamFailure(f"answered {said} of our own with {reply}")


def _outcome_of(reply: Reply) -> Outcome:
    """The after-filter server's own answer to DATA or to the final dot."""
    if reply.code // 100 == 2:
        return Outcome(Result.ACCEPTED, relayable(reply), queue_id=queue_id(reply))
    result = Result.REJECTED if reply.code >= 500 else Result.TEMPFAILED
    return Outcome(result, relayable(reply))
