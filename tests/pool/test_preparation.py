"""Before the first worker with an outfit begins: places, warnings, and a directory for the quarantine."""

from dataclasses import replace
from pathlib import Path

import pytest

from bqfilter.log import Log
from bqfilter.net.address import SocketAddress
from bqfilter.pool.outfit import SLOT_COUNT, Outfit, make_outfit
from bqfilter.pool.preparation import prepare
from bqfilter.scanning.board import ScannerBoard
from bqfilter.scoreboard import Scoreboard
from bqfilter.upstream.board import UpstreamBoard
from tests.doubles.recorder import RecordingSink
from tests.doubles.settings import settings

CLAMD = "clamd = [{endpoint = 'inet:127.0.0.1:3310'}]"


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


def outfit(sink: RecordingSink, *lines: str) -> Outfit:
    wanted = settings("runtime.hostname = 'filter.example'", "runtime.user = 'nobody'", *lines)
    made = make_outfit(wanted, [SocketAddress(2, ("127.0.0.1", 10025))], Log(sink, is_json=False))
    return replace(made, identity=None)


def test_scanners_and_servers_have_places(sink: RecordingSink) -> None:
    board = Scoreboard.anonymous(SLOT_COUNT, (), 1, 1)
    prepare(outfit(sink, CLAMD, "quarantine.quarantine_to = 'keeper@example.com'"), board)
    assert [label.name for label in ScannerBoard(board.scanners, SLOT_COUNT).labels()] == ["clamd"]
    assert [label.name for label in UpstreamBoard(board.upstreams, SLOT_COUNT).labels()] == [
        "inet:127.0.0.1:10026"
    ]


def test_who_finds_no_place_is_told(sink: RecordingSink) -> None:
    prepare(outfit(sink, CLAMD), Scoreboard.anonymous(SLOT_COUNT))
    told = [line for line in sink.alarms if "no place in the scoreboard" in line]
    assert [line.split(": ")[-1] for line in told] == [
        "scanner has no metrics until a restart scanner=clamd",
        "after-filter server has no metrics until a restart upstream=inet:127.0.0.1:10026",
    ]


def test_the_quarantine_is_made_where_something_may_be_kept(sink: RecordingSink, tmp_path: Path) -> None:
    directory, board = tmp_path / "kept", Scoreboard.anonymous(SLOT_COUNT, (), 1, 1)
    where = f"quarantine.directory = '{directory}'"
    prepare(outfit(sink, where), board)
    assert not directory.exists()
    prepare(outfit(sink, where, CLAMD.replace("}", ", on_hit = 'quarantine'}")), board)
    assert directory.is_dir()


def test_a_quarantine_that_cannot_be_made_is_a_warning(sink: RecordingSink) -> None:
    where = "quarantine.directory = '/proc/none'"
    policy = "policy = [{name = 'all', action = 'quarantine'}]"
    prepare(outfit(sink, where, policy), Scoreboard.anonymous(SLOT_COUNT, (), 1, 1))
    assert any("no quarantine directory directory=/proc/none" in line for line in sink.alarms)
