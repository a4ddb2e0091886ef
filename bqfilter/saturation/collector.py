"""The scoreboard and the accept queues as Prometheus metrics.

`bqfilter.saturation.metrics` declares them. Everything is read anew with each scrape, so nothing is counted
here; what is said of Postfix alone was read before, by a `Survey`. What is not known is left out, never given
as 0: `queue_probe_supported` says which zeros to trust. Sums that are computed (time spent so far by sessions
that go on) are never lower than they were in the scrape before, since Prometheus would take that for a
restart.

No label names a process, a sender or a client: the number of series depends on the configuration alone.
"""

import itertools
import os
import platform
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from bqfilter import __version__
from bqfilter.breaker import State as Breaker
from bqfilter.ledger import Stage
from bqfilter.saturation.metrics import METRICS, PREFIX, Metric
from bqfilter.saturation.neighbours import Neighbour, Survey
from bqfilter.saturation.queues import Queue, QueueProbe
from bqfilter.saturation.reader import (
    Board,
    Distribution,
    ListenerFigures,
    ScannerFigures,
    Snapshot,
    UpstreamFigures,
    queues,
)
from bqfilter.scanning.board import ScannerWord
from bqfilter.scoreboard import (
    BUDGET_SHARE,
    BUSY_SHARE,
    DURATION,
    MESSAGE_SIZE,
    STAGE_TIMES,
    UPSTREAM_READY,
    WAIT,
    Exit,
    ExporterWord,
    Header,
    MasterWord,
    State,
    TallyWord,
    Word,
)
from bqfilter.upstream.board import UpstreamWord

_T = TypeVar("_T")

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
_FAMILIES: dict[str, type[Family]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}

_STATES = (State.STARTING, State.IDLE, State.BUSY, State.LEAVING)
_RESULTS = (
    Word.ACCEPTED, Word.QUARANTINED, Word.DISCARDED, Word.REJECTED, Word.TEMPFAILED, Word.OUTCOME_UNKNOWN,
    Word.CLIENT_ABORT,
)  # fmt: skip
_FINDINGS = (ScannerWord.CLEAN, ScannerWord.HIT, ScannerWord.ERROR, ScannerWord.UNSCANNED)
_PROBES = ("length", "age", "wait", "drops")
_TICKS = os.sysconf("SC_CLK_TCK")


Value = float | Distribution
Row = tuple[str, tuple[str, ...], Value]
"""Name of the metric, values of its labels, and value of the sample."""


class BoardCollector(Collector):
    """Collects from a scoreboard. Several scrapes at a time are served one after the other."""

    def __init__(
        self, board: Board, survey: Survey | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._board = board
        self._survey = survey
        self._probe = QueueProbe()
        self._clock = clock
        self._lock = threading.Lock()
        self._floors: dict[tuple[str, tuple[str, ...]], float] = {}
        self._errors = {"scoreboard": 0, "queues": 0, "processes": 0}
        self._durations: dict[str, float] = {}

    def describe(self) -> Iterable[Family]:
        """Every family there is."""
        return [_family(metric) for metric in METRICS.values()]

    def collect(self) -> Iterable[Family]:
        """Every family of which something is known."""
        with self._lock:
            rows = list(self._rows())
        families: dict[str, Family] = {}
        for name, labels, value in rows:
            _add(families.setdefault(name, _family(METRICS[name])), labels, value)
        return families.values()

    def _rows(self) -> Iterator[Row]:
        snapshot = self._read("scoreboard", self._board.snapshot)
        if snapshot is not None:
            found = self._read("queues", lambda: queues(snapshot, self._probe))
            yield from self._never_falling(_of_snapshot(snapshot))
            yield from self._never_falling(_of_queues(snapshot, found or []))
            yield from self._never_falling(
                self._read("processes", lambda: list(_of_processes(snapshot))) or []
            )
        if self._survey is not None:
            yield from _of_neighbours(self._survey.neighbours)
            self._errors["postfix"] = self._survey.failures
        yield from (("collector_duration_seconds", (name,), took) for name, took in self._durations.items())
        yield from (("collector_errors", (name,), count) for name, count in self._errors.items())

    def _read(self, source: str, read: Callable[[], _T]) -> _T | None:
        began = self._clock()
        try:
            return read()
        except (OSError, ValueError):
            self._errors[source] += 1
            return None
        finally:
            self._durations[source] = self._clock() - began

    def _never_falling(self, rows: Iterable[Row]) -> Iterator[Row]:
        for name, labels, value in rows:
            if METRICS[name].kind == "counter" and isinstance(value, float):
                key = name, labels
                value = self._floors[key] = max(value, self._floors.get(key, 0.0))
            yield name, labels, value


def _of_snapshot(snapshot: Snapshot) -> Iterator[Row]:
    yield from _of_master(snapshot)
    yield from _of_pool(snapshot)
    yield from _of_sessions(snapshot)
    for listener in snapshot.listeners:
        yield from _of_listener(snapshot, listener)
    for scanner in snapshot.scanners:
        yield from _of_scanner(snapshot, scanner)
    for upstream in snapshot.upstreams:
        yield from _of_upstream(upstream)


def _of_scanner(snapshot: Snapshot, scanner: ScannerFigures) -> Iterator[Row]:
    name = scanner.label.name
    for word in _FINDINGS:
        yield "filter_reports", (name, word.name.lower()), scanner.total(word)
    yield "filter_duration_seconds", (name,), scanner.seconds
    if scanner.label.is_present and scanner.label.terms.failures:
        yield "filter_breaker_open", (name,), int(scanner.breaker(snapshot.taken_at) is not Breaker.CLOSED)


def _of_upstream(upstream: UpstreamFigures) -> Iterator[Row]:
    name = upstream.label.name
    yield "upstream_transactions", (name,), upstream.total(UpstreamWord.TRANSACTIONS)
    yield "upstream_server_failures", (name, "connect"), upstream.total(UpstreamWord.UNREACHED)
    yield "upstream_server_failures", (name, "conversation"), upstream.total(UpstreamWord.LOST)
    yield "upstream_server_connections", (name,), upstream.total(UpstreamWord.OPEN)
    if upstream.label.is_present and upstream.is_up is not None:
        yield "upstream_up", (name,), int(upstream.is_up)


def _of_master(snapshot: Snapshot) -> Iterator[Row]:
    header = snapshot.header
    yield "build_info", (__version__, platform.python_version()), 1
    yield "start_time_seconds", (), header.seconds(Header.CREATED_WALL)
    yield "config_load_timestamp_seconds", (), header.seconds(MasterWord.LOADED_WALL)
    yield "config_reload_failures", (), header[MasterWord.FAILED_RELOADS]
    if snapshot.heartbeat_age is not None:
        yield "master_heartbeat_timestamp_seconds", (), snapshot.wall - snapshot.heartbeat_age
    yield "draining", (), int(snapshot.is_draining)
    yield "exporter_forks", (), header[MasterWord.EXPORTER_FORKS]
    yield "worker_forks", (), header[MasterWord.FORKS]
    yield "worker_fork_failures", (), header[MasterWord.FAILED_FORKS]
    for reason in Exit:
        yield "worker_exits", (reason.name.lower(),), header[MasterWord.EXITS + reason]
    for stage in STAGE_TIMES:
        yield "slow_sessions", (_name(stage),), header[MasterWord.SLOW + stage]
    yield "session_budget_seconds", (), header.seconds(MasterWord.PROXY_TIMEOUT)
    if header.seconds(MasterWord.SESSION_LIMIT):
        yield "session_deadline_seconds", (), header.seconds(MasterWord.SESSION_LIMIT)


def _of_pool(snapshot: Snapshot) -> Iterator[Row]:
    busy = snapshot.busy
    yield "workers_limit", (), snapshot.worker_limit
    for state in _STATES:
        yield "workers", (state.name.lower(),), snapshot.count(state)
    for stage in STAGE_TIMES:
        yield "workers_busy_phase", (_name(stage),), sum(1 for slot in busy if slot.stage is stage)
    yield "worker_busy_seconds", (), float(snapshot.busy_seconds)
    if snapshot.sample_age is not None:
        yield "pool_exhausted_seconds", (), snapshot.header.seconds(ExporterWord.EXHAUSTED_SECONDS)
    yield "pool_exhausted", (), snapshot.total(Word.EXHAUSTED)
    yield "pool_busy_at_accept_ratio", (), snapshot.distribution(BUSY_SHARE)
    for slot in snapshot.slots:
        yield "worker_sessions", (str(slot.index),), slot[Word.SESSIONS]
    sizes = [slot[Word.MEMORY] for slot in snapshot.slots if slot[Word.MEMORY]]
    if sizes:
        yield "worker_memory_bytes", ("mean",), sum(sizes) / len(sizes)
        yield "worker_memory_bytes", ("max",), max(sizes)
        yield "worker_memory_bytes", ("sum",), sum(sizes)


def _of_sessions(snapshot: Snapshot) -> Iterator[Row]:
    for word in _RESULTS:
        yield "messages", (word.name.lower(),), snapshot.total(word)
    yield "messages_unheard", (), snapshot.total(Word.UNHEARD)
    yield "message_size_bytes", (), snapshot.distribution(MESSAGE_SIZE)
    yield "quarantine_copies", (), snapshot.total(Word.COPIES_KEPT)
    yield "quarantine_failures", (), snapshot.total(Word.KEEP_FAILURES)
    yield "session_duration_seconds", (), snapshot.tally_distribution(DURATION)
    squares = sum(listener.seconds(TallyWord.DURATION_SQUARES) for listener in snapshot.listeners)
    yield "session_duration_squares", (), float(squares)
    for stage, histogram in STAGE_TIMES.items():
        yield "session_phase_seconds", (_name(stage),), snapshot.tally_distribution(histogram)
    yield "session_budget_used_ratio", (), snapshot.tally_distribution(BUDGET_SHARE)
    yield "session_deadline_reached", (), snapshot.total(Word.OVERTIME)
    yield "oldest_session_age_seconds", (), max(map(snapshot.session_age, snapshot.busy), default=0.0)
    yield "upstream_ready_seconds", (), snapshot.distribution(UPSTREAM_READY)
    yield "upstream_connections", (), snapshot.total(Word.UPSTREAM_OPEN)
    yield "upstream_failures", ("connect",), snapshot.total(Word.UNREACHED)
    yield "upstream_failures", ("conversation",), snapshot.total(Word.UPSTREAM_LOST)


def _of_listener(snapshot: Snapshot, listener: ListenerFigures) -> Iterator[Row]:
    label = (listener.entrance.address,)
    yield "connections_accepted", label, listener.total(TallyWord.ACCEPTED)
    yield "connections_queued", label, listener.total(TallyWord.QUEUED)
    yield "connections_abandoned", label, listener.total(TallyWord.ABANDONED)
    yield "connections_denied", label, listener.total(TallyWord.DENIED)
    yield "connections_probes", label, listener.total(TallyWord.PROBES)
    if snapshot.sample_age is not None:
        yield "listen_queue_connection_seconds", label, listener.seconds(TallyWord.QUEUE_SECONDS)
    if _is_tcp(listener) or snapshot.sample_age is not None:
        yield "listen_queue_wait_seconds", label, listener.distribution(WAIT)


def _of_queues(snapshot: Snapshot, found: list[Queue]) -> Iterator[Row]:
    for index, listener in enumerate(snapshot.listeners):
        queue = found[index] if found else Queue()
        label = (listener.entrance.address,)
        if queue.length is not None:
            yield "listen_queue_connections", label, queue.length
        if queue.limit is not None:
            yield "listen_queue_limit_connections", label, queue.limit
        if queue.oldest_age is not None:
            yield "listen_queue_oldest_age_seconds", label, queue.oldest_age
        if queue.gone is not None:
            yield "listen_queue_abandoned_connections", label, queue.gone
        if queue.drops is not None:
            yield "listen_drops", label, queue.drops
        yield from _of_probes(listener, queue, is_followed=snapshot.is_sampled)


def _of_probes(listener: ListenerFigures, queue: Queue, *, is_followed: bool) -> Iterator[Row]:
    knows_wait = _is_tcp(listener) or (is_followed and queue.waiting is not None)
    known = (queue.length is not None, queue.oldest_age is not None, knows_wait, queue.drops is not None)
    for probe, is_known in zip(_PROBES, known, strict=True):
        yield "queue_probe_supported", (listener.entrance.address, probe), int(is_known)


def _of_neighbours(neighbours: Iterable[Neighbour]) -> Iterator[Row]:
    for one in neighbours:
        if one.process_limit is not None:
            yield "postfix_process_limit", (one.label, one.role), one.process_limit
        if one.speed_adjust is not None:
            yield "postfix_speed_adjust", (one.label,), int(one.speed_adjust)


def _of_processes(snapshot: Snapshot) -> Iterator[Row]:
    """CPU time: what workers had used when they were reaped, and what the living have used so far."""
    header = snapshot.header
    user = header.seconds(MasterWord.REAPED_USER_SECONDS)
    system = header.seconds(MasterWord.REAPED_SYSTEM_SECONDS)
    pids = [slot[Word.PID] for slot in snapshot.slots if slot[Word.PID]]
    used = [ticks for ticks in map(_ticks, pids) if ticks is not None]
    if pids and not used:
        raise OSError("no process can be looked at")
    yield "worker_cpu_seconds", ("user",), user + sum(ticks[0] for ticks in used) / _TICKS
    yield "worker_cpu_seconds", ("system",), system + sum(ticks[1] for ticks in used) / _TICKS


def _ticks(pid: int) -> tuple[int, int] | None:
    """Clock ticks of CPU in user and in system mode; None for a process that is no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[11]), int(fields[12])


def _is_tcp(listener: ListenerFigures) -> bool:
    return listener.entrance.family != socket.AF_UNIX


def _name(stage: Stage) -> str:
    return stage.name.lower()


def _family(metric: Metric) -> Family:
    """One without samples."""
    return _FAMILIES[metric.kind](PREFIX + metric.name, metric.help, labels=metric.labels)


def _add(family: Family, labels: tuple[str, ...], value: Value) -> None:
    if isinstance(family, HistogramMetricFamily):
        assert isinstance(value, Distribution)  # noqa: S101 - METRICS and the rows are of one mind
        family.add_metric(labels, _cumulative(value), value.sum)
    elif not isinstance(value, Distribution):
        family.add_metric(labels, value)


def _cumulative(found: Distribution) -> list[tuple[str, float]]:
    bounds = [*map(floatToGoString, found.bounds), "+Inf"]
    return list(zip(bounds, itertools.accumulate(map(float, found.counts)), strict=True))
