"""Calls: after-filter servers that are out of reach are called, without a message, until they answer.

By messages alone it would not always be found out: a machine that is said to be of no use gets none. What
comes of a call goes into the scoreboard, where workers learn that they need not leave the server alone any
more. Their messages try it as well: whoever comes first when its time has come. In the exporter.
"""

from collections.abc import Callable, Sequence
from functools import partial

from bqfilter.breaker import Breaker, State
from bqfilter.net.address import Endpoint, SocketAddress, resolve
from bqfilter.net.deadline import Clock
from bqfilter.scoreboard import Scoreboard
from bqfilter.upstream.board import EXPORTER_ROW, UpstreamBoard, row_of

INTERVAL = 1.0  # seconds between two looks


class Calls:
    """The servers of one pool. `call` says whether one answers, within `timeout` seconds.

    `addresses` are looked up when they are needed, and `start` runs a call so that the others need not
    wait; a RuntimeError of it means that there is no thread to be had.
    """

    def __init__(
        self,
        scoreboard: Scoreboard,
        addresses: Callable[[], Sequence[SocketAddress]],
        call: Callable[[SocketAddress], bool],
        start: Callable[[Callable[[], None]], None],
        clock: Clock,
        timeout: float,
    ) -> None:
        self._board = UpstreamBoard(scoreboard.upstreams, scoreboard.layout.slot_count)
        self._rows = row_of(scoreboard.layout.slot_count)
        self._addresses = addresses
        self._call = call
        self._start = start
        self._clock = clock
        self._timeout = timeout

    def look(self) -> None:
        """Call those whose time has come."""
        due = []
        for label, place in self._board.owned(EXPORTER_ROW):
            breaker = Breaker(place, label.terms, self._clock, self._rows, self._timeout)
            if label.is_present and breaker.state is State.PROBING:
                due.append((label.name, breaker))
        by_name = {str(address): address for address in self._addresses()} if due else {}
        for name, breaker in due:
            address = by_name.get(name) or _as_it_reads(name)
            if address is not None:
                self._begin(address, breaker)

    def _begin(self, address: SocketAddress, breaker: Breaker) -> None:
        breaker.probe()
        try:
            self._start(partial(self._ask, address, breaker))
        except RuntimeError:
            breaker.withdraw()

    def _ask(self, address: SocketAddress, breaker: Breaker) -> None:
        try:
            is_there = self._call(address)
        except OSError:  # a trouble of our own, such as too many open files, which says nothing of the server
            breaker.withdraw()
            return
        (breaker.answered if is_there else breaker.failed)()


def _as_it_reads(name: str) -> SocketAddress | None:
    """The address of a server that no name stands for now: workers go on with it until the next reload.

    None where it is none, in a scoreboard full of nonsense.
    """
    try:
        return resolve(Endpoint.parse(name))[0]
    except ValueError:
        return None
