"""The image's command line as process 1 of a pod, with the shipped configuration and volumes."""

import contextlib
import http.client
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.components import require
from tests.doubles.programs import eventually, short_directory
from tests.doubles.sink import Sink
from tests.kubernetes.manifests import Rendering
from tests.kubernetes.pod import BEFORE_FILTER, METRICS, NODE, SMTP, UID, ConfigMap, Pod, started, why_not
from tests.pool.scraper import Page, fetch
from tests.postfix.smtp_client import PLAIN, SENDER, SmtpClient

RECIPIENTS = ["b@example.org"]
LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 200_000


@contextlib.contextmanager
def ready(base: Rendering) -> Iterator[Pod]:
    require(why_not())
    with short_directory("bqfilter-pod-") as directory, started(directory, base) as pod:
        pod.wait_for_log('"ready"')
        yield pod


@pytest.fixture(scope="module")
def pod(base: Rendering) -> Iterator[Pod]:
    with ready(base) as made:
        yield made


@pytest.fixture(scope="module")
def after_filter(pod: Pod, base: Rendering) -> Iterator[Sink]:
    (endpoint,) = base.settings.upstream.endpoints
    with pod.within_network(lambda: Sink(port=endpoint.port)) as sink:
        yield sink


@pytest.fixture
def sink(after_filter: Sink) -> Sink:
    after_filter.messages.clear()
    return after_filter


def connect(pod: Pod, source: str = BEFORE_FILTER) -> SmtpClient:
    return pod.within_network(lambda: SmtpClient(SMTP, source=source))


def send(pod: Pod, content: bytes = PLAIN) -> bytes:
    with connect(pod) as client:
        client.begin(SENDER, RECIPIENTS)
        return client.end(content)


def probe(pod: Pod, path: str) -> Page:
    """As kubelet does, from the node."""
    return pod.within_network(
        lambda: fetch(http.client.HTTPConnection(*METRICS, timeout=10, source_address=(NODE, 0)), path)
    )


def workers(pod: Pod) -> int:
    shown = pod.exec("bqfilterd", "status", "--json")
    assert shown.returncode == 0, shown.stderr
    return int(json.loads(shown.stdout)["pool"]["workers"])


def test_it_is_process_1_of_an_account_without_a_name_and_without_rights(pod: Pod) -> None:
    status = Path(f"/proc/{pod.leader}/status").read_text()
    found = {
        name: re.findall(rf"^{name}:\s+(.*)", status, re.M)[0].split() for name in ("NSpid", "Uid", "CapBnd")
    }
    assert (found["NSpid"][-1], found["Uid"], int(found["CapBnd"][0], 16)) == ("1", [str(UID)] * 4, 0)


def test_every_line_of_its_log_is_an_object(pod: Pod) -> None:
    lines = [json.loads(line) for line in pod.log().splitlines()]
    assert [line for line in lines if line["priority"] != "info"] == []


def test_mail_from_a_pod_flows_through(pod: Pod, sink: Sink) -> None:
    assert send(pod).startswith(b"250 2.0.0 Ok: queued")
    assert [message.content for message in sink.messages] == [PLAIN]


def test_a_message_that_needs_the_spool_does(pod: Pod, sink: Sink) -> None:
    assert send(pod, LARGE).startswith(b"250 2.0.0 Ok: queued")
    assert [message.content for message in sink.messages] == [LARGE]


@pytest.mark.parametrize("source", [NODE, "127.0.0.1"])
def test_who_is_no_pod_is_kept_out(pod: Pod, source: str) -> None:
    """A node, for which a connection that was translated counts; and `kubectl port-forward`."""
    with connect(pod, source) as client:
        assert client.banner == b"554 5.7.1 Error: access denied"


def test_the_probes_of_the_manifest_get_200(pod: Pod, base: Rendering) -> None:
    kinds = ("startupProbe", "readinessProbe", "livenessProbe")
    asked = {kind: base.container[kind]["httpGet"]["path"] for kind in kinds}
    assert {kind: probe(pod, path).status for kind, path in asked.items()} == dict.fromkeys(kinds, 200)


def test_commands_work_by_kubectl_exec(pod: Pod, base: Rendering) -> None:
    assert workers(pod) == base.settings.pool.workers


def test_orphans_are_reaped(pod: Pod) -> None:
    """What a program leaves behind is process 1's to bury, here ours."""
    orphaned = pod.exec("sh", "-c", "sh -c 'echo $$; exec >&- 2>&-; sleep 0.1' & exec sleep 0")
    assert orphaned.returncode == 0
    inner = orphaned.stdout.strip()

    def is_gone() -> bool:
        return not Path(f"/proc/{pod.leader}/root/proc/{inner}").exists()

    eventually(is_gone, "the orphan has been reaped")
    assert pod.zombies() == []


def configure(pod: Pod, text: str) -> None:
    """The ConfigMap changes, kubelet brings it, somebody has it read."""
    pod.config.replace(text)
    done = pod.exec("bqfilterd", "reload")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_to_be_kept_goes_to_the_mailbox_and_where_there_is_none_nobody_is_told_250(
    pod: Pod, base: Rendering, sink: Sink
) -> None:
    """Nothing is safe in a pod."""
    policy = '\n[[policy]]\nname = "kept"\naction = "quarantine"\n'
    without_mailbox = re.sub(r"quarantine_to = .*", "", base.config)
    try:
        configure(pod, base.config + policy)
        assert send(pod).startswith(b"250 ")
        assert [message.recipients for message in sink.messages] == [[b"RCPT TO:<quarantine@example.com>"]]
        assert "no quarantine directory" not in pod.log()
        configure(pod, without_mailbox + policy)
        assert send(pod).startswith(b"451 ")
        assert len(sink.messages) == 1
    finally:
        configure(pod, base.config)


def test_sigterm_drains_it(base: Rendering) -> None:
    (endpoint,) = base.settings.upstream.endpoints
    with ready(base) as pod, pod.within_network(lambda: Sink(port=endpoint.port)) as sink:
        with connect(pod) as client:
            client.begin(SENDER, RECIPIENTS)
            pod.signal(signal.SIGTERM)
            eventually(lambda: probe(pod, "/-/ready").status == 503, "a pod that is not ready")
            assert send(pod).startswith(b"250 2.0.0 Ok: queued")  # a node that has not heard of it yet
            pod.signal(signal.SIGTERM)  # drain_delay is over
            pod.wait_for_log('"stopping"')
            assert client.end(PLAIN).startswith(b"250 2.0.0 Ok: queued")
        assert pod.process.wait(base.pod["terminationGracePeriodSeconds"]) == 0
        assert len(sink.messages) == 2


def test_sigterm_ends_it_although_it_has_only_begun_to_start(base: Rendering) -> None:
    """Process 1 has no default action: where nobody listens yet, nobody would hear it."""
    require(why_not())
    with short_directory("bqfilter-pod-") as directory, started(directory, base, _with_a_pipe) as pod:
        pipe = eventually(lambda: _reader_of(pod.config.file), "somebody who reads the configuration")
        pod.signal(signal.SIGTERM)
        assert pod.process.wait(30) == 128 + signal.SIGTERM
        os.close(pipe)


def _with_a_pipe(config: ConfigMap) -> None:
    """In place of the file: whoever reads it waits for what there is to read."""
    place = config.file.resolve()
    place.unlink()
    os.mkfifo(place, 0o644)


def _reader_of(pipe: Path) -> int | None:
    """A descriptor at which somebody waits; that there is somebody is what open(2) tells."""
    with contextlib.suppress(OSError):
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    return None
