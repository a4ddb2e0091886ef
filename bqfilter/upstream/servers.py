"""Servers: which after-filter server to try first, and which next.

Each has a breaker that the whole pool shares: one that could not be reached is left alone by all workers,
first for a second, then for as long again as it has been out of reach, up to `upstream.retry`. When that is
over one message tries it, ahead of the others; where it does not answer soon, the message goes on.

Those that are well come in the order of the list, or, with `upstream.balance` "spread", the one with the
fewest connections first. Those that are left alone come last, the one that has been out of reach longest
ahead of the others: where no server is well, all of them are tried all the same.
"""

from collections.abc import Sequence

from bqfilter.breaker import Breaker, State
from bqfilter.config.schema import Settings
from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Clock, Deadline
from bqfilter.places import HealthWord
from bqfilter.upstream.board import UpstreamPlace, UpstreamWord, call_timeout, terms_of

_PROBE_TIMEOUT = 5.0  # seconds that a message waits for one that was out of reach, when there are others


class Servers:
    """The servers at `addresses`, as one worker sees them; each is named by its index there.

    `places` are theirs in the scoreboard, and `rows` is how many rows of these are looked at.
    """

    def __init__(
        self,
        settings: Settings,
        addresses: Sequence[SocketAddress],
        clock: Clock,
        places: Sequence[UpstreamPlace] = (),
        rows: int = 1,
    ) -> None:
        self.addresses = tuple(addresses)
        self._spreads = settings.upstream.balance == "spread"
        self._clock = clock
        self._places = list(places) or [UpstreamPlace.unseen() for _ in addresses]
        self._rows = max([rows, *(place.index + 1 for place in self._places)])
        terms, timeout = terms_of(settings), call_timeout(settings)
        self._breakers = [Breaker(place, terms, clock, rows, timeout) for place in self._places]
        self._turn = max(place.index for place in self._places)  # so that workers do not begin alike
        self._probed: int | None = None  # the one that is being tried because its time has come
        self._tried_at = clock()
        for place in self._places:
            place.own[UpstreamWord.OPEN] = 0  # what a worker before us has left, that was killed

    @property
    def are_several(self) -> bool:
        """There is another one to go to."""
        return len(self.addresses) > 1

    def order(self) -> list[int]:
        """All of them, in the order in which a message should try them."""
        if not self.are_several:
            return [0]
        states = [breaker.state for breaker in self._breakers]
        well = [index for index, state in enumerate(states) if state is State.CLOSED]
        if self._spreads and len(well) > 1:
            well.sort(key=self._use)
        if len(well) == len(states):
            return well
        due = [index for index, state in enumerate(states) if state is State.PROBING][:1]
        left_alone = {*range(len(states))} - {*well, *due}
        return [*due, *well, *sorted(left_alone, key=lambda index: self._breakers[index].failing_since)]

    def patience(self, index: int, limit: Deadline, others: int) -> Deadline:
        """How long this one may take to answer, where so many `others` are left to be tried after it."""
        if not others:
            return limit
        limit = limit.within(limit.remaining() / (others + 1))
        return limit.within(_PROBE_TIMEOUT) if index == self._probed else limit

    def trying(self, index: int) -> None:
        """It is called now."""
        self._tried_at = self._clock()
        self._turn += 1
        if self._breakers[index].state is State.PROBING:
            self._probed = index
            self._breakers[index].probe()

    def opened(self, index: int) -> None:
        """There is a connection to it, or one that is coming about."""
        self._places[index].own[UpstreamWord.OPEN] = 1

    def closed(self, index: int) -> None:
        """There is none any more; somebody else may try one that we have not heard of."""
        self._places[index].own[UpstreamWord.OPEN] = 0
        if self._probed == index:
            self._breakers[index].withdraw()
            self._probed = None

    def answered(self, index: int) -> None:
        """It takes commands."""
        self._probed = None
        self._breakers[index].answered()

    def unreached(self, index: int) -> None:
        """No connection to it came about."""
        place = self._places[index]
        place.own.count(UpstreamWord.UNREACHED)
        self._probed = None
        if place.latest(HealthWord.SUCCEEDED_AT, self._rows) <= self._tried_at:
            self.failed(index)  # where somebody has had an answer since it was called, it is just busy

    def failed(self, index: int) -> None:
        """It is of no use now."""
        self._probed = None
        self._breakers[index].failed()

    def lost(self, index: int) -> None:
        """It was lost in the middle of a message."""
        self._places[index].own.count(UpstreamWord.LOST)

    def began(self, index: int) -> None:
        """A transaction was begun there."""
        self._places[index].own.count(UpstreamWord.TRANSACTIONS)

    def _use(self, index: int) -> tuple[int, int]:
        """Connections of the whole pool; among equals it goes round."""
        count = self._places[index].total(UpstreamWord.OPEN, self._rows)
        return count, (index - self._turn) % len(self.addresses)
