"""SIGTERM finishes what has begun and begins nothing else; SIGQUIT does not wait."""

import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest

from bqfilter.scoreboard import State
from tests.doubles.programs import eventually
from tests.doubles.sink import Sink
from tests.pool.daemon import Address, Daemon, deliver, is_gone, serving, settings_for
from tests.pool.scraper import agent_line, exporter_port, get, scrape
from tests.postfix.smtp_client import PLAIN, SENDER, Closed, SmtpClient

RECIPIENTS = ["b@example.org"]
ANY_PORT = {"listen": "inet:127.0.0.1:0"}


def refuses(address: Address | str) -> bool:
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as sock:
        try:
            sock.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except ConnectionResetError:  # caught between the two: the handshake ran while listening ended
            return False
        return False


def exit_status(daemon: Daemon) -> int:
    return daemon.process.wait(30)


def told_to_stop(daemon: Daemon) -> None:
    """SIGTERM, and wait until the daemon has begun to act on it."""
    daemon.signal(signal.SIGTERM)
    eventually(lambda: refuses(daemon.address), "a port that refuses connections")


def finished(client: SmtpClient) -> bytes:
    """What still comes before the connection is closed."""
    try:
        return client.received_until_closed()
    except Closed as closed:
        return bytes(closed.args[0])


def test_an_idle_pool_ends_at_once_and_leaves_nothing_behind(sink: Sink, directory: Path) -> None:
    path = directory / "smtp.sock"
    listen = [{"endpoint": "inet:127.0.0.1:0"}, {"endpoint": f"unix:{path}"}]
    settings = settings_for(sink.endpoint, directory, listen=listen, pool={"workers": 4})
    with serving(directory, settings) as daemon:
        workers = daemon.wait_until_idle(4)
        daemon.signal(signal.SIGTERM)
        assert exit_status(daemon) == 0
        assert all(is_gone(pid) for pid in workers)
        assert refuses(daemon.address)
        assert not path.exists()
        assert not (directory / "run" / "bqfilterd.pid").exists()
        assert "stopped" in daemon.log()
        assert "died" not in daemon.log()
        assert daemon.trouble() == []


def test_the_interrupt_key_does_the_same(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        for pid in [daemon.process.pid, *daemon.workers()]:  # a terminal sends it to all
            with contextlib.suppress(ProcessLookupError):  # told to end by the first already
                os.kill(pid, signal.SIGINT)
        assert exit_status(daemon) == 0
        assert daemon.trouble() == []


@pytest.mark.parametrize("times", [1, 2])
def test_a_message_whose_end_has_arrived_is_delivered_and_answered(
    times: int, sink: Sink, directory: Path
) -> None:
    with serving(directory, settings_for(sink.endpoint, directory, pool={"workers": 3})) as daemon:
        workers = daemon.wait_until_idle(3)
        with SmtpClient(daemon.address) as client:
            client.begin(SENDER, RECIPIENTS)
            with sink.held("."):
                client.send(PLAIN + b".\r\n")
                sink.wait_until_held(".")
                busy = daemon.the_busy_one()
                for _ in range(times):
                    told_to_stop(daemon)
                eventually(lambda: all(is_gone(pid) for pid in workers - {busy}), "the idle ones gone")
                assert not is_gone(busy)
            assert client.reply().startswith(b"250 2.0.0 Ok: queued as")
        assert exit_status(daemon) == 0
        assert [message.content for message in sink.messages] == [PLAIN]
        assert "died" not in daemon.log()


def test_a_message_that_is_on_its_way_is_finished(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        with SmtpClient(daemon.address) as client:
            client.begin(SENDER, RECIPIENTS)
            told_to_stop(daemon)
            assert client.end(PLAIN).startswith(b"250")
        assert exit_status(daemon) == 0


def test_a_session_between_two_messages_is_closed(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory)
    with serving(directory, settings) as daemon, SmtpClient(daemon.address) as client:
        client.begin(SENDER, RECIPIENTS)
        client.end(PLAIN)
        daemon.signal(signal.SIGTERM)
        assert exit_status(daemon) == 0
        assert finished(client)[:3] in (b"", b"221", b"421")


def test_a_session_that_has_said_nothing_yet_is_closed(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory)
    with serving(directory, settings) as daemon, SmtpClient(daemon.address) as client:
        daemon.signal(signal.SIGTERM)
        assert exit_status(daemon) == 0
        assert finished(client) == b""


def test_a_second_message_is_not_begun(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory, timeouts={"client_drain": "20s"})
    with serving(directory, settings) as daemon:
        with SmtpClient(daemon.address) as client:
            client.begin(SENDER, RECIPIENTS)
            client.end(PLAIN)
            told_to_stop(daemon)
            eventually(lambda: next_is_refused(client), "no message any more")  # its worker hears of it last
        assert exit_status(daemon) == 0
        assert len(sink.messages) == 1


def next_is_refused(client: SmtpClient) -> bool:
    """With 451, or by having been closed: whether it was waiting already is a matter of chance."""
    try:
        answer = client.command(b"MAIL FROM:<a@example.org>")
        if answer.startswith(b"250"):
            client.expect(b"250", b"RSET")
    except (Closed, OSError):
        return True
    assert answer[:3] in (b"250", b"451")
    return answer.startswith(b"451")


def test_a_message_that_takes_longer_than_the_drain_timeout_is_cut_short(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory, runtime={"drain_timeout": "500ms"})
    with serving(directory, settings) as daemon, SmtpClient(daemon.address) as client:
        client.begin(SENDER, RECIPIENTS)
        client.send(b"the end never comes")
        daemon.signal(signal.SIGTERM)
        assert exit_status(daemon) == 0
        assert finished(client) == b""
    assert sink.messages == []


def test_connections_that_come_too_late_are_refused_and_not_left_hanging(sink: Sink, directory: Path) -> None:
    path = str(directory / "smtp.sock")
    listen = [{"endpoint": "inet:127.0.0.1:0"}, {"endpoint": f"unix:{path}"}]
    settings = settings_for(sink.endpoint, directory, listen=listen, pool={"workers": 1})
    with serving(directory, settings) as daemon:
        with SmtpClient(daemon.address) as client, contextlib.ExitStack() as stack:
            client.begin(SENDER, RECIPIENTS)
            queued = stack.enter_context(socket.create_connection(daemon.address, 30))
            told_to_stop(daemon)
            assert refuses(path)
            with contextlib.suppress(ConnectionResetError):
                assert queued.recv(100) == b""
            assert client.end(PLAIN).startswith(b"250")
        assert exit_status(daemon) == 0


def test_load_balancers_are_told_before_the_door_is_shut(sink: Sink, directory: Path) -> None:
    """Who is asked says 503 and 0%, and whoever comes all the same is served."""
    settings = settings_for(
        sink.endpoint, directory, runtime={"drain_delay": "1h"}, metrics=ANY_PORT, agent=ANY_PORT
    )
    with serving(directory, settings) as daemon:
        exporter_port(daemon)
        eventually(lambda: agent_line(daemon) == "up 100%\n", "an agent that is content")
        daemon.signal(signal.SIGTERM)
        daemon.wait_for_log("about to stop, still taking connections delay=3600")
        eventually(lambda: agent_line(daemon) == "up 0% # drain\n", "the agent's word of it")
        page = get(daemon, "/-/ready")
        assert (page.status, page.text) == (503, "the pool is being drained\n")
        assert get(daemon, "/-/healthy").status == 200
        assert scrape(daemon).value("draining") == 1
        assert deliver(daemon).startswith(b"250")
        os.kill(next(iter(daemon.wait_until_idle(2))), signal.SIGKILL)
        daemon.wait_for_log("worker died")
        daemon.wait_until_idle(2)  # it is replaced, as on any other day
        daemon.signal(signal.SIGHUP)  # too late for that
        told_to_stop(daemon)
        assert exit_status(daemon) == 0
        assert "generation=2" not in daemon.log()
        assert daemon.trouble() == []


def test_the_door_is_shut_by_itself_when_they_have_had_their_time(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory, runtime={"drain_delay": "300ms"})
    with serving(directory, settings) as daemon:
        with SmtpClient(daemon.address) as client:
            client.begin(SENDER, RECIPIENTS)
            told_to_stop(daemon)
            assert daemon.log().index("about to stop") < daemon.log().index("stopping workers=2")
            assert client.end(PLAIN).startswith(b"250")
        assert exit_status(daemon) == 0


def test_sigquit_ends_everything_at_once(sink: Sink, directory: Path) -> None:
    path = directory / "smtp.sock"
    listen = [{"endpoint": "inet:127.0.0.1:0"}, {"endpoint": f"unix:{path}"}]
    with serving(directory, settings_for(sink.endpoint, directory, listen=listen)) as daemon:
        workers = daemon.wait_until_idle(2)
        with SmtpClient(daemon.address) as client, sink.held("."):
            client.begin(SENDER, RECIPIENTS)
            client.send(PLAIN + b".\r\n")
            sink.wait_until_held(".")
            daemon.signal(signal.SIGQUIT)
            assert exit_status(daemon) == 0
            assert finished(client) == b""
        assert all(is_gone(pid) for pid in workers)
        assert not path.exists()


def test_sigquit_cuts_a_drain_short(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory)
    with serving(directory, settings) as daemon, SmtpClient(daemon.address) as client, sink.held("."):
        client.begin(SENDER, RECIPIENTS)
        client.send(PLAIN + b".\r\n")
        sink.wait_until_held(".")
        told_to_stop(daemon)
        daemon.signal(signal.SIGQUIT)
        assert exit_status(daemon) == 0


def test_a_worker_that_does_not_hear_is_killed_in_the_end(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory, runtime={"drain_timeout": "200ms"})
    with serving(directory, settings) as daemon:
        stopped = min(daemon.wait_until_idle(2))
        os.kill(stopped, signal.SIGSTOP)
        daemon.signal(signal.SIGTERM)
        assert exit_status(daemon) == 0
        assert is_gone(stopped)


def test_a_reload_while_draining_changes_nothing(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        with SmtpClient(daemon.address) as client:
            client.begin(SENDER, RECIPIENTS)
            told_to_stop(daemon)
            daemon.signal(signal.SIGHUP)
            eventually(lambda: len(daemon.workers()) == 1, "the idle worker gone")
            assert not daemon.pids(State.STARTING)
            assert client.end(PLAIN).startswith(b"250")
        assert exit_status(daemon) == 0
