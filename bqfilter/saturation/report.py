"""How the pool is doing, in one sentence, on one screen, or as a value for programs.

The sentence (`verdict`) is the same in `bqfilterd status`, in `top` and in the log. It names what is full,
since when, what the workers wait for, and what to do. Nothing is asked or read here: a report is made of
snapshots and queues that somebody else has taken. What is not known is "unknown" on the screen and null in
the value, never 0.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bqfilter.ledger import Stage
from bqfilter.saturation.queues import Queue
from bqfilter.saturation.reader import Distribution, Life, Snapshot, UpstreamFigures
from bqfilter.scoreboard import (
    DURATION,
    STAGE_TIMES,
    UPSTREAM_READY,
    WAIT,
    Exit,
    Header,
    Histogram,
    MasterWord,
    Slot,
    State,
    TallyWord,
    Word,
)
from bqfilter.upstream.board import UpstreamWord

RESULT_WORDS = (
    Word.ACCEPTED, Word.QUARANTINED, Word.DISCARDED, Word.REJECTED, Word.TEMPFAILED, Word.OUTCOME_UNKNOWN,
    Word.CLIENT_ABORT,
)  # fmt: skip

_REMEDIES = {
    Stage.GREETING: "clients",
    Stage.ENVELOPE: "clients",
    Stage.DATA: "clients",
    Stage.FILTER: "scanners",
    Stage.UPSTREAM_CONNECT: "connect",
    Stage.UPSTREAM_WAIT: "answers",
    Stage.HANDOVER: "handover",
}
_LETTERS = {
    Stage.IDLE: "?",
    Stage.GREETING: "g",
    Stage.ENVELOPE: "e",
    Stage.DATA: "d",
    Stage.FILTER: "f",
    Stage.UPSTREAM_CONNECT: "c",
    Stage.UPSTREAM_WAIT: "w",
    Stage.HANDOVER: "h",
}
_SENTENCES = {
    "clients": "most workers wait for clients: set smtpd_proxy_options = speed_adjust on the before-filter"
    " smtpd, or raise pool.workers together with maxproc of the after-filter smtpd",
    "scanners": "most workers wait for scanners: make these faster, or raise pool.workers together with"
    " maxproc of the after-filter smtpd",
    "connect": "most workers wait for the greeting of the after-filter server: raise maxproc of that service"
    " to pool.workers or more",
    "answers": "most workers wait for the after-filter server's answers to MAIL and RCPT: look at its"
    " restrictions and lookup tables",
    "handover": "most workers wait for the after-filter server to take messages: look at its disk, its"
    " milters and its cleanup service",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where the pool stands; `waiting` and `oldest_wait` are None where no queue could be asked."""

    life: Life
    busy: int
    limit: int
    exhausted_for: float | None
    oldest_stage: Stage | None
    oldest_scanner: str  # that the oldest session's worker is asking; empty without one
    oldest_stage_age: float
    waiting: int | None
    oldest_wait: float | None
    remedy: str
    heartbeat_age: float | None
    is_draining: bool = False
    gone_for: float | None = None  # since when no after-filter server is in reach; None where one may be

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        words = "; ".join([*self._life(), self._pool()])
        return f"{words}: {self.remedy}" if self.remedy else words

    @property
    def is_well(self) -> bool:
        """The master runs, and somebody could be served at once."""
        return self.life is Life.RUNNING and self.exhausted_for is None and self.gone_for is None

    @property
    def waiting_words(self) -> str:
        """How many wait, and for how long the first of them has."""
        if self.waiting is None:
            return "an unknown number waiting"
        if not self.waiting:
            return "nobody waiting"
        age = "" if self.oldest_wait is None else f" ({duration(self.oldest_wait)})"
        return f"{self.waiting} waiting{age}"

    @property
    def oldest_words(self) -> str:
        """What the oldest session's worker waits for, and for how long: "scanner clamd 31 s"."""
        if self.oldest_stage is None:
            return ""
        what = f"scanner {self.oldest_scanner}" if self.oldest_scanner else stage_name(self.oldest_stage)
        return f"{what} {duration(self.oldest_stage_age)}"

    def _life(self) -> Iterator[str]:
        match self.life:
            case Life.HUNG:
                yield f"the master has not turned for {duration(self.heartbeat_age)}"
            case Life.STOPPED:
                yield "stopped, this is what it was like"
            case Life.DEAD:
                yield "the master is dead, this is what it was like"
            case Life.RUNNING:
                if self.is_draining:
                    yield "stopping"
                if self.gone_for is not None:
                    yield f"no after-filter server in reach for {duration(self.gone_for)}"

    def _pool(self) -> str:
        words = [f"busy {self.busy}/{self.limit}"]
        if self.exhausted_for is not None:
            words[0] += f" for {duration(self.exhausted_for)}"
        if self.oldest_stage is not None:
            words.append(f"oldest in {self.oldest_words}")
        return ", ".join([*words, self.waiting_words])


def verdict(snapshot: Snapshot, queues: list[Queue]) -> Verdict:
    """Where the pool stands."""
    busy = snapshot.busy
    oldest = busy[0] if busy else None
    lengths = [queue.length for queue in queues if queue.length is not None]
    ages = [queue.oldest_age for queue in queues if queue.oldest_age is not None and queue.length]
    exhausted_for = snapshot.exhausted_for
    return Verdict(
        snapshot.life,
        len(busy),
        snapshot.worker_limit,
        exhausted_for,
        oldest.stage if oldest else None,
        snapshot.scanner(oldest) if oldest else "",
        snapshot.stage_age(oldest) if oldest else 0.0,
        sum(lengths) if lengths else None,
        max(ages, default=None),
        _remedy(snapshot, busy, exhausted_for),
        snapshot.heartbeat_age,
        snapshot.is_draining,
        snapshot.upstream_gone_for,
    )


def _remedy(snapshot: Snapshot, busy: list[Slot], exhausted_for: float | None) -> str:
    match snapshot.life:
        case Life.HUNG:
            return "workers go on as they are; nobody replaces them: look at the master process"
        case Life.STOPPED | Life.DEAD:
            return "start bqfilterd"
        case Life.RUNNING if snapshot.upstream_gone_for is not None:
            return "every message is answered 451: see that the after-filter server runs and listens there"
        case Life.RUNNING if exhausted_for is None:
            return ""
        case Life.RUNNING if len(busy) < snapshot.worker_limit:
            return "workers are missing: see the log for why they die"
        case Life.RUNNING:
            causes = Counter(_REMEDIES[slot.stage] for slot in busy if slot.stage in _REMEDIES)
            return _SENTENCES[causes.most_common(1)[0][0]] if causes else ""


class Period:
    """What happened between two snapshots, or since the counters began where there is only one."""

    def __init__(self, later: Snapshot, earlier: Snapshot | None = None) -> None:
        if earlier is not None and earlier.header[Header.MASTER_BIRTH] != later.header[Header.MASTER_BIRTH]:
            earlier = None  # another bqfilterd, whose counters began anew
        self._later, self._earlier = later, earlier
        began = earlier.taken_at if earlier else later.header.seconds(Header.CREATED)
        self.seconds = max(later.taken_at - began, 1e-9)

    def total(self, word: Word) -> int:
        """How much a counter of the slots has grown."""
        return self._later.total(word) - (self._earlier.total(word) if self._earlier else 0)

    def tally(self, word: TallyWord) -> int:
        """How much a counter of the tallies has grown."""
        return _tally(self._later, word) - (_tally(self._earlier, word) if self._earlier else 0)

    def tally_seconds(self, word: TallyWord) -> float:
        """How much a sum of the tallies has grown."""
        return _tally_seconds(self._later, word) - (
            _tally_seconds(self._earlier, word) if self._earlier else 0.0
        )

    def rate(self, count: float) -> float:
        """So many a second."""
        return count / self.seconds

    @property
    def utilisation(self) -> float | None:
        """The part of the workers' time that was spent with sessions."""
        limit = self._later.worker_limit
        spent = self._later.busy_seconds - (self._earlier.busy_seconds if self._earlier else 0.0)
        return max(spent, 0.0) / self.seconds / limit if limit else None

    @property
    def ready(self) -> Distribution:
        """Seconds from calling the after-filter server to MAIL."""
        now = self._later.distribution(UPSTREAM_READY)
        return now.less(self._earlier.distribution(UPSTREAM_READY)) if self._earlier else now

    def tallied(self, histogram: Histogram) -> Distribution:
        """What was added to a histogram of the tallies."""
        now = self._later.tally_distribution(histogram)
        return now.less(self._earlier.tally_distribution(histogram)) if self._earlier else now


def as_value(later: Snapshot, queues: list[Queue], earlier: Snapshot | None = None) -> dict[str, Any]:
    """Everything on the screen, and some more, for json.dumps. Seconds are numbers, null is "not known"."""
    found, period = verdict(later, queues), Period(later, earlier)
    return {
        "verdict": {"is_well": found.is_well, "sentence": found.sentence, "remedy": found.remedy or None},
        "master": _master_value(later),
        "pool": {
            "workers": later.worker_limit,
            "session_limit": later.header.seconds(MasterWord.SESSION_LIMIT),
            "proxy_timeout": later.header.seconds(MasterWord.PROXY_TIMEOUT),
            "states": {state.name.lower(): later.count(state) for state in State if state is not State.FREE},
            "stages": _stages(later),
            "exhausted_for": found.exhausted_for,
            "generation": later.header[MasterWord.GENERATION],
            "exits": {why.name.lower(): later.header[MasterWord.EXITS + why] for why in Exit},
        },
        "listeners": [_listener_value(later, index, queue) for index, queue in enumerate(queues)],
        "messages": {word.name.lower(): later.total(word) for word in RESULT_WORDS},
        "upstream": {
            "open": later.total(Word.UPSTREAM_OPEN),
            "ready_mean": later.distribution(UPSTREAM_READY).mean,
            "failures": {
                "connect": later.total(Word.UNREACHED),
                "conversation": later.total(Word.UPSTREAM_LOST),
            },
        },
        "upstreams": [_server_value(later, one) for one in later.upstreams if one.label.is_present],
        "period": _period_value(period),
        "measured": measured(period, later),
        "sessions": [_session_value(later, slot) for slot in later.busy],
    }


def measured(period: Period, later: Snapshot) -> dict[str, Any]:
    """The figures that a number of workers is computed from."""
    times, waits = period.tallied(DURATION), period.tallied(WAIT)
    accepted = period.tally(TallyWord.ACCEPTED)
    squares = period.tally_seconds(TallyWord.DURATION_SQUARES)
    mean = times.mean
    return {
        "rate": period.rate(accepted - period.tally(TallyWord.PROBES)),
        "service_time": mean,
        "service_cv2": max(squares / times.count / mean**2 - 1, 0.0) if mean and times.count > 1 else None,
        "p_wait": period.tally(TallyWord.QUEUED) / accepted if accepted else None,
        "mean_wait": waits.mean,
        "busy_peak": None,
        "slot_sessions": [slot[Word.SESSIONS] for slot in later.slots],
        "upload_time": period.tallied(STAGE_TIMES[Stage.DATA]).sum / times.count if times.count else None,
        "worker_memory": max((slot[Word.MEMORY] for slot in later.slots), default=0) or None,
        "sessions": times.count,
        "window": period.seconds,
    }


def as_text(later: Snapshot, queues: list[Queue], earlier: Snapshot | None = None) -> str:
    """One screen."""
    period = Period(later, earlier)
    lines = [
        verdict(later, queues).sentence,
        "",
        *_head_lines(later),
        *(_queue_line(listener.entrance.address, queue)
          for listener, queue in zip(later.listeners, queues, strict=True)),
        *_period_lines(period, is_whole=earlier is None),
        _total_line(later),
        _upstream_line(later, period),
        *(_server_line(later, one) for one in later.upstreams if one.label.is_present),
        *_session_lines(later),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _head_lines(later: Snapshot) -> Iterator[str]:
    header = later.header
    up = duration(later.wall - header.seconds(Header.CREATED_WALL))
    yield (
        f"{'master':<10}{header[Header.MASTER_PID]} {later.life}, started {up} ago; "
        f"settings {header[MasterWord.GENERATION]} of {_when(header.seconds(MasterWord.LOADED_WALL))}"
    )
    states = [(later.count(state), state.name.lower()) for state in State if state is not State.FREE]
    shown = ", ".join(f"{count} {name}" for count, name in states if count)
    yield f"{'workers':<10}{later.worker_limit}: {shown or 'none there'}"
    if later.slots:
        yield f"{'slots':<10}{''.join(map(letter, later.slots))}"
    stages = ", ".join(f"{count} {name}" for name, count in _stages(later).items() if count)
    if stages:
        yield f"{'busy with':<10}{stages}"


def _queue_line(address: str, queue: Queue) -> str:
    if queue.length is None:
        return f"{'queue':<10}{address}: unknown"
    words = [f"{queue.length} of {'unknown' if queue.limit is None else queue.limit} waiting"]
    if queue.length:
        words.append(f"the first for {duration(queue.oldest_age)}")
    if queue.gone:
        words.append(f"{queue.gone} gone already")
    if queue.drops:
        words.append(f"{queue.drops} turned away since it was opened")
    return f"{'queue':<10}{address}: {', '.join(words)}"


def _period_lines(period: Period, *, is_whole: bool) -> Iterator[str]:
    accepted, times = period.tally(TallyWord.ACCEPTED), period.tallied(DURATION)
    over = "since the start" if is_whole else f"last {duration(period.seconds)}"
    words = [f"{period.rate(accepted):.2f} connections/s ({over})"]
    if period.utilisation is not None:
        words.append(f"utilisation {period.utilisation:.0%}")
    if accepted:
        words.append(f"{period.tally(TallyWord.QUEUED) / accepted:.0%} had to wait")
        words.append(f"{period.tally(TallyWord.ABANDONED)} gave up")
    yield f"{'rate':<10}{', '.join(words)}"
    if times.count:
        spent = {stage: period.tallied(histogram).sum for stage, histogram in STAGE_TIMES.items()}
        whole = sum(spent.values()) or 1.0
        largest = sorted(spent.items(), key=lambda item: -item[1])
        parts = ", ".join(
            f"{stage_name(stage)} {value / whole:.0%}" for stage, value in largest if value >= 0.01 * whole
        )
        yield f"{'time':<10}{duration(times.mean)} a session: {parts}"


def _total_line(later: Snapshot) -> str:
    results = ", ".join(f"{later.total(word)} {word.name.lower().replace('_', ' ')}" for word in RESULT_WORDS)
    return f"{'messages':<10}{results}"


def _upstream_line(later: Snapshot, period: Period) -> str:
    words = [f"{later.total(Word.UPSTREAM_OPEN)} connections open"]
    if period.ready.count:
        words.append(f"ready after {duration(period.ready.mean)}")
    words.append(f"{later.total(Word.UNREACHED)} times none in reach")
    words.append(f"{later.total(Word.UPSTREAM_LOST)} times lost")
    return f"{'upstream':<10}{', '.join(words)}"


def _server_line(later: Snapshot, server: UpstreamFigures) -> str:
    words = [{True: "up", False: "out of reach", None: "not called yet"}[server.is_up]]
    if server.out_since is not None:
        words[0] += f" for {duration(later.taken_at - server.out_since)}"
    words.append(f"{server.total(UpstreamWord.TRANSACTIONS)} transactions")
    words.append(f"{server.total(UpstreamWord.OPEN)} connections open")
    words.append(f"{server.total(UpstreamWord.UNREACHED)} times out of reach")
    words.append(f"{server.total(UpstreamWord.LOST)} times lost")
    return f"{'server':<10}{server.label.name}: {', '.join(words)}"


def _server_value(later: Snapshot, server: UpstreamFigures) -> dict[str, Any]:
    since = server.out_since
    return {
        "upstream": server.label.name,
        "is_up": server.is_up,
        "out_for": None if since is None else max(later.taken_at - since, 0.0),
        "transactions": server.total(UpstreamWord.TRANSACTIONS),
        "open": server.total(UpstreamWord.OPEN),
        "failures": {
            "connect": server.total(UpstreamWord.UNREACHED),
            "conversation": server.total(UpstreamWord.LOST),
        },
    }


def _session_lines(later: Snapshot) -> Iterator[str]:
    if not later.busy:
        return
    yield ""
    yield f"{'slot':>4}  {'stage':<17}{'for':>8}{'session':>9}  {'client':<24}{'id':<18}limit"
    for slot in later.busy:
        left, doing = _time_left(later, slot), later.scanner(slot) or stage_name(slot.stage)
        yield (
            f"{slot.index:>4}  {doing:<17}{duration(later.stage_age(slot)):>8}"
            f"{duration(later.session_age(slot)):>9}  {slot.client or '-':<24}{_session_id(slot):<18}"
            f"{'-' if left is None else 'in ' + duration(left)}"
        )


def _master_value(later: Snapshot) -> dict[str, Any]:
    header = later.header
    return {
        "pid": header[Header.MASTER_PID],
        "life": later.life.value,
        "started": header.seconds(Header.CREATED_WALL),
        "settings_loaded": header.seconds(MasterWord.LOADED_WALL) or None,
        "failed_reloads": header[MasterWord.FAILED_RELOADS],
        "heartbeat_age": later.heartbeat_age,
        "is_draining": later.is_draining,
        "exporter_sample_age": later.sample_age,
    }


def _listener_value(later: Snapshot, index: int, queue: Queue) -> dict[str, Any]:
    listener = later.listeners[index]
    return {
        "listener": listener.entrance.address,
        "waiting": queue.length,
        "limit": queue.limit,
        "oldest_wait": queue.oldest_age,
        "gone": queue.gone,
        "drops": queue.drops,
        "accepted": listener.total(TallyWord.ACCEPTED),
        "queued": listener.total(TallyWord.QUEUED),
        "abandoned": listener.total(TallyWord.ABANDONED),
        "denied": listener.total(TallyWord.DENIED),
        "probes": listener.total(TallyWord.PROBES),
        "mean_wait": listener.distribution(WAIT).mean,
    }


def _period_value(period: Period) -> dict[str, Any]:
    return {
        "seconds": period.seconds,
        "connections": period.tally(TallyWord.ACCEPTED),
        "utilisation": period.utilisation,
        "queued_share": _share(period, TallyWord.QUEUED),
        "abandoned": period.tally(TallyWord.ABANDONED),
        "session_mean": period.tallied(DURATION).mean,
        "messages": {word.name.lower(): period.total(word) for word in RESULT_WORDS},
        "stage_seconds": {
            stage.name.lower(): period.tallied(histogram).sum for stage, histogram in STAGE_TIMES.items()
        },
    }


def _session_value(later: Snapshot, slot: Slot) -> dict[str, Any]:
    return {
        "slot": slot.index,
        "pid": slot[Word.PID],
        "session": _session_id(slot),
        "listener": _listener(later, slot),
        "client": slot.client or None,
        "stage": slot.stage.name.lower(),
        "scanner": later.scanner(slot) or None,
        "stage_age": later.stage_age(slot),
        "age": later.session_age(slot),
        "limit_in": _time_left(later, slot),
    }


def _stages(later: Snapshot) -> dict[str, int]:
    counts = Counter(slot.stage for slot in later.busy)
    return {stage.name.lower(): counts[stage] for stage in STAGE_TIMES}


def _time_left(later: Snapshot, slot: Slot) -> float | None:
    until = slot.seconds(Word.UNTIL)
    return max(until - later.taken_at, 0.0) if 0 < until < float("inf") else None


def _listener(later: Snapshot, slot: Slot) -> str | None:
    """The address by which the session came in; None where the slot names none that there is."""
    number = slot[Word.LISTENER]
    return later.listeners[number].entrance.address if number < len(later.listeners) else None


def _session_id(slot: Slot) -> str:
    return f"{slot[Word.SESSION]:X}"


def _share(period: Period, word: TallyWord) -> float | None:
    accepted = period.tally(TallyWord.ACCEPTED)
    return period.tally(word) / accepted if accepted else None


def _tally(snapshot: Snapshot, word: TallyWord) -> int:
    return sum(listener.total(word) for listener in snapshot.listeners)


def _tally_seconds(snapshot: Snapshot, word: TallyWord) -> float:
    return sum(listener.seconds(word) for listener in snapshot.listeners)


def letter(slot: Slot) -> str:
    """One character for a slot: "." idle, the initial of what a busy worker waits for, and so on."""
    match slot.state:
        case State.BUSY:
            return _LETTERS[slot.stage]
        case State.IDLE:
            return "."
        case State.STARTING:
            return "s"
        case State.LEAVING:
            return "x"
        case State.FREE:
            return "_"


def stage_name(stage: Stage) -> str:
    """As people read it: "upstream connect"."""
    return stage.name.lower().replace("_", " ")


def duration(seconds: float | None) -> str:
    """Short, with the digits that matter: "12 ms", "4.1 s", "37 s", "12 min", "3.2 h"."""
    if seconds is None:
        return "unknown"
    if 0 < seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} d"


def _when(wall: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall)) if wall else "unknown"
