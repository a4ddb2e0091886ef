"""What the demo shows of quarantine, metrics and pool, and that it notices what is wrong there."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.demo import before_filter
from bqfilter.demo.after_filter import AfterFilter
from bqfilter.demo.aftermath import Aftermath
from bqfilter.demo.daemon import Daemon
from bqfilter.demo.maildir import Maildir
from bqfilter.demo.scenes import SCENES
from bqfilter.demo.telling import Teller
from bqfilter.net.address import SocketAddress

(SPAM,) = [scene.message for scene in SCENES if "message result=quarantined" in scene.logged]
CLEAN = SCENES[0].message


@pytest.fixture
def maildir(place: Path) -> Maildir:
    return Maildir(place / "Maildir")


@pytest.fixture
def after_filter(maildir: Maildir) -> Iterator[AfterFilter]:
    server = AfterFilter(maildir)
    server.start()
    yield server
    server.close()


@pytest.fixture
def daemon(place: Path, after_filter: AfterFilter) -> Iterator[Daemon]:
    daemon = Daemon(place, after_filter.address)
    yield daemon
    daemon.stop()


def told(daemon: Daemon, maildir: Maildir) -> tuple[list[bool], str]:
    lines: list[str] = []
    results = Aftermath(daemon, maildir, Teller(lines.append)).tell(7)
    return results, "\n".join(lines)


def deliver(daemon: Daemon, message: before_filter.Message) -> None:
    start = len(daemon.log())
    before_filter.send(daemon.address, message)
    assert "message result=" in daemon.log_from(start, ["message result="])


def test_a_kept_message_is_listed_and_released_and_arrives(daemon: Daemon, maildir: Maildir) -> None:
    deliver(daemon, SPAM)
    assert maildir.messages() == []
    results, story = told(daemon, maildir)
    assert results == [True, True], story
    assert "\n7. The quarantine" in story
    assert '"You have WON"' in story
    assert ": released as " in story
    (path,) = maildir.messages()
    assert f"new/{path.name}" in story
    assert path.read_bytes().endswith(SPAM.content.replace(b"\r\n", b"\n"))
    assert "released" in daemon.run("quarantine", "list")


def test_metrics_status_and_advice_are_shown(daemon: Daemon, maildir: Maildir) -> None:
    deliver(daemon, CLEAN)
    results, story = told(daemon, maildir)
    assert results == [True, True], story
    for line in (
        'bqfilterd_messages_total{result="accepted"} 1.0',
        'bqfilterd_filter_reports_total{filter="rules",finding="clean"} 1.0',
        "messages  1 accepted, 0 quarantined",
        "workers                   34",
    ):
        assert f"    {line}" in story
    assert 'result="rejected"' not in story


def test_an_empty_quarantine_is_nothing_to_release(daemon: Daemon, maildir: Maildir) -> None:
    results, story = told(daemon, maildir)
    assert results == [True, True], story
    assert "quarantine release" not in story


def test_a_message_that_cannot_be_released_is_noticed(
    daemon: Daemon, maildir: Maildir, after_filter: AfterFilter
) -> None:
    deliver(daemon, SPAM)
    after_filter.stop()
    results, story = told(daemon, maildir)
    assert results == [False, True], story
    assert "NOT as it should be: messages that should have arrived: 1" in story


def test_a_quarantine_that_cannot_be_read_is_noticed(
    daemon: Daemon, maildir: Maildir, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = daemon.run
    monkeypatch.setattr(
        daemon, "run", lambda *words: "Error: no\n" if words[0] == "quarantine" else run(*words)
    )
    results, story = told(daemon, maildir)
    assert results == [False, True], story
    assert "    Error: no" in story
    assert "NOT as it should be: the quarantine cannot be read" in story


def test_metrics_that_do_not_count_what_the_log_tells_are_noticed(
    daemon: Daemon, maildir: Maildir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "log", lambda: "message result=accepted\nmessage result=accepted")
    results, story = told(daemon, maildir)
    assert results == [True, False], story
    assert "NOT as it should be: the log has 2 accepted, and the metrics 0" in story


def test_an_exporter_that_does_not_answer_is_noticed(daemon: Daemon, maildir: Maildir) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        daemon.exporter = SocketAddress(socket.AF_INET, bound.getsockname())
        results, story = told(daemon, maildir)
    assert results == [True, False], story
    assert "NOT as it should be: /metrics cannot be read: " in story
