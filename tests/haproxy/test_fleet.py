"""bqfilterd behind Debian's HAProxy with the shipped configuration: mail, checks, weights, restarts."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bqfilter.config.loader import parse
from tests.doubles.components import program
from tests.doubles.programs import REPOSITORY, eventually, short_directory
from tests.haproxy.balancer import SHIPPED
from tests.haproxy.fleet import WORKERS, Fleet, Machine, fleet
from tests.net.test_proxy_protocol import tcp4
from tests.pool.scraper import scrape
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient

RECIPIENTS = ["b@example.org"]
FIN_WAIT = ("04", "05")  # of <net/tcp_states.h>, as /proc/net/tcp has them
CLIENTS = 6
# One after the other the machines are restarted so many times; more for a long look.
ROUNDS = int(os.environ.get("BQFILTER_ROLLING_ROUNDS", "1"))


@pytest.fixture(scope="module")
def haproxy() -> str:
    return program("haproxy", "haproxy")


@pytest.fixture(scope="module")
def site(haproxy: str) -> Iterator[Fleet]:
    with short_directory("bqfilter-fleet-") as directory, fleet(haproxy, directory) as made:
        yield made
        for machine in made.machines:
            assert machine.daemon.trouble() == []


def connect(site: Fleet, source: str = "") -> SmtpClient:
    """By way of HAProxy, from the MX host or another address."""
    return SmtpClient(site.balancer.address, source=source or site.mx)


def probes(machine: Machine) -> float:
    listener = f"inet:{machine.address[0]}:{machine.address[1]}"
    return scrape(machine.daemon).value("connections_probes_total", listener=listener)


def test_the_shipped_configuration_is_valid(haproxy: str) -> None:
    checked = subprocess.run([haproxy, "-c", "-f", str(SHIPPED)], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_so_is_the_other_way_to_check_that_the_manual_shows(haproxy: str, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "haproxy.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^  ```\n(  option httpchk.*?)^  ```", page, re.MULTILINE | re.DOTALL)
    text = re.sub(r"    option smtpchk.*\n", "", SHIPPED.read_text(encoding="utf-8"))
    text = re.sub(r"    default-server.*\n", shown, text)
    (tmp_path / "haproxy.cfg").write_text(text, encoding="utf-8")
    checked = subprocess.run(
        [haproxy, "-c", "-f", str(tmp_path / "haproxy.cfg")], capture_output=True, text=True
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_settings_in_the_manual_and_in_the_file_can_be_loaded() -> None:
    upstream = '[upstream]\nendpoint = "inet:127.0.0.1:10026"\n'
    page = (REPOSITORY / "docs" / "haproxy.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    head = SHIPPED.read_text(encoding="utf-8").split("\nglobal\n")[0]
    comment = "\n".join(re.findall(r"^#   (\[.*|\w+ = .*)$", head, re.MULTILINE))
    assert parse(upstream + shown, "haproxy.md") == parse(upstream + comment, "haproxy.cfg")


def test_mail_flows_and_the_log_names_the_host_that_brought_it(site: Fleet) -> None:
    before = len(site.delivered())
    with connect(site) as client:
        client.greet()
        client.expect(b"250", b"XFORWARD NAME=mail.remote.example ADDR=203.0.113.9")
        client.expect(b"250", b"MAIL FROM:<a@remote.example>")
        client.expect(b"250", b"RCPT TO:<b@example.org>")
        client.expect(b"354", b"DATA")
        assert client.end(PLAIN).startswith(b"250 2.0.0 Ok: queued")
    assert len(site.delivered()) == before + 1
    with connect(site) as client:
        client.expect(b"250", b"MAIL FROM:<a@remote.example>")
    logs = "mail.remote.example[203.0.113.9]", f"peer={site.mx}:"
    for words in logs:
        eventually(lambda words=words: any(words in one.daemon.log() for one in site.machines), words)


def test_others_are_kept_out_though_haproxy_brings_them(site: Fleet) -> None:
    with connect(site, f"{site.network}.2") as client:
        assert client.banner == b"554 5.7.1 Error: access denied"
    assert sum(f"allow list peer={site.network}.2:" in one.daemon.log() for one in site.machines) == 1


def test_checks_are_counted_as_such_and_the_after_filter_server_does_not_hear_of_them(site: Fleet) -> None:
    machine = site.machines[0]
    seen, called = probes(machine), machine.sink.connection_count
    eventually(lambda: probes(machine) >= seen + 3, "three checks more")
    assert machine.sink.connection_count == called
    row = site.balancer.server(machine.name)
    assert (row["check_status"].removeprefix("* "), row["check_code"]) == ("L7OK", "221")  # * in a check
    found = scrape(machine.daemon)
    listener = f"inet:{machine.address[0]}:{machine.address[1]}"
    for name in ("connections_abandoned_total", "connections_denied_total"):
        assert found.value(name, listener=listener) in (0, 1)  # 1: the test above
    assert "lost connection after CONNECT" not in machine.daemon.log()
    assert "client left" not in machine.daemon.log()


@contextlib.contextmanager
def all_busy(site: Fleet, machine: Machine) -> Iterator[None]:
    """Somebody else keeps all its workers busy."""
    with contextlib.ExitStack() as stack:
        for _ in range(WORKERS):
            sock = stack.enter_context(socket.create_connection(machine.address, 30))
            sock.sendall(tcp4(site.mx))
            assert sock.recv(100).startswith(b"220")
        yield


def test_weights_follow_free_workers(site: Fleet) -> None:
    first, second = site.machines[:2]
    with all_busy(site, first):
        eventually(lambda: site.balancer.weight(first.name) < 50, "a lower weight")
        assert site.balancer.weight(second.name) > 50
    eventually(lambda: site.balancer.weight(first.name) > 60, "a higher one")
    assert "agent reports an error" not in site.balancer.log()


def test_what_an_administrator_has_set_at_haproxy_stays(site: Fleet) -> None:
    """The agent speaks of weight and health alone."""
    machine = site.machines[2]
    site.balancer.order(f"set server bqfilterd/{machine.name} state drain")
    with all_busy(site, machine):
        eventually(lambda: int(site.balancer.server(machine.name)["uweight"]) < 90, "words of the agent")
    assert site.balancer.server(machine.name)["status"].startswith("DRAIN")
    site.balancer.order(f"set server bqfilterd/{machine.name} state ready")
    site.balancer.wait_for(machine.name, "UP")


def test_who_has_to_wait_waits_at_haproxy_and_may_give_up(site: Fleet) -> None:
    """Then no worker is given a connection that nobody is at the other end of."""

    def is_waiting(count: int) -> bool:
        return site.balancer.server("BACKEND")["qcur"] == str(count)

    with contextlib.ExitStack() as stack:
        for _ in range(WORKERS * len(site.machines)):
            stack.enter_context(connect(site))
        one_more = stack.enter_context(socket.create_connection(site.balancer.address, 30, (site.mx, 0)))
        eventually(lambda: is_waiting(1), "one in HAProxy's queue")
        one_more.close()
        eventually(lambda: is_waiting(0), "nobody in HAProxy's queue")
        with ThreadPoolExecutor(1) as pool:
            patient = pool.submit(connect, site)
            eventually(lambda: is_waiting(1), "another one in the queue")
            stack.pop_all().close()
            with patient.result() as client:
                assert client.banner.startswith(b"220 ")
    assert not any("client left" in one.daemon.log() for one in site.machines)


def test_who_comes_when_a_machine_has_just_died_and_the_others_are_full_waits(haproxy: str) -> None:
    """The dead one has the fewest connections; the first that it refuses is the last that it is offered."""
    before_any_check = "1h"
    with (
        short_directory("bqfilter-fleet-") as directory,
        fleet(haproxy, directory, before_any_check) as site,
        contextlib.ExitStack() as stack,
        ThreadPoolExecutor(1) as pool,
    ):
        for _ in range(WORKERS * len(site.machines)):
            stack.enter_context(connect(site))
        site.machines[1].daemon.kill()
        eventually(lambda: refuses(site.machines[1].address), "nobody listens there")
        patient = pool.submit(connect, site)
        eventually(lambda: patient.done() or site.balancer.server("BACKEND")["qcur"] == "1", "who waits")
        assert not patient.done()
        stack.close()
        with patient.result() as client:
            assert client.banner.startswith(b"220 ")


def refuses(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, 30).close()
    except ConnectionRefusedError:
        return True
    return False


def half_closed(address: tuple[str, int]) -> bool:
    """Somebody has closed a connection to this address, who is not closed by it."""
    wanted = f"{socket.inet_aton(address[0])[::-1].hex().upper()}:{address[1]:04X}"
    connections = [line.split()[2:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(remote == wanted and state in FIN_WAIT for remote, state in connections)


def test_a_client_that_leaves_is_not_delivered(site: Fleet) -> None:
    """HAProxy passes on that it has closed, before the final dot goes out."""
    before = len(site.delivered())
    with contextlib.ExitStack() as stack:
        for machine in site.machines:
            stack.enter_context(machine.sink.held("DATA"))
        with connect(site) as client:
            client.begin(SENDER, RECIPIENTS)
            client.send(PLAIN + b".\r\n")
            eventually(lambda: any(one.sink.gates["DATA"].arrived for one in site.machines), "DATA behind")
        eventually(lambda: any(half_closed(one.address) for one in site.machines), "HAProxy closing its side")
    eventually(
        lambda: any(
            "client left before its message was delivered" in one.daemon.log() for one in site.machines
        ),
        "the message is given up",
    )
    assert len(site.delivered()) == before


def test_a_machine_without_its_after_filter_server_gets_no_mail_until_it_is_back(site: Fleet) -> None:
    machine = site.machines[1]
    machine.sink.refuse("GREETING", b"421 4.3.2 not now")
    for _ in range(3):
        with socket.create_connection(machine.address, 30) as sock:
            sock.sendall(tcp4(site.mx) + b"MAIL FROM:<a@remote.example>\r\n")
            with sock.makefile("rb") as answers:
                assert answers.readline().startswith(b"220")
                assert answers.readline().startswith(b"451 4.3.0 ")
    site.balancer.wait_for(machine.name, "DOWN")
    eventually(lambda: "after-filter server out of reach" in site.balancer.log(), "the cause in its log")
    for _ in range(6):
        with connect(site) as client:
            client.expect(b"250", b"MAIL FROM:<a@remote.example>")
    del machine.sink.refusals["GREETING"]
    site.balancer.wait_for(machine.name, "UP")


class Load:
    """Clients that send one message after the other, each of them only once."""

    def __init__(self, site: Fleet) -> None:
        self._site = site
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self.verdicts: dict[bytes, bytes] = {}
        self.failures: list[str] = []

    def __enter__(self) -> "Load":
        self._pool = ThreadPoolExecutor(CLIENTS)
        for number in range(CLIENTS):
            self._pool.submit(self._send_all, number)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._pool.shutdown()

    def wait_for_more(self, count: int) -> None:
        wanted = len(self.verdicts) + count
        eventually(lambda: len(self.verdicts) >= wanted or self.failures, f"{count} messages more")

    def _send_all(self, number: int) -> None:
        count = 0
        while not self._is_over.is_set():
            count += 1
            content = b"Message-ID: <%d.%d@mx>\r\n\r\n%s\r\n" % (number, count, b"x" * 4000)
            try:
                with connect(self._site) as client:
                    client.begin(SENDER, RECIPIENTS)
                    verdict = client.end(content)
                    client.expect(b"221", b"QUIT")
            except Exception as failure:
                with self._lock:
                    self.failures.append(f"{number}.{count}: {failure!r}")
                continue
            with self._lock:
                self.verdicts[content] = verdict


def test_a_rolling_restart_under_load_refuses_loses_and_doubles_nothing(site: Fleet) -> None:
    before = len(site.delivered())
    balancer = site.balancer
    with Load(site) as load:
        load.wait_for_more(20)
        for machine in site.machines * ROUNDS:
            machine.daemon.signal(signal.SIGTERM)
            eventually(lambda name=machine.name: balancer.weight(name) == 0, "no more mail for it")
            assert balancer.server(machine.name)["last_agt"] == "via agent : up (drain)"
            load.wait_for_more(5)  # which the others take, while what this one has is finished
            eventually(lambda name=machine.name: balancer.server(name)["scur"] == "0", "nothing left to do")
            machine.stop()
            balancer.wait_for(machine.name, "DOWN")
            load.wait_for_more(5)
            machine.start()
            eventually(lambda name=machine.name: balancer.weight(name) > 0, "mail for it again")
            balancer.wait_for(machine.name, "UP")
            served = int(balancer.server(machine.name)["stot"])
            eventually(lambda m=machine, s=served: int(balancer.server(m.name)["stot"]) > s, "mail again")
    assert load.failures == []
    assert {verdict[:3] for verdict in load.verdicts.values()} == {b"250"}
    delivered = [content for content in site.delivered() if content.startswith(b"Message-ID: ")]
    assert sorted(delivered) == sorted(load.verdicts)
    assert len(site.delivered()) == before + len(load.verdicts)
    for machine in site.machines:
        assert "result=accepted" in machine.logs
