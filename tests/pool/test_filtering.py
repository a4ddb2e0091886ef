"""A running pool whose scanners fail, in every way that a scanner can: messages are answered all the same."""

import base64
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bqfilter.scoreboard import State
from tests.daemons.private_clamd import private_clamd
from tests.daemons.private_spamd import private_spamd
from tests.daemons.process import Daemon as ScanningDaemon
from tests.doubles.programs import eventually
from tests.doubles.rspamd import running_rspamd
from tests.doubles.scanning_daemon import Talk, hang, hear, reset, say, scripted_daemon, trickle
from tests.doubles.sink import Sink
from tests.pool.daemon import Daemon, serving, settings_for, status_of
from tests.pool.scraper import scrape
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient

NOBODY = 65534
END_OF_STREAM = b"\0\0\0\0"  # of clamd's INSTREAM
# Scanners have 0.9 * (30 - 20 - 8) seconds; whoever plays Postfix here gives up after the 30.
BUDGET = {"proxy_timeout": "30s", "margin": "20s", "commit_reserve": "8s"}
PROXY_TIMEOUT = 30.0
FOREVER = "500s"  # longer than any budget here

Settings = dict[str, Any]


def scanner(kind: str, endpoint: str, **keys: Any) -> Settings:
    """One array of one scanner, named after its kind, that never stops being asked."""
    return {kind: [{"name": kind, "endpoint": endpoint, "timeout": FOREVER, "failures": 0, **keys}]}


def spared() -> Settings:
    """A policy whose recipients' mail no scanner sees."""
    return {"name": "spared", "recipients": ["@spared.example"], "scanners": []}


def submit(daemon: Daemon, content: bytes = PLAIN, recipient: str = "b@example.org") -> bytes:
    """A whole message, by somebody as patient as Postfix; the verdict."""
    with SmtpClient(daemon.address, PROXY_TIMEOUT) as client:
        client.begin(SENDER, [recipient])
        return client.end(content)


def inet(address: tuple[str, int]) -> str:
    return "inet:{}:{}".format(*address)


# Faults, as what a scripted daemon does with every connection. The one that is not there has no daemon.

FAULTS: dict[str, tuple[Callable[[Talk], None], ...]] = {
    "hung": (hang,),
    "slow": (trickle(b"x"),),
    "garbled": (say(bytes(range(256)) * 8, b"\r\n" * 40),),
    "mute": (say(b""),),
    "reset": (reset,),
}
KINDS = ("clamd", "spamd", "rspamd")


@dataclass
class Broken:
    """Scanners, one of each kind with each fault, and as many policies that ask a single one of them."""

    tables: dict[str, list[Settings]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    policies: list[Settings] = field(default_factory=list)

    def add(self, kind: str, fault: str, on_error: str, endpoint: str) -> None:
        name = f"{kind}-{fault}-{on_error}"
        self.tables[kind] += scanner(kind, endpoint, name=name, on_error=on_error, timeout="1s")[kind]
        self.policies.append({"name": name, "recipients": [f"@{name}.example"], "scanners": [name]})

    @property
    def names(self) -> list[str]:
        return [policy["name"] for policy in self.policies]


@pytest.fixture
def broken() -> Iterator[Broken]:
    all_of_them = Broken()
    with contextlib.ExitStack() as running:
        endpoints = {"absent": "unix:/nonexistent/scanner.sock"}
        for fault, steps in FAULTS.items():
            endpoints[fault] = str(running.enter_context(scripted_daemon(*steps)).address)
        for kind in KINDS:
            for fault, endpoint in endpoints.items():
                for on_error in ("defer", "pass"):
                    all_of_them.add(kind, fault, on_error, endpoint)
        yield all_of_them


def test_whatever_is_wrong_with_a_scanner_a_message_is_answered_as_on_error_says(
    sink: Sink, directory: Path, broken: Broken
) -> None:
    settings = settings_for(
        sink.endpoint, directory, pool={"workers": len(broken.names) + 1},
        policy=[spared(), *broken.policies], **broken.tables,
    )  # fmt: skip
    with serving(directory, settings) as daemon, ThreadPoolExecutor(len(broken.names)) as pool:
        runs = {name: pool.submit(submit, daemon, PLAIN, f"someone@{name}.example") for name in broken.names}
        assert submit(daemon, recipient="x@spared.example").startswith(b"250")
        verdicts = {name: run.result()[:9] for name, run in runs.items()}
        daemon.wait_for_results(len(broken.names) + 1)
        assert daemon.trouble() == []
        assert daemon.log().count("warning: not scanned") == len(broken.names)

    assert verdicts == {
        name: b"451 4.3.0" if name.endswith("-defer") else verdicts[name] for name in broken.names
    }
    passed = [name for name in broken.names if name.endswith("-pass")]
    assert {name for name, verdict in verdicts.items() if verdict.startswith(b"250")} == set(passed)
    delivered = {message.recipients[0]: message.content for message in sink.messages}
    assert len(delivered) == len(sink.messages) == len(passed) + 1
    for name in passed:
        content = delivered[b"RCPT TO:<someone@%b.example>" % name.encode()]
        assert content.startswith(
            b"X-Bqfilter-Report: filter.example;\r\n\taction=accept;\r\n\t%b=error\r\n" % name.encode()
        )
        assert content.endswith(b"\r\n" + PLAIN)


def test_scanners_that_all_hang_share_one_budget_and_the_client_has_its_answer_in_time(
    sink: Sink, directory: Path
) -> None:
    with scripted_daemon(hang) as fake:
        scanners = {kind: scanner(kind, str(fake.address))[kind] for kind in KINDS}
        settings = settings_for(sink.endpoint, directory, budget=BUDGET, **scanners)
        with serving(directory, settings) as daemon:
            assert submit(daemon).startswith(b"451 4.3.0 ")
            assert submit(daemon).startswith(b"451 4.3.0 ")
            assert daemon.log().count('cause="no time left for it"') == 4
            assert len(fake.talks) == 2
    assert not sink.messages


class Clamd:
    """Steps of a clamd that finds everything clean, or while `is_broken` says nothing."""

    def __init__(self) -> None:
        self.is_broken = False

    def __call__(self, talk: Talk) -> None:
        if not self.is_broken:
            hear(END_OF_STREAM)(talk)
            say(b"stream: OK\0")(talk)


LARGE = (
    b"Subject: large\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=cut\r\n\r\n--cut\r\n"
    b"Content-Type: application/octet-stream; name=a.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.encodebytes(bytes(range(256)) * (7 << 12)).replace(b"\n", b"\r\n") + b"--cut--\r\n"
)  # fmt: skip


def largest_kib(pid: int) -> int:
    """The most memory that a process ever had."""
    return int(status_of(pid)["VmHWM"][0])


def submit_by(daemon: Daemon, count: int) -> list[bytes]:
    """So many messages, each by a worker of its own, one after the other; the verdicts."""
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(SmtpClient(daemon.address, PROXY_TIMEOUT)) for _ in range(count)]
        for client in clients:
            client.begin(SENDER, ["b@example.org"])
        return [client.end(PLAIN)[:3] for client in clients]


def test_a_scanner_that_fails_is_left_alone_by_the_whole_pool_until_it_is_back(
    sink: Sink, directory: Path
) -> None:
    clamd = Clamd()
    with scripted_daemon(clamd) as fake:

        def settings(retry: str) -> Settings:
            return settings_for(
                sink.endpoint, directory, pool={"workers": 4}, metrics={"listen": "inet:127.0.0.1:0"},
                **scanner("clamd", str(fake.address), failures=3, retry=retry),
            )  # fmt: skip

        with serving(directory, settings("50s")) as daemon:
            assert submit_by(daemon, 4) == [b"250"] * 4
            assert len(fake.talks) == 4
            clamd.is_broken = True
            assert submit_by(daemon, 4) == [b"451"] * 4
            assert len(fake.talks) == 7  # the fourth worker has seen none fail, and knows
            assert submit_by(daemon, 4) == [b"451"] * 4
            assert len(fake.talks) == 7
            daemon.wait_for_results(12)
            samples = scrape(daemon)
            assert samples.value("filter_breaker_open", filter="clamd") == 1
            assert samples.value("filter_reports_total", filter="clamd", finding="clean") == 4
            assert samples.value("filter_reports_total", filter="clamd", finding="error") == 3
            assert samples.value("filter_reports_total", filter="clamd", finding="unscanned") == 5

            daemon.configure(settings("100ms"))
            daemon.signal(signal.SIGHUP)
            daemon.wait_for_generation(2)
            eventually(lambda: submit(daemon) and len(fake.talks) > 7, "it is tried again")
            clamd.is_broken = False
            eventually(lambda: submit(daemon).startswith(b"250"), "it is back")
            asked = len(fake.talks)
            assert submit_by(daemon, 4) == [b"250"] * 4
            assert len(fake.talks) == asked + 4
            assert scrape(daemon).value("filter_breaker_open", filter="clamd") == 0
            assert daemon.trouble() == []


@pytest.mark.parametrize(
    ("fault", "timeout", "count"),
    [
        pytest.param("hung", "200ms", 1, id="hangs"),
        pytest.param("slow", "200ms", 1, id="is slow"),
        pytest.param("mute", FOREVER, 1, id="hangs up"),
        pytest.param("reset", FOREVER, 1, id="resets"),
        pytest.param("garbled", FOREVER, 3, id="answers nonsense, which may be the message's fault"),
    ],
)
def test_which_failures_make_it_be_left_alone(
    sink: Sink, directory: Path, fault: str, timeout: str, count: int
) -> None:
    with scripted_daemon(*FAULTS[fault]) as fake:
        keys = scanner("clamd", str(fake.address), failures=1, retry=FOREVER, timeout=timeout)
        with serving(directory, settings_for(sink.endpoint, directory, **keys)) as daemon:
            assert [submit(daemon)[:3] for _ in range(3)] == [b"451"] * 3
            assert len(fake.talks) == count


def test_a_scanner_that_holds_a_worker_does_not_hold_the_mail_that_it_is_not_for(
    sink: Sink, directory: Path
) -> None:
    with scripted_daemon(hang) as fake:
        settings = settings_for(
            sink.endpoint, directory, policy=[spared()], budget=BUDGET, **scanner("clamd", str(fake.address))
        )
        with serving(directory, settings) as daemon, ThreadPoolExecutor(1) as pool:
            held = pool.submit(submit, daemon)
            eventually(lambda: fake.talks, "the scanner is being asked")
            verdicts = [submit(daemon, recipient="x@spared.example")[:3] for _ in range(20)]
            assert verdicts == [b"250"] * 20
            assert held.result().startswith(b"451 4.3.0 ")


def test_a_message_that_is_being_looked_at_is_finished_before_the_end(sink: Sink, directory: Path) -> None:
    goes_on = threading.Event()

    def wait(_talk: Talk) -> None:
        goes_on.wait(PROXY_TIMEOUT)

    with scripted_daemon(hear(END_OF_STREAM), wait, say(b"stream: OK\0")) as fake:
        settings = settings_for(sink.endpoint, directory, **scanner("clamd", str(fake.address)))
        with serving(directory, settings) as daemon, ThreadPoolExecutor(1) as pool:
            held = pool.submit(submit, daemon)
            eventually(lambda: fake.talks, "the scanner is being asked")
            daemon.signal(signal.SIGTERM)
            eventually(lambda: not daemon.pids(State.IDLE), "the other workers gone")
            goes_on.set()
            assert held.result().startswith(b"250")
            assert daemon.process.wait(PROXY_TIMEOUT) == 0
    assert len(sink.messages) == 1


def test_a_scanner_that_never_answers_does_not_hold_up_the_end(sink: Sink, directory: Path) -> None:
    with scripted_daemon(hang) as fake:
        settings = settings_for(
            sink.endpoint,
            directory,
            runtime={"drain_timeout": "500ms"},
            **scanner("clamd", str(fake.address)),
        )
        with serving(directory, settings) as daemon, SmtpClient(daemon.address, PROXY_TIMEOUT) as client:
            client.begin(SENDER, ["b@example.org"])
            client.send(PLAIN + b".\r\n")
            eventually(lambda: fake.talks, "the scanner is being asked")
            daemon.signal(signal.SIGTERM)
            assert not client.received_until_closed().startswith(b"2")
            assert daemon.process.wait(PROXY_TIMEOUT) == 0
    assert not sink.messages


def test_scanners_and_policies_that_a_reload_changes_lose_no_message(sink: Sink, directory: Path) -> None:
    def submit_until_enough() -> list[bytes]:
        verdicts = []
        while not enough.is_set():
            verdicts.append(submit(daemon)[:3])
        return verdicts

    enough = threading.Event()
    with scripted_daemon(Clamd()) as one, scripted_daemon(Clamd()) as other:
        variants: list[Settings] = [
            scanner("clamd", str(one.address)),
            {"policy": [spared(), {"name": "new", "copy_to": ["archive@example.org"], "scanners": []}]},
            {**scanner("clamd", str(other.address), name="second"), "policy": [spared()]},
            {},
        ]
        base = {"pool": {"workers": 3}}
        settings = [settings_for(sink.endpoint, directory, **base, **variant) for variant in variants]
        with serving(directory, settings[0]) as daemon, ThreadPoolExecutor(3) as pool:
            runs = [pool.submit(submit_until_enough) for _ in range(3)]
            try:
                for generation in range(2, 2 * len(settings) + 2):
                    daemon.configure(settings[(generation - 1) % len(settings)])
                    daemon.signal(signal.SIGHUP)
                    daemon.wait_for_generation(generation)
                    more = len(sink.messages) + 10  # of whom some began when the new workers were there
                    eventually(lambda count=more: len(sink.messages) >= count, "messages with these")
            finally:
                enough.set()
            verdicts = [verdict for run in runs for verdict in run.result()]
            assert set(verdicts) == {b"250"}
            assert len(sink.messages) == len(verdicts)
            assert daemon.trouble() == []
    assert [message for message in sink.messages if len(message.recipients) == 2]  # copied
    assert one.talks
    assert other.talks


def test_a_worker_is_no_larger_for_a_large_message_that_is_looked_at_marked_sent_and_kept(
    sink: Sink, directory: Path
) -> None:
    (directory / "rules").write_text("/^Subject:/ PREPEND X-Marked: yes\n", encoding="utf-8")
    (directory / "none").write_text("", encoding="utf-8")
    with scripted_daemon(Clamd()) as clamd:
        settings = settings_for(
            sink.endpoint,
            directory,
            pool={"workers": 1},
            rules=[
                {"header_checks": [str(directory / "rules")], "mime_header_checks": [str(directory / "none")]}
            ],
            attachments=[{"timeout": "100s"}],
            command=[{"argv": ["/bin/cat"], "changes_message": True}],
            clamd=[{"endpoint": str(clamd.address), "size_limit": "0B"}],
            policy=[{"name": "all", "action": "accept+quarantine"}],
            quarantine={"directory": str(directory / "quarantine")},
        )
        with serving(directory, settings) as daemon:
            (worker,) = daemon.wait_until_idle(1)
            assert submit(daemon, PLAIN).startswith(b"250")
            before = largest_kib(worker)
            assert submit(daemon, LARGE).startswith(b"250")
            assert daemon.wait_until_idle(1) == {worker}
            assert largest_kib(worker) - before < len(LARGE) // 1024 // 3
            assert daemon.trouble() == []
    assert sink.messages[-1].content == b"X-Marked: yes\r\n" + LARGE
    assert max(path.stat().st_size for path in directory.glob("quarantine/*/*")) > len(LARGE)


# Real daemons


@dataclass
class Real:
    """A real scanning daemon that can be hung and killed."""

    kind: str
    endpoint: str
    pause: Callable[[], None]
    resume: Callable[[], None]
    kill: Callable[[], None]


@contextlib.contextmanager
def real_one(kind: str, running: AbstractContextManager[ScanningDaemon]) -> Iterator[Real]:
    with running as daemon:
        yield Real(kind, str(daemon.unix), daemon.pause, daemon.resume, daemon.kill)


@contextlib.contextmanager
def real_rspamd() -> Iterator[Real]:
    with running_rspamd() as daemon:
        yield Real("rspamd", str(daemon.inet), daemon.pause, daemon.resume, daemon.kill)


REAL: dict[str, Callable[[], AbstractContextManager[Real]]] = {
    "clamd": lambda: real_one("clamd", private_clamd()),
    "spamd": lambda: real_one("spamd", private_spamd()),
    "rspamd": real_rspamd,
}


@pytest.mark.daemons
@pytest.mark.parametrize("kind", KINDS)
def test_mail_waits_while_a_real_scanner_hangs_or_is_dead_and_flows_when_it_goes_on(
    sink: Sink, directory: Path, kind: str
) -> None:
    with REAL[kind]() as real:
        keys = scanner(kind, real.endpoint, timeout="2s")
        with serving(directory, settings_for(sink.endpoint, directory, **keys)) as daemon:
            eventually(lambda: submit(daemon).startswith(b"250"), "a message that was scanned")
            real.pause()
            try:
                assert submit(daemon).startswith(b"451 4.3.0 ")
            finally:
                real.resume()
            eventually(lambda: submit(daemon).startswith(b"250"), "a message that was scanned")
            real.kill()
            assert submit(daemon).startswith(b"451 4.3.0 ")
            assert daemon.trouble() == []
    assert len(sink.messages) == 2
