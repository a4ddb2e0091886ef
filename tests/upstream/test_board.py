"""After-filter servers in the scoreboard: a place for each address, a row for each slot and the exporter."""

from bqfilter.net.address import SocketAddress
from bqfilter.places import Terms
from bqfilter.scoreboard import UPSTREAM_PLACE_BYTES, UPSTREAM_RECORD_BYTES
from bqfilter.upstream.board import (
    EXPORTER_ROW,
    UpstreamBoard,
    UpstreamWord,
    call_timeout,
    row_of,
    terms_of,
)
from tests.doubles.settings import settings

SLOTS = 4
FIRST, SECOND = (SocketAddress(2, ("127.0.0.1", port)) for port in (10026, 10027))


def board(places: int = 2) -> UpstreamBoard:
    size = places * (UPSTREAM_PLACE_BYTES + (SLOTS + 1) * UPSTREAM_RECORD_BYTES)
    return UpstreamBoard(memoryview(bytearray(size)), SLOTS)


def test_every_slot_has_a_row_and_so_has_the_exporter() -> None:
    rows = [EXPORTER_ROW, *map(row_of, range(SLOTS))]
    assert rows == list(range(SLOTS + 1))

    given = board()
    given.assign([FIRST, SECOND], Terms(1, 1.0, 60.0))
    for row in rows:
        given.places([str(SECOND)], row)[0].own.count(UpstreamWord.LOST)
    first, second = given.places([str(FIRST), str(SECOND)], 0)
    assert (first.total(UpstreamWord.LOST), second.total(UpstreamWord.LOST)) == (0, SLOTS + 1)


def test_every_address_there_can_be_fits_its_label() -> None:
    longest = SocketAddress(1, "/" + "x" * 106)
    scoped = SocketAddress(10, ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 65535, 0, 0))
    given = board()
    assert given.assign([longest, scoped], Terms(1, 1.0, 60.0)) == []
    assert [label.name for label in given.labels()] == [str(longest), str(scoped)]


def test_a_slot_that_is_vacated_has_no_connection_to_any_server() -> None:
    given = board()
    given.assign([FIRST, SECOND], Terms(1, 1.0, 60.0))
    for slot in (1, 2):
        for place in given.places([str(FIRST), str(SECOND)], row_of(slot)):
            place.own[UpstreamWord.OPEN] = 1
    given.vacate(1)

    for place in given.places([str(FIRST), str(SECOND)], 0):
        assert [record[UpstreamWord.OPEN] for record in place.records(SLOTS + 1)] == [0, 0, 0, 1, 0]


def test_a_server_is_left_alone_for_a_second_at_first_unless_less_is_wished() -> None:
    assert terms_of(settings("upstream.retry = '60s'")) == Terms(1, 1.0, 60.0)
    assert terms_of(settings("upstream.retry = '100ms'")) == Terms(1, 0.1, 0.1)


def test_a_call_may_take_what_a_worker_would_give_it() -> None:
    given = settings("timeouts.connect = '1s'", "timeouts.greeting = '2s'", "timeouts.ehlo = '4s'")
    assert call_timeout(given) == 7.0
