"""What the service manager is told: when, and in which words."""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.pool.bulletin import Bulletin
from bqfilter.scoreboard import MasterWord, Scoreboard, Slot

WATCHDOG_SECONDS = 8.0
STATUS_LOOK = 5.0


@pytest.fixture
def manager(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(directory / "notify"))
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(directory / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", f"{WATCHDOG_SECONDS * 1e6:.0f}")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        yield sock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> float:
    """Time stands still, and passes as far as it is told to `turn`."""
    now = time.monotonic()
    monkeypatch.setattr("bqfilter.pool.bulletin.time.monotonic", lambda: now)
    return now


@pytest.fixture
def board() -> Scoreboard:
    board = Scoreboard.anonymous(16)
    board.header[MasterWord.WORKERS] = 3
    board.header.set_seconds(MasterWord.LOADED_WALL, time.time())
    for slot in board.slots[:3]:
        slot.was_given(1)
        slot.move_in(1)
        slot.wait()
    return board


@pytest.fixture
def bulletin(manager: socket.socket, board: Scoreboard, now: float) -> Bulletin:
    return Bulletin(board)


def told(manager: socket.socket) -> list[str]:
    """Everything said since the last time."""
    found = []
    while True:
        try:
            found.append(manager.recv(8192).decode())
        except BlockingIOError:
            return found


def occupy(slot: Slot, now: float) -> None:
    slot.begin(now, 0.0, False)


def test_ready_comes_with_the_state_of_the_pool(bulletin: Bulletin, manager: socket.socket) -> None:
    bulletin.ready()
    (message,) = told(manager)
    assert re.fullmatch(
        r"READY=1\nSTATUS=accepting: 0 of 3 workers busy, 0 waiting; settings of [-\d]+ [:\d]+", message
    )


def test_the_status_is_sent_again_when_it_has_changed_and_not_before_its_time(
    bulletin: Bulletin, manager: socket.socket, board: Scoreboard, now: float
) -> None:
    bulletin.ready()
    told(manager)
    bulletin.turn(now + STATUS_LOOK, has_workers=False)
    assert told(manager) == []
    occupy(board.slots[1], now)
    bulletin.turn(now + 2 * STATUS_LOOK - 0.1, has_workers=False)
    assert told(manager) == []
    bulletin.turn(now + 2 * STATUS_LOOK, has_workers=False)
    (message,) = told(manager)
    assert message.startswith("STATUS=accepting: 1 of 3 workers busy, 0 waiting; ")


def test_before_the_pool_is_ready_nothing_is_said_of_it(
    bulletin: Bulletin, manager: socket.socket, now: float
) -> None:
    bulletin.turn(now + 60, has_workers=False)
    assert told(manager) == []


def test_life_is_shown_four_times_within_the_limit(
    bulletin: Bulletin, manager: socket.socket, now: float
) -> None:
    for step in range(int(WATCHDOG_SECONDS * 4)):  # the loop turns four times a second
        bulletin.turn(now + step / 4, has_workers=True)
    assert told(manager) == ["WATCHDOG=1"] * 4


def test_without_workers_no_life_is_shown(bulletin: Bulletin, manager: socket.socket, now: float) -> None:
    for step in range(100):
        bulletin.turn(now + step, has_workers=False)
    assert told(manager) == []


def test_a_manager_without_a_watchdog_is_spared(
    manager: socket.socket, board: Scoreboard, now: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC")
    Bulletin(board).turn(now + 60, has_workers=True)
    assert told(manager) == []


def test_a_reload_begins_with_a_sign_of_life_because_the_loop_is_about_to_stand_still(
    bulletin: Bulletin, manager: socket.socket
) -> None:
    bulletin.reloading()
    reloading, life = told(manager)
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert life == "WATCHDOG=1"


def test_a_reload_that_failed_is_told_until_one_succeeds(bulletin: Bulletin, manager: socket.socket) -> None:
    bulletin.ready()
    bulletin.reload_failed("/etc/x.toml: pool.workers: found\x1b[2J\n/etc/x.toml: and more")
    bulletin.ready()
    bulletin.reloaded([])
    bulletin.ready()
    _, failed, still, mended = told(manager)
    assert re.search(
        r"^READY=1\nSTATUS=.*; reload failed at \S+ \S+: /etc/x\.toml: pool\.workers: found\?\[2J$",
        failed,
    )
    assert "reload failed" in still
    assert "reload failed" not in mended


def test_a_new_program_that_is_not_fit_is_told(bulletin: Bulletin, manager: socket.socket) -> None:
    bulletin.upgrade_failed("no module named bqfilter")
    (message,) = told(manager)
    assert re.search(r"^READY=1\nSTATUS=.*; new program is not fit at \S+ \S+: no module named ", message)


def test_a_long_cause_is_cut(bulletin: Bulletin, manager: socket.socket) -> None:
    bulletin.reload_failed("x" * 5000)
    (message,) = told(manager)
    assert message.endswith("x" * 200 + "...")
    assert len(message) < 400


def test_keys_that_take_a_restart_are_told_until_there_are_none(
    bulletin: Bulletin, manager: socket.socket
) -> None:
    bulletin.reloaded(["runtime.user", "metrics.listen"])
    bulletin.ready()
    bulletin.reloaded([])
    bulletin.ready()
    named, nothing = told(manager)
    assert named.endswith("; restart to change runtime.user, metrics.listen")
    assert "restart to change" not in nothing


def test_stopping_asks_for_the_time_that_the_drain_may_take(
    bulletin: Bulletin, manager: socket.socket, board: Scoreboard, now: float
) -> None:
    occupy(board.slots[0], now)
    bulletin.stopping(now + 30, now)
    bulletin.turn(now + 10, has_workers=True)
    status = "STATUS=stopping: 1 workers have a message or a client to finish, at most {} s"
    assert told(manager) == [
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=38000000\n" + status.format(30),
        "WATCHDOG=1",
        status.format(20),
    ]


def test_until_load_balancers_have_heard_it_connections_are_taken(
    bulletin: Bulletin, manager: socket.socket, now: float
) -> None:
    bulletin.stopping(now + 130, now + 30)
    bulletin.turn(now + 10, has_workers=True)
    status = "STATUS=about to stop: 0 workers busy, connections taken for {} s more"
    assert told(manager) == [
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=138000000\n" + status.format(30),
        "WATCHDOG=1",
        status.format(20),
    ]


def test_what_a_manager_did_not_hear_is_said_again(
    bulletin: Bulletin, manager: socket.socket, now: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bqfilter.systemd.notify", lambda *_: False)
    bulletin.ready()
    monkeypatch.undo()
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.getsockname()))
    bulletin.turn(now + STATUS_LOOK, has_workers=False)
    (message,) = told(manager)
    assert message.startswith("STATUS=accepting: ")


def test_without_a_manager_the_scoreboard_is_not_looked_at(
    board: Scoreboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    monkeypatch.setattr("bqfilter.saturation.reader.Board.snapshot", None)
    bulletin = Bulletin(board)
    bulletin.ready()
    bulletin.turn(time.monotonic() + 60, has_workers=True)
    bulletin.reloading()
    bulletin.reload_failed("x")
    bulletin.stopping(time.monotonic(), 0.0)
