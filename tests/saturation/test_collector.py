"""Metrics as a scraper sees them: complete, honest about what is not known, and never falling."""

import dataclasses
import math
import os
import time
from collections.abc import Iterable, Sequence

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from bqfilter.breaker import Breaker
from bqfilter.config.content import ClamdSettings
from bqfilter.ledger import Stage
from bqfilter.places import Terms
from bqfilter.saturation.collector import BoardCollector
from bqfilter.saturation.metrics import METRICS
from bqfilter.saturation.neighbours import Neighbour, Survey
from bqfilter.saturation.queues import UNKNOWN, Queue, QueueProbe
from bqfilter.saturation.reader import Board
from bqfilter.scanning.board import ScannerBoard
from bqfilter.scanning.report import Finding
from bqfilter.scoreboard import (
    MESSAGE_SIZE,
    Entrance,
    Exit,
    ExporterWord,
    MasterWord,
    Scoreboard,
    TallyWord,
    Word,
)
from bqfilter.upstream.board import UpstreamBoard, UpstreamWord, row_of
from tests.doubles.settings import settings
from tests.saturation.boards import AFTER, NOW, SPARE, TCP, UNIX, occupy, scoreboard

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class _Probe(QueueProbe):
    """Answers from a list, by listener."""

    def __init__(self, queues: dict[Entrance, Queue]) -> None:
        super().__init__()
        self.queues = queues

    def look(self, entrance: Entrance, *, with_ages: bool = False) -> Queue:  # noqa: ARG002
        return self.queues[entrance]


def collector(
    board: Scoreboard, queues: Sequence[Queue] = (), survey: Survey | None = None
) -> BoardCollector:
    made = BoardCollector(Board(board.view), survey)
    entrances = Board(board.view).entrances
    answers = queues or [UNKNOWN] * len(entrances)
    made._probe = _Probe(dict(zip(entrances, answers, strict=True)))
    return made


def scrape(made: BoardCollector) -> Samples:
    registry = CollectorRegistry()
    registry.register(made)
    families = parse(generate_latest(registry).decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"bqfilterd_{name}", tuple(sorted(labels.items()))]


def names(samples: Samples) -> set[str]:
    return {name for name, _ in samples}


TCP_QUEUE = Queue(length=3, limit=256, drops=7, oldest_age=1.5, gone=1)
BEFORE = Neighbour("smtp/inet", "before", 100, speed_adjust=False)
UNIX_QUEUE = Queue(length=2, limit=128, gone=0, waiting=(5, 6))


def surveyed(*neighbours: Neighbour, failures: int = 0) -> Survey:
    made = Survey(settings())
    made.neighbours, made.failures = neighbours, failures
    return made


def everything() -> BoardCollector:
    """A collector for a board on which something is known of every metric."""
    board = scoreboard(listeners=[TCP, UNIX])
    board.header.set_seconds(ExporterWord.SAMPLED, NOW)
    board.header.set_seconds(MasterWord.SESSION_LIMIT, 30.0)
    board.slots[0][Word.MEMORY] = 1 << 20
    board.slots[0].move_in(os.getpid())
    server_of(board, 0).answered()
    return collector(board, [TCP_QUEUE, UNIX_QUEUE], surveyed(BEFORE))


def server_of(board: Scoreboard, number: int, slot: int = 0) -> Breaker:
    """What a worker knows of one of the after-filter servers."""
    place = UpstreamBoard(board.upstreams, len(board.slots)).place(number, row_of(slot))
    return Breaker(place, Terms(1, 1.0, 60.0), time.monotonic, row_of(len(board.slots)))


def test_every_metric_that_is_declared_is_collected_and_no_other() -> None:
    found = {family.name.removeprefix("bqfilterd_") for family in everything().collect()}
    assert found == set(METRICS)


def test_what_is_described_is_what_is_declared() -> None:
    described = {(family.name, family.type) for family in everything().describe()}
    assert described == {(f"bqfilterd_{metric.name}", metric.kind) for metric in METRICS.values()}


def test_samples_have_the_labels_that_are_declared() -> None:
    for family in everything().collect():
        wanted = set(METRICS[family.name.removeprefix("bqfilterd_")].labels)
        assert family.samples, family.name
        assert all(set(sample.labels) - {"le"} == wanted for sample in family.samples), family.name


def test_both_formats_can_be_read_back() -> None:
    registry = CollectorRegistry()
    registry.register(everything())
    assert len(list(parse(generate_latest(registry).decode()))) == len(METRICS)
    assert len(list(parse_openmetrics(generate_openmetrics(registry).decode()))) == len(METRICS)


def test_no_label_names_a_process_a_sender_or_a_client() -> None:
    labels = {label for metric in METRICS.values() for label in metric.labels}
    assert labels == {
        "version", "python", "state", "phase", "mode", "slot", "stat", "reason", "listener", "probe",
        "result", "stage", "source", "service", "role", "filter", "finding", "upstream",
    }  # fmt: skip


def test_scanners_are_told_apart_and_summed_over_workers() -> None:
    board = scoreboard()
    records = ScannerBoard(board.scanners, len(board.slots))
    for slot in (0, 1):
        records.place(0, slot).note(Finding.HIT, 0.02)
    records.place(0, 1).note(Finding.UNSCANNED, None)
    found = scrape(collector(board))

    assert found["bqfilterd_filter_reports_total", (("filter", "clamav"), ("finding", "hit"))] == 2
    assert found["bqfilterd_filter_reports_total", (("filter", "clamav"), ("finding", "unscanned"))] == 1
    assert found["bqfilterd_filter_duration_seconds_count", (("filter", "clamav"),)] == 2
    assert found["bqfilterd_filter_breaker_open", (("filter", "clamav"),)] == 0


def test_an_open_breaker_shows_and_one_that_is_not_there_does_not() -> None:
    board = scoreboard()
    records = ScannerBoard(board.scanners, len(board.slots))
    clamav = ClamdSettings(endpoints=(), name="clamav", failures=2, retry=3600.0)
    records.assign([clamav])
    for slot in (0, 1):
        Breaker(records.place(0, slot), Terms(2, 3600.0, 3600.0), time.monotonic, 2).failed()
    label = (("filter", "clamav"),)
    assert scrape(collector(board))["bqfilterd_filter_breaker_open", label] == 1

    records.assign([dataclasses.replace(clamav, failures=0)])
    assert ("bqfilterd_filter_breaker_open", label) not in scrape(collector(board))
    records.assign([])
    found = scrape(collector(board))
    assert ("bqfilterd_filter_breaker_open", label) not in found
    assert ("bqfilterd_filter_reports_total", (*label, ("finding", "error"))) in found


def test_each_after_filter_server_is_up_or_not_and_unknown_before_anybody_has_called_it() -> None:
    board = scoreboard()
    labels = [(("upstream", str(address)),) for address in (AFTER, SPARE)]
    assert "bqfilterd_upstream_up" not in names(scrape(collector(board)))

    server_of(board, 0, slot=1).answered()
    server_of(board, 1).failed()
    found = scrape(collector(board))
    assert [found["bqfilterd_upstream_up", label] for label in labels] == [1, 0]

    server_of(board, 1, slot=1).answered()
    server_of(board, 0).failed()
    found = scrape(collector(board))
    assert [found["bqfilterd_upstream_up", label] for label in labels] == [0, 1]


def test_what_became_of_an_after_filter_server_that_is_not_in_the_list_any_more_is_not_said() -> None:
    board = scoreboard()
    server_of(board, 0).failed()
    servers = UpstreamBoard(board.upstreams, len(board.slots))
    servers.place(0, row_of(1)).own.count(UpstreamWord.UNREACHED)
    servers.assign([SPARE], Terms(1, 1.0, 60.0))
    found = scrape(collector(board))

    assert "bqfilterd_upstream_up" not in names(found)
    assert value(found, "upstream_server_failures_total", upstream=str(AFTER), stage="connect") == 1


def test_histograms_are_cumulative_and_agree_with_their_count() -> None:
    board = scoreboard()
    for waited in (0.001, 0.3, 0.3, 200.0):
        board.tallies(1)[0].accept(waited, is_queued=False)
    found = scrape(collector(board))

    def below(bound: str) -> float:
        return value(found, "listen_queue_wait_seconds_bucket", listener=TCP.address, le=bound)

    assert [below(bound) for bound in ("0.005", "0.25", "0.5", "100.0", "+Inf")] == [1, 1, 3, 3, 4]
    assert value(found, "listen_queue_wait_seconds_count", listener=TCP.address) == 4
    assert value(found, "listen_queue_wait_seconds_sum", listener=TCP.address) == pytest.approx(200.601)


def test_sizes_of_messages_are_told_in_bytes() -> None:
    board = scoreboard()
    for size in (700, 10240000, 10240001):
        board.slots[0].observe(MESSAGE_SIZE, size)
    found = scrape(collector(board))
    assert [
        value(found, "message_size_bytes_bucket", le=bound) for bound in ("1024.0", "1.024e+07", "+Inf")
    ] == [1, 2, 3]
    assert value(found, "message_size_bytes_sum") == 20480701


def test_the_pool_is_told_by_state_and_phase() -> None:
    board = scoreboard(workers=3)
    occupy(board.slots[0], NOW, Stage.FILTER, NOW)
    occupy(board.slots[1], NOW, Stage.HANDOVER, NOW)
    found = scrape(collector(board))
    assert value(found, "workers_limit") == 3
    assert value(found, "workers", state="busy") == 2
    assert value(found, "workers", state="idle") == 1
    assert value(found, "workers_busy_phase", phase="filter") == 1
    assert value(found, "workers_busy_phase", phase="data") == 0


def test_a_connection_counts_for_its_listener() -> None:
    board = scoreboard(listeners=[TCP, UNIX])
    tally = board.tallies(0)[1]
    tally.accept(None, is_queued=True)
    tally.count(TallyWord.ABANDONED)
    tally.count(TallyWord.PROBES)
    found = scrape(collector(board))
    for metric in (
        "connections_accepted_total",
        "connections_queued_total",
        "connections_abandoned_total",
        "connections_probes_total",
    ):
        assert value(found, metric, listener=UNIX.address) == 1
        assert value(found, metric, listener=TCP.address) == 0


def test_the_master_s_counters_are_told() -> None:
    board = scoreboard()
    board.header[MasterWord.EXITS + Exit.SIGNALLED] = 4
    board.header[MasterWord.SLOW + Stage.FILTER] = 2
    found = scrape(collector(board))
    assert value(found, "worker_exits_total", reason="signalled") == 4
    assert value(found, "slow_sessions_total", phase="filter") == 2


class TestQueues:
    def test_what_is_known_is_told(self) -> None:
        found = scrape(everything())
        assert value(found, "listen_queue_connections", listener=TCP.address) == 3
        assert value(found, "listen_queue_limit_connections", listener=UNIX.address) == 128
        assert value(found, "listen_queue_oldest_age_seconds", listener=TCP.address) == 1.5
        assert value(found, "listen_queue_abandoned_connections", listener=TCP.address) == 1
        assert value(found, "listen_drops_total", listener=TCP.address) == 7

    def test_what_is_not_known_is_missing_and_said_to_be(self) -> None:
        found = scrape(collector(scoreboard(listeners=[UNIX]), [UNKNOWN]))
        assert not {
            name
            for name in names(found)
            if name.startswith(("bqfilterd_listen_", "bqfilterd_pool_exhausted_s"))
        }
        for probe in ("length", "age", "wait", "drops"):
            assert value(found, "queue_probe_supported", listener=UNIX.address, probe=probe) == 0

    def test_a_unix_socket_has_no_drops_and_its_waits_are_the_exporter_s(self) -> None:
        board = scoreboard(listeners=[UNIX])
        board.header.set_seconds(ExporterWord.SAMPLED, NOW)
        made = collector(board, [UNIX_QUEUE])
        found = scrape(made)
        assert value(found, "queue_probe_supported", listener=UNIX.address, probe="length") == 1
        assert value(found, "queue_probe_supported", listener=UNIX.address, probe="drops") == 0
        assert value(found, "listen_queue_wait_seconds_count", listener=UNIX.address) == 0
        assert "bqfilterd_listen_drops_total" not in names(found)

    def test_a_probe_that_fails_costs_nothing_but_its_metrics(self) -> None:
        made = collector(scoreboard())

        def fail(*_: object, **__: object) -> Queue:
            raise OSError("no")

        made._probe.look = fail  # type: ignore[method-assign]
        found = scrape(made)
        assert value(found, "collector_errors_total", source="queues") == 1
        assert value(found, "workers_limit") == 2
        assert value(found, "queue_probe_supported", listener=TCP.address, probe="length") == 0


class TestUnknowns:
    def test_without_a_session_limit_there_is_no_deadline(self) -> None:
        assert "bqfilterd_session_deadline_seconds" not in names(scrape(collector(scoreboard())))

    def test_workers_that_have_not_been_weighed_have_no_memory(self) -> None:
        assert "bqfilterd_worker_memory_bytes" not in names(scrape(collector(scoreboard())))

    def test_processes_that_cannot_be_seen_have_no_cpu_time(self) -> None:
        found = scrape(collector(scoreboard()))  # whose pids are nobody's
        assert "bqfilterd_worker_cpu_seconds_total" not in names(found)
        assert value(found, "collector_errors_total", source="processes") == 1

    def test_a_master_that_has_stopped_has_no_heartbeat(self) -> None:
        board = scoreboard()
        board.header.set_seconds(MasterWord.HEARTBEAT, 0.0)
        assert "bqfilterd_master_heartbeat_timestamp_seconds" not in names(scrape(collector(board)))

    def test_a_service_without_a_limit_has_none(self) -> None:
        after = Neighbour("127.0.0.1:10026/inet", "after", None)
        found = scrape(collector(scoreboard(), survey=surveyed(BEFORE, after)))
        assert value(found, "postfix_process_limit", service="smtp/inet", role="before") == 100
        assert [
            key for key in found if key[0].startswith("bqfilterd_postfix_") and after.service in str(key)
        ] == []

    def test_a_postfix_that_cannot_be_asked_is_missing_and_counted(self) -> None:
        found = scrape(collector(scoreboard(), survey=surveyed(failures=2)))
        assert not {name for name in names(found) if name.startswith("bqfilterd_postfix_")}
        assert value(found, "collector_errors_total", source="postfix") == 2


class TestCounters:
    def test_those_of_the_dead_count_with_those_of_the_living(self) -> None:
        board = scoreboard(workers=1)
        board.slots[0].move_in(os.getpid())
        made = collector(board)
        before = value(scrape(made), "worker_cpu_seconds_total", mode="user")
        board.header.add_seconds(MasterWord.REAPED_USER_SECONDS, 100.0)
        assert value(scrape(made), "worker_cpu_seconds_total", mode="user") >= before + 100

    def test_a_computed_one_never_falls(self) -> None:
        board = scoreboard(workers=1)
        occupy(board.slots[0], 1.0, Stage.DATA, 1.0)  # long ago
        made = collector(board)
        before = value(scrape(made), "worker_busy_seconds_total")
        board.slots[0].was_vacated()  # and its time forgotten, which must not happen
        assert value(scrape(made), "worker_busy_seconds_total") == before > 0

    def test_none_falls_whatever_becomes_of_the_workers(self) -> None:
        board = scoreboard(workers=2)
        made = collector(board, [TCP_QUEUE])
        slot, tally = board.slots[0], board.tallies(0)[0]

        def live() -> Iterable[None]:
            slot.begin(1.0, 0.5, is_queued=True)
            slot.meet(2, is_queued=True)
            tally.accept(0.5, is_queued=True)
            yield
            slot.end(3.0, [0.0, 1.0, 1.0])
            tally.end(2.0, 0.02, [0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
            yield
            slot.begin(4.0, 0.5, is_queued=True)
            yield
            slot.was_cut_short(9.0)
            slot.was_vacated()
            yield
            slot.was_given(2)
            yield

        counters = {metric.full_name for metric in METRICS.values() if metric.kind == "counter"}
        endings = ("_count", "_sum", "_bucket")
        before: Samples = {}
        for _ in live():
            now = {
                key: number
                for key, number in scrape(made).items()
                if key[0] in counters or key[0].endswith(endings)
            }
            assert all(now[key] >= number for key, number in before.items())
            before = now
        assert not any(map(math.isnan, before.values()))


def test_several_scrapes_at_a_time_do_not_disturb_each_other() -> None:
    import threading

    made = everything()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                scrape(made)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_an_integral_is_missing_while_nobody_looks() -> None:
    board = scoreboard()
    assert "bqfilterd_listen_queue_connection_seconds_total" not in names(scrape(collector(board)))
    board.header.set_seconds(ExporterWord.SAMPLED, NOW)
    board.exporter_tallies[0].add_seconds(TallyWord.QUEUE_SECONDS, 2.5)
    found = scrape(collector(board))
    assert value(found, "listen_queue_connection_seconds_total", listener=TCP.address) == 2.5
