"""What a load balancer is told, in every state of the pool, and that it is told whatever it sends."""

import socket
import threading
from collections.abc import Iterator

import pytest

from bqfilter.net.address import SocketAddress
from bqfilter.net.listeners import bind_inet
from bqfilter.pool.agent import Agent, AgentServer
from bqfilter.scoreboard import MasterWord, Scoreboard, State
from tests.saturation.boards import scoreboard


def pool(idle: int, busy: int, limit: int = 20) -> Scoreboard:
    board = scoreboard(idle + busy)
    board.header[MasterWord.WORKERS] = limit
    for index, slot in enumerate(board.slots[: idle + busy]):
        slot._become(State.IDLE if index < idle else State.BUSY)
    return board


def agent(board: Scoreboard, minimum: int = 10, *, is_gone: bool = False) -> Agent:
    made = Agent(board, lambda: is_gone, minimum)
    made.look(1000.0)
    return made


@pytest.mark.parametrize(
    ("idle", "busy", "line"),
    [
        pytest.param(20, 0, "up 100%", id="nothing to do"),
        pytest.param(13, 7, "up 65%", id="a share is free"),
        pytest.param(1, 19, "up 10%", id="next to none"),
        pytest.param(0, 20, "up 10%", id="none, but it takes messages"),
        pytest.param(5, 5, "up 25%", id="half of the workers are missing"),
        pytest.param(30, 0, "up 100%", id="more than there should be, in a reload"),
        pytest.param(0, 0, "down # no worker", id="nobody there"),
    ],
)
def test_the_share_of_free_workers(idle: int, busy: int, line: str) -> None:
    assert agent(pool(idle, busy)).line() == line


def test_the_minimum_is_the_sites() -> None:
    assert agent(pool(0, 20), minimum=1).line() == "up 1%"
    assert agent(pool(0, 20), minimum=100).line() == "up 100%"


def test_without_an_after_filter_server_it_is_down() -> None:
    assert agent(pool(20, 0), is_gone=True).line() == "down # after-filter server out of reach"


def test_on_its_way_out_it_is_drained_whatever_else() -> None:
    board = pool(0, 0)
    board.header.set_seconds(MasterWord.DRAINING, 999.0)
    assert agent(board, is_gone=True).line() == "up 0% # drain"


def test_a_burst_counts_as_much_as_it_lasts() -> None:
    board = pool(20, 0)
    made = agent(board)
    for slot in board.slots[:20]:
        slot._become(State.BUSY)
    percentages = []
    for look in range(1, 101):
        made.look(1000.0 + look / 10)
        percentages.append(int(made.line()[3:-1]))
    assert percentages[0] == 95  # a tenth of a second
    assert percentages[19] == 37  # two seconds
    assert percentages[-1] == 10
    assert percentages == sorted(percentages, reverse=True)


def test_looks_that_come_late_count_for_as_long_as_it_was() -> None:
    board = pool(20, 0)
    often, seldom = agent(board), agent(board)
    for slot in board.slots[:20]:
        slot._become(State.BUSY)
    for look in range(1, 21):
        often.look(1000.0 + look / 10)
    seldom.look(1002.0)
    assert often.line() == seldom.line()


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    sock = bind_inet(SocketAddress(socket.AF_INET, ("127.0.0.1", 0)), 64)
    server = AgentServer(sock, agent(pool(13, 7)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield sock.getsockname()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("said", [b"", b"mx1\n", b"x" * 100_000], ids=["nothing", "agent-send", "a lot"])
def test_the_answer_is_one_line_whatever_was_sent(address: tuple[str, int], said: bytes) -> None:
    with socket.create_connection(address, 30) as sock:
        sock.sendall(said)
        with sock.makefile("rb") as answer:
            assert answer.read() == b"up 65%\n"
