"""Files that are not there, or not whole, when settings are read again: the pool goes on as it was."""

import signal
from collections.abc import Iterator

import pytest

from tests.doubles.programs import eventually, short_directory
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, deliver, kill_hard, serving, settings_for
from tests.postfix.smtp_client import SENDER, SmtpClient
from tests.scarcity import rows
from tests.scarcity.rows import SPOILT, Row, Spoilt
from tests.scarcity.witness import METRICS, comes_to

BANNED = b"Subject: banned words\r\n\r\ntext\r\n"


@pytest.fixture(scope="module")
def pool() -> Iterator[tuple[Daemon, Sink]]:
    with short_directory("bqfilter-files-") as directory, Sink() as sink:
        table = directory / "table"
        table.write_text("/^Subject:.*banned/ REJECT no such words here\n")
        settings = settings_for(
            sink.endpoint,
            directory,
            metrics=METRICS,
            rules=[{"header_checks": [str(table)]}],
            policy=[{"name": "all"}],
        )
        with serving(directory, settings) as daemon:
            yield daemon, sink


@pytest.mark.parametrize("row", SPOILT, ids=lambda row: row.fault)
def test_a_configuration_that_cannot_be_read_changes_nothing(pool: tuple[Daemon, Sink], row: Spoilt) -> None:
    daemon, sink = pool
    good, workers = daemon.config_path.read_bytes(), daemon.wait_until_idle(2)
    with comes_to(row, daemon, sink) as told:
        daemon.config_path.unlink()
        if row.content is not None:
            daemon.config_path.write_bytes(row.content)
        refused_before = refused(daemon)
        daemon.signal(signal.SIGHUP)
        eventually(lambda: refused(daemon) > refused_before, "the reload refused")
        told.reply = deliver(daemon)
    assert daemon.wait_until_idle(2) == workers
    assert_next_reload_is_taken(daemon, good)


@pytest.mark.parametrize(
    ("row", "content"), [(rows.TABLE_GONE, None), (rows.TABLE_BINARY, b"\xff\xfe\x00/(/ \x00REJECT\n")]
)
def test_a_table_that_cannot_be_read_leaves_the_old_rules_in_force(
    pool: tuple[Daemon, Sink], row: Row, content: bytes | None
) -> None:
    daemon, sink = pool
    table = daemon.directory / "table"
    good = table.read_bytes()
    with comes_to(row, daemon, sink) as told:
        table.unlink()
        if content is not None:
            table.write_bytes(content)
        refused_before = refused(daemon)
        daemon.signal(signal.SIGHUP)
        eventually(lambda: refused(daemon) > refused_before, "the reload refused")
        told.reply = deliver(daemon)
    workers = daemon.wait_until_idle(2)
    for worker in workers:
        kill_hard(worker)
    eventually(lambda: not workers & daemon.wait_until_idle(2), "new workers")
    with SmtpClient(daemon.address) as client:
        client.begin(SENDER, ["b@example.org"])
        assert client.end(BANNED).startswith(b"550 5.7.1 Message refused: no such words here")
    table.write_bytes(good)
    assert_next_reload_is_taken(daemon, daemon.config_path.read_bytes())


def refused(daemon: Daemon) -> int:
    return daemon.log().count("error: reload failed, the old settings stay in force")


def assert_next_reload_is_taken(daemon: Daemon, content: bytes) -> None:
    generations = daemon.log().count("ready ")
    daemon.config_path.write_bytes(content)
    daemon.signal(signal.SIGHUP)
    eventually(lambda: daemon.log().count("ready ") == generations + 1, "new workers")
    daemon.wait_until_idle(2)
