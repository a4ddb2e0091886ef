"""Who serves whom: how connections reach workers, what they are told, and what onlookers see of it."""

import contextlib
import fcntl
import grp
import os
import re
import select
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bqfilter.ledger import Stage
from bqfilter.scoreboard import State, Word
from tests.doubles.programs import eventually, title_of
from tests.doubles.sink import Sink
from tests.pool.daemon import (
    Address,
    Daemon,
    deliver,
    is_asleep,
    launched,
    needs_root,
    serving,
    settings_for,
    status_of,
)
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient


@contextlib.contextmanager
def queued(address: Address | str, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A connection whose greeting nobody waits for."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        sock.settimeout(30)
        if family == socket.AF_INET:
            sock.bind((source, 0))
        sock.connect(address)
        yield sock


def everything_from(sock: socket.socket) -> bytes:
    pieces = []
    while piece := sock.recv(4096):
        pieces.append(piece)
    return b"".join(pieces)


def visit(address: Address) -> None:
    """Connect, and part in good order without a message."""
    with SmtpClient(address) as client:
        client.send(b"QUIT\r\n")
        client.received_until_closed()


def rest(daemon: Daemon, workers: set[int]) -> None:
    """Wait until all workers are back in their wait for connections."""
    daemon.wait_until_idle(len(workers))
    eventually(lambda: all(is_asleep(pid) for pid in workers), "sleeping workers")


def wakeups(pids: set[int]) -> int:
    return sum(int(status_of(pid)["voluntary_ctxt_switches"][0]) for pid in pids)


# Who sleeps wakes up every few seconds by himself, on a slow machine as often as in a herd.
WITHOUT_TICKS = "from bqfilter.pool import worker\nworker._TICK = 3600"


def test_every_worker_serves(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory, pool={"workers": 4})
    with serving(directory, settings) as daemon, contextlib.ExitStack() as clients:
        workers = daemon.wait_until_idle(4)
        for _ in range(4):
            clients.enter_context(SmtpClient(daemon.address))
        assert daemon.pids(State.BUSY) == workers == daemon.workers()


def test_a_message_passes_and_is_counted(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        assert deliver(daemon).startswith(b"250 2.0.0 Ok: queued as")
        daemon.wait_until_idle(2)
        assert [message.content for message in sink.messages] == [PLAIN]
        assert (daemon.total(Word.SESSIONS), daemon.total(Word.ACCEPTED)) == (1, 1)
        assert daemon.trouble() == []


def test_one_connection_at_a_time_keeps_one_worker_warm_and_lets_the_others_sleep(
    sink: Sink, directory: Path
) -> None:
    settings = settings_for(sink.endpoint, directory, pool={"workers": 8})
    with serving(directory, settings, prelude=WITHOUT_TICKS) as daemon:
        workers = daemon.wait_until_idle(8)
        rest(daemon, workers)
        before = {pid: wakeups({pid}) for pid in workers}
        for _ in range(80):
            visit(daemon.address)
            rest(daemon, workers)
        shares = sorted((slot[Word.SESSIONS], slot[Word.PID]) for slot in daemon.slots() if slot[Word.PID])
        assert sum(share for share, _ in shares) == 80
        assert shares[-1][0] >= 72
        asleep = {pid for share, pid in shares if share == 0}
        assert len(asleep) >= 4
        # A herd would wake every one of them 80 times.
        assert max(wakeups({pid}) - before[pid] for pid in asleep) < 20


def test_titles_show_slot_stage_and_peer(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        assert title_of(daemon.process.pid) == f"bqfilterd: master {daemon.config_path}"
        workers, titles = daemon.wait_until_idle(2), {"bqfilterd: worker 0 idle", "bqfilterd: worker 1 idle"}
        eventually(lambda: {title_of(pid) for pid in workers} == titles, "titles of their own")
        with SmtpClient(daemon.address) as client:
            pid = daemon.the_busy_one()
            eventually(lambda: re.search(r"worker \d greeting 127\.0\.0\.1:\d+$", title_of(pid)), "greeting")
            client.greet()
            client.expect(b"250", b"MAIL FROM:<a@example.org>")
            eventually(lambda: " envelope 127.0.0.1:" in title_of(pid), "envelope")
            client.expect(b"250", b"RCPT TO:<b@example.org>")
            client.expect(b"354", b"DATA")
            eventually(lambda: " data 127.0.0.1:" in title_of(pid), "data")
            with sink.held("."):
                client.send(b"\r\n.\r\n")
                eventually(lambda: " handover 127.0.0.1:" in title_of(pid), "handover")
        eventually(lambda: re.search(r"worker \d idle$", title_of(pid)), "idle")


def test_the_scoreboard_shows_the_stage_and_its_limit(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory, timeouts={"client_idle": "100s"})
    with serving(directory, settings) as daemon, SmtpClient(daemon.address) as client:
        pid = daemon.the_busy_one()
        client.begin(SENDER, ["b@example.org"])
        (slot,) = eventually(
            lambda: [s for s in daemon.slots() if s[Word.PID] == pid and s.stage is Stage.DATA],
            "a slot in data",
        )
        assert slot.seconds(Word.UNTIL) == pytest.approx(slot.seconds(Word.STAGE_SINCE) + 100, abs=1)
        assert 0 < slot.seconds(Word.SESSION_SINCE) <= slot.seconds(Word.STAGE_SINCE) <= time.monotonic()


def test_neither_the_master_nor_a_worker_has_threads(sink: Sink, directory: Path) -> None:
    with serving(directory, settings_for(sink.endpoint, directory)) as daemon:
        deliver(daemon)
        for pid in [daemon.process.pid, *daemon.workers()]:
            assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 1


@needs_root
def test_workers_are_nobody_for_good_and_in_no_group_of_roots(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory)
    with serving(directory, settings, groups=[0, 4]) as daemon:
        for pid in daemon.wait_until_idle(2):
            status = status_of(pid)
            assert status["Uid"] == ["65534"] * 4
            assert status["Gid"] == ["65534"] * 4
            assert set(status["Groups"]) <= {"65534"}
            assert int(status["CapEff"][0], 16) == int(status["CapPrm"][0], 16) == 0


@needs_root
def test_what_the_workers_can_reach_in_the_runtime_directory_cannot_turn_the_master_against_the_system(
    sink: Sink, directory: Path
) -> None:
    victim = directory / "victim"
    victim.write_text("precious")
    (directory / "run").mkdir()
    (directory / "run" / "bqfilterd.pid").symlink_to(victim)
    (directory / "run" / "scoreboard.new").symlink_to(victim)
    with serving(directory, settings_for(sink.endpoint, directory)):
        assert victim.read_text() == "precious"


def test_peers_outside_the_list_get_554_and_those_inside_are_served(sink: Sink, directory: Path) -> None:
    listen = [{"endpoint": "inet:127.0.0.1:0", "allow": ["127.0.0.2/32"]}]
    with serving(directory, settings_for(sink.endpoint, directory, listen=listen)) as daemon:
        with queued(daemon.address) as stranger:
            assert everything_from(stranger) == b"554 5.7.1 Error: access denied\r\n"
        with queued(daemon.address, source="127.0.0.2") as friend:
            assert friend.recv(4096).startswith(b"220 ")
        daemon.wait_for_log(r"peer is not in the allow list peer=127\.0\.0\.1:")
        eventually(lambda: daemon.total(Word.DENIED) == 1, "one peer denied")


def test_a_unix_listener_has_its_mode_and_group_and_carries_mail(sink: Sink, directory: Path) -> None:
    group = grp.getgrgid(os.getgid()).gr_name
    path = directory / "smtp.sock"
    listen = [{"endpoint": f"unix:{path}", "mode": "0620", "group": group}]
    with serving(directory, settings_for(sink.endpoint, directory, listen=listen)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o620
        assert path.stat().st_gid == os.getgid()
        with queued(str(path)) as client:
            client.sendall(b"EHLO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
            talk = client.recv(4096)
            while b"354 " not in talk:
                talk += client.recv(4096)
            client.sendall(b"x\r\n.\r\nQUIT\r\n")
            assert b"250 2.0.0 Ok: queued as" in everything_from(client)
    assert [message.content for message in sink.messages] == [b"x\r\n"]


def test_who_has_waited_longest_is_next_whichever_listener_that_is_at(sink: Sink, directory: Path) -> None:
    """At the most one connection of each other listener is served before it that came later."""
    listen = [{"endpoint": "inet:127.0.0.1:0"}, {"endpoint": "inet:127.0.0.1:0"}]
    settings = settings_for(sink.endpoint, directory, listen=listen, pool={"workers": 1})
    with serving(directory, settings) as daemon, contextlib.ExitStack() as stack:
        ports = re.findall(r"127\.0\.0\.1:(\d+)", daemon.wait_for_log(r" listen=(\S+)")[1])
        addresses = [("127.0.0.1", int(port)) for port in ports]
        with SmtpClient(addresses[0]):  # it keeps the only worker busy while the others line up
            waiting = {}
            for number, address in enumerate([addresses[0]] * 6 + [addresses[1]] * 6):
                waiting[stack.enter_context(queued(address))] = number
                time.sleep(0.02)  # the kernel counts in ticks
        order = []
        while waiting:
            (served, *_), _, _ = select.select(list(waiting), [], [], 30)
            order.append(waiting.pop(served))
            served.sendall(b"QUIT\r\n")
            everything_from(served)
        overtaken = [sum(other > one for other in order[:place]) for place, one in enumerate(order)]
        assert max(overtaken) <= 1, order


def test_listeners_take_turns_where_one_of_them_does_not_tell_how_long_one_has_waited(
    sink: Sink, directory: Path
) -> None:
    path = str(directory / "smtp.sock")
    listen = [{"endpoint": "inet:127.0.0.1:0"}, {"endpoint": f"unix:{path}"}]
    settings = settings_for(sink.endpoint, directory, listen=listen, pool={"workers": 1})
    with serving(directory, settings) as daemon, contextlib.ExitStack() as stack:
        with SmtpClient(daemon.address):  # it keeps the only worker busy while the others line up
            waiting = {}
            for name, address in [("inet", daemon.address), ("unix", path)] * 5:
                waiting[stack.enter_context(queued(address))] = name
        order = []
        while waiting:
            (served, *_), _, _ = select.select(list(waiting), [], [], 30)
            order.append(waiting.pop(served))
            served.sendall(b"QUIT\r\n")
            everything_from(served)
        assert {order[0], order[1]} == {"inet", "unix"}
        assert order == order[:2] * 5


# Who leaves so soon is taken for a health check; here it is a Postfix.
IMPATIENT = "from bqfilter.pool import reception\nreception._SHORTEST_PATIENCE = 0.0"


def test_connections_closed_while_they_waited_are_dropped_and_counted(sink: Sink, directory: Path) -> None:
    path = str(directory / "smtp.sock")
    listen = [{"endpoint": "inet:127.0.0.1:0"}, {"endpoint": f"unix:{path}"}]
    settings = settings_for(sink.endpoint, directory, listen=listen, pool={"workers": 1})
    with serving(directory, settings, prelude=IMPATIENT) as daemon:
        with SmtpClient(daemon.address):
            for address in [daemon.address, path, daemon.address]:
                with queued(address):
                    pass
        visit(daemon.address)
        daemon.wait_until_idle(1)
        assert daemon.total(Word.ABANDONED) == 3
        assert len(re.findall("client left before it was greeted", daemon.log())) == 3
        assert sink.connection_count == 0


def test_the_wait_for_a_worker_is_in_the_log_line_and_in_the_scoreboard(sink: Sink, directory: Path) -> None:
    settings = settings_for(sink.endpoint, directory, pool={"workers": 1})
    with serving(directory, settings) as daemon:
        with SmtpClient(daemon.address) as first:
            connecting = time.monotonic()
            with queued(daemon.address) as second:
                connected = time.monotonic()
                eventually(lambda: time.monotonic() > connected + 0.3, "a while in the queue")
                least = time.monotonic() - connected
                first.send(b"QUIT\r\n")
                second.recv(4096)
                most = time.monotonic() - connecting
                for line in (b"EHLO c", b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.org>", b"DATA"):
                    second.sendall(line + b"\r\n")
                    second.recv(4096)
                second.sendall(b".\r\n")
                assert second.recv(4096).startswith(b"250")
        waited = int(daemon.wait_for_log(r" wait=(\d+)")[1]) / 1000
        assert least - 0.02 <= waited <= most + 0.02  # the kernel counts in ticks
        daemon.wait_until_idle(1)
        assert daemon.total(Word.QUEUED) == 1
        assert daemon.seconds_waited() >= waited  # that of the first one is in it too


SCARCE_DESCRIPTORS = """
import os, resource
from bqfilter.net.listeners import Listener
accept = Listener.accept
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)

def accept_in_scarcity(self):
    resource.setrlimit(resource.RLIMIT_NOFILE, (3 if os.path.exists("{flag}") else most, most))
    return accept(self)

Listener.accept = accept_in_scarcity
"""


def test_a_worker_out_of_descriptors_says_so_and_loses_no_connection(sink: Sink, directory: Path) -> None:
    flag = directory / "scarce"
    settings = settings_for(sink.endpoint, directory, pool={"workers": 1})
    with serving(directory, settings, prelude=SCARCE_DESCRIPTORS.format(flag=flag)) as daemon:
        daemon.wait_until_idle(1)
        flag.touch()
        with queued(daemon.address) as client:
            daemon.wait_for_log(r"error: cannot accept connections .*Too many open files")
            flag.unlink()
            assert client.recv(4096).startswith(b"220 ")


def test_a_pool_without_a_runtime_directory_serves(sink: Sink, directory: Path) -> None:
    (directory / "file").write_text("")
    settings = settings_for(sink.endpoint, directory, runtime={"directory": str(directory / "file" / "run")})
    with serving(directory, settings) as daemon:
        assert deliver(daemon).startswith(b"250")
        assert "no scoreboard file, statistics stay inside" in daemon.log()
        assert daemon.stop() == 0


def test_mail_flows_on_while_nobody_reads_the_log(sink: Sink, directory: Path) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, reading)
        settings = settings_for(sink.endpoint, directory, pool={"workers": 1})
        daemon = stack.enter_context(launched(directory, settings, stderr=writing))
        os.close(writing)
        start = b""
        while b" ready " not in start:
            start += os.read(reading, 4096)
        (daemon.directory / "log").write_bytes(start)
        for _ in range(40):  # more lines than the pipe holds
            assert deliver(daemon).startswith(b"250")
        assert len(sink.messages) == 40
        daemon.wait_until_idle(1)
        stuck = os.read(reading, 4096)
        assert stuck.count(b"result=accepted") < 40
        deliver(daemon)
        assert b"log was stuck, lines dropped count=" in os.read(reading, 4096)
