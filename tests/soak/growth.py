"""Whether a program grows: what it holds, looked at again and again, and the verdict in the end.

The first quarter of a run is for warming up. What counts is the median of the last quarter against that of
the second one: it may be larger by a twentieth and, because a small number has no twentieth, by the slack of
its kind. That finds what grows for ever, given time, and does not take a moment for a trend.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

from benchmarks import proc

from .boards import Board

_TOLERANCE = 1.05
_FEWEST = 8  # samples for a verdict


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is to stay flat; more of it by `slack` is no growth."""

    name: str
    unit: str
    slack: float


MEASURES = (
    Measure("master, memory", "KiB", 256),
    Measure("exporter, memory", "KiB", 512),
    Measure("a worker, memory, mean", "KiB", 512),
    Measure("all together, memory", "KiB", 2048),
    Measure("master, descriptors", "", 1),
    Measure("exporter, descriptors", "", 1),
    Measure("a worker, descriptors, mean", "", 1),
    Measure("processes", "", 1),
)


@dataclass(frozen=True, slots=True)
class Trend:
    """The medians of the four quarters, and the highest value of all."""

    measure: Measure
    quarters: tuple[float, float, float, float]
    highest: float

    @property
    def is_flat(self) -> bool:
        return self.quarters[3] <= self.quarters[1] * _TOLERANCE + self.measure.slack


@dataclass(slots=True)
class Growth:
    """Samples of one program: `look` takes one."""

    samples: list[Mapping[str, float]] = field(default_factory=list)
    workers: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # sessions held, private KiB

    def look(self, master: int, runtime: Path, workers: int) -> None:
        """Where processes come and go meanwhile there is no sample."""
        with suppress(OSError, LookupError, ValueError):
            self.samples.append(dict(_figures(master)))
            board = Board(runtime, workers)
            for pid, slot in board.serving().items():
                self._note_worker(pid, board.jobs(slot))

    def trends(self) -> list[Trend]:
        """Nothing where there are too few samples to speak of quarters."""
        if len(self.samples) < _FEWEST:
            return []
        return [_trend(measure, self.samples) for measure in MEASURES]

    def per_thousand_messages(self) -> float | None:
        """KiB by which a worker's private memory has grown over a thousand messages, once it was warm."""
        slopes = [_slope(points) for points in self.workers.values() if len(points) > 1]
        weighty = [(growth, jobs) for growth, jobs in slopes if jobs]
        return (
            1000 * sum(growth for growth, _ in weighty) / sum(jobs for _, jobs in weighty)
            if weighty
            else None
        )

    def _note_worker(self, pid: int, jobs: int) -> None:
        if jobs >= _WARM:
            self.workers.setdefault(pid, []).append((jobs, proc.memory(pid).private))


_WARM = 200  # sessions after which a worker has seen most of what there is to see


def _slope(points: Sequence[tuple[int, int]]) -> tuple[int, int]:
    (first_jobs, first), (last_jobs, last) = points[0], points[-1]
    return last - first, last_jobs - first_jobs


def _figures(master: int) -> Iterator[tuple[str, float]]:
    titles = {pid: proc.title(pid) for pid in proc.children(master)}
    exporter, *_ = [pid for pid, title in titles.items() if "exporter" in title]
    workers = [pid for pid, title in titles.items() if "worker" in title]
    memory = {pid: proc.memory(pid).pss for pid in (master, exporter, *workers)}
    descriptors = {pid: _descriptors(pid) for pid in (master, exporter, *workers)}
    yield "master, memory", memory[master]
    yield "exporter, memory", memory[exporter]
    yield "a worker, memory, mean", mean(memory[pid] for pid in workers)
    yield "all together, memory", sum(memory.values())
    yield "master, descriptors", descriptors[master]
    yield "exporter, descriptors", descriptors[exporter]
    yield "a worker, descriptors, mean", mean(descriptors[pid] for pid in workers)
    yield "processes", 2 + len(workers)


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _trend(measure: Measure, samples: Sequence[Mapping[str, float]]) -> Trend:
    values = [sample[measure.name] for sample in samples]
    size = len(values) / 4
    quarters = [median(values[round(at * size) : round((at + 1) * size)]) for at in range(4)]
    return Trend(measure, (quarters[0], quarters[1], quarters[2], quarters[3]), max(values))


def table(trends: Iterable[Trend]) -> Iterator[str]:
    """Markdown."""
    yield "| | first quarter | second | third | last | highest | |"
    yield "| --- | --: | --: | --: | --: | --: | --- |"
    for trend in trends:
        cells = [_cell(value, trend.measure.unit) for value in (*trend.quarters, trend.highest)]
        verdict = "flat" if trend.is_flat else "**grows**"
        yield f"| {trend.measure.name} | {' | '.join(cells)} | {verdict} |"


def _cell(value: float, unit: str) -> str:
    return f"{value / 1024:.1f} MiB" if unit == "KiB" else f"{value:.1f}".removesuffix(".0")
