"""The page that `bqfilterd tune` prints, as lines of text or as one JSON value.

Both say the same. In JSON, seconds and bytes are plain numbers, null is "not known" or "without end", and
names are those of `sizing`. Nothing is computed here but widths of columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bqfilter.config.units import format_duration
from bqfilter.saturation import advice, law
from bqfilter.saturation.advice import Services, number, probability, seconds, size
from bqfilter.saturation.comparison import Comparison
from bqfilter.saturation.layout import columns, plain, section, wrapped
from bqfilter.saturation.live import Live
from bqfilter.saturation.sizing import (
    MOST_CPU,
    Breach,
    Constraint,
    Figures,
    Kind,
    Measured,
    Outlook,
    Plan,
    Source,
    figure_names,
    outlook,
)

if TYPE_CHECKING:
    from bqfilter.saturation.fleet import Prospect


@dataclass(frozen=True, slots=True)
class Page:
    """All that goes onto the page. `breaches` is None where the running set-up is not known."""

    plan: Plan
    outlooks: Sequence[Outlook]
    services: Services
    breaches: Sequence[Breach] | None = None
    measured: Measured | None = None
    comparison: Comparison | None = None
    live: Live | None = None


def _exact_seconds(value: float) -> str:
    return f"{number(value)}s"


_SETTINGS_TITLE = "bqfilterd.toml (takes a reload; another backlog takes a restart)"

_FORMATS: dict[str, Callable[[Any], str]] = {
    "rate": lambda value: f"{number(value)}/s",
    "service_time": _exact_seconds,
    "service_cv2": number,
    "arrival_cv2": number,
    "upload_time": _exact_seconds,
    "speed_adjust": lambda value: "on" if value else "off",
    "session": lambda value: format_duration(value) if value else "no limit",
    "proxy_timeout": format_duration,
    "queue_wait": format_duration,
    "worker_memory": size,
    "memory": size,
    "base_memory": size,
    "cpu_per_message": _exact_seconds,
    "wait_target": _exact_seconds,
    "wait_probability": probability,
}


def lines(page: Page) -> Iterator[str]:
    """The page as text."""
    yield from section("Running set-up", _running_rows(page))
    yield from section("Figures", figure_rows(page.plan.figures, figure_names()))
    yield from section("Constraints", constraint_rows(page.plan.constraints, page.plan.figures))
    yield from section(*_proposal(page.plan))
    yield from section(_outlook_title(page.plan), _outlook_rows(page.outlooks, page.plan))
    if page.plan.choice.workers:
        yield from section(_SETTINGS_TITLE, advice.settings(page.plan))
        yield from section("Postfix", advice.commands(page.plan, page.services))
    yield from section("Measured", _measured_rows(page))
    yield from section("Advice", wrapped(advice.remedies(page.plan)))


def figure_rows(figures: Figures, names: Sequence[str]) -> list[str]:
    """What is known of these, and where from."""
    known = [(name, getattr(figures, name)) for name in names]
    return columns(
        [
            (name.replace("_", "-"), _FORMATS.get(name, str)(value), figures.sources[name].value)
            for name, value in known
            if value is not None
        ]
    )


def constraint_rows(constraints: Iterable[Constraint], figures: Figures) -> list[str]:
    """Each with its number, whether it is met, and the reason for it."""
    return columns(
        [
            (
                one.name,
                _bound(one),
                _status(one),
                _reason(one, figures),
                ", ".join(source.value for source in _sources(one, figures)),
            )
            for one in constraints
        ]
    )


def _bound(constraint: Constraint) -> str:
    if constraint.kind is Kind.CONDITION:
        return f"{constraint.value:.0%}" if constraint.name == "cpu" else number(constraint.value)
    return f"workers {constraint.kind.value} {constraint.value:.0f}"


def _status(constraint: Constraint) -> str:
    met = "" if constraint.is_met else "NOT MET"
    return ", ".join(filter(None, ["BINDS" if constraint.binds else "", met])) or "ok"


def _sources(constraint: Constraint, figures: Figures) -> list[Source]:
    used = {figures.sources[name] for name in constraint.figures if name in figures.sources}
    return [source for source in Source if source in used]


def _reason(constraint: Constraint, figures: Figures) -> str:
    match constraint.name:
        case "comfort":
            erlangs = figures.load.erlangs if figures.load else 0
            return f"{advice.comfort_text(figures)}; {number(erlangs)} busy on average"
        case "law":
            return _law_reason(figures)
        case "memory":
            whole, base, worker = _shown(figures, "memory", "base_memory", "worker_memory")
            return f"({whole} - {base}) / {worker}"
        case "cpu":
            rate, each = _shown(figures, "rate", "cpu_per_message")
            return f"{rate} * {each} / {figures.cores} cores, at most {MOST_CPU:.0%}"
        case "before-filter":
            return "more than its maxproc can never be used"
        case "after-filter":
            return "each worker holds one of its processes"
        case "pool.workers":
            return "the most that the setting takes"
        case _:
            return "at least the before-filter maxproc"


def _law_reason(figures: Figures) -> str:
    processes = figures.before_maxproc
    if not figures.speed_adjust:
        return f"without speed_adjust each of {processes} processes holds a worker"
    turns = law.allowed_turns(figures.patience, figures.session)
    if turns == 1:
        return f"nobody may wait: {processes} / 1 turn"
    timeout, session = _shown(figures, "proxy_timeout", "session")
    before = f" less {_shown(figures, 'queue_wait')[0]} in front" if figures.queue_wait else ""
    return f"{processes} / {turns} turns of {session} within {timeout}{before}"


def _shown(figures: Figures, *names: str) -> list[str]:
    return [_FORMATS[name](getattr(figures, name)) for name in names]


def _proposal(plan: Plan) -> tuple[str, list[str]]:
    choice = plan.choice
    if not choice.workers:
        return "Proposal", ["none: not even one worker fits"]
    title = "Proposal" if choice.is_enough else "Proposal: the most that fits, and it is NOT ENOUGH"
    rows = [
        ("workers", str(choice.workers)),
        ("session budget", format_duration(choice.session) if choice.session else "no limit"),
        ("backlog", str(plan.backlog)),
        ("before-filter maxproc", _maxproc_text(plan)),
        ("after-filter maxproc", f"{plan.after_maxproc}, at least one for each worker"),
        *_predictions(plan),
    ]
    return title, columns(rows)


def _maxproc_text(plan: Plan) -> str:
    choice = plan.choice
    session = choice.session if plan.figures.speed_adjust else 0
    most = law.most_processes(choice.workers, plan.figures.patience, session)
    return f"{choice.before_maxproc}; {choice.workers} workers allow up to {most}"


def _predictions(plan: Plan) -> Iterator[tuple[str, str]]:
    choice, load = plan.choice, plan.figures.load
    if load is not None:
        workers = choice.workers
        yield "utilisation", f"{load.utilisation(workers):.0%}"
        yield "P(wait)", probability(load.p_wait(workers))
        yield "99% wait less than", seconds(load.wait_exceeded_by(0.01, workers))
    if plan.surge is not None and load is not None:
        full = f"all are busy when a mean session takes {number(choice.workers / load.rate)}s"
        yield "surge factor", f"{number(plan.surge)}: {full if plan.surge > 1 else 'too few'}"
    if choice.session:
        stay = law.longest_stay(choice.before_maxproc, choice.workers, choice.session)
        stay += plan.figures.queue_wait or 0.0
        yield "nobody takes longer than", f"{seconds(stay)}, wait and session together"


def _outlook_title(plan: Plan) -> str:
    changed = []
    if plan.choice.session != plan.figures.session:
        changed.append(f"session {format_duration(plan.choice.session)}")
    if plan.choice.before_maxproc != plan.figures.before_maxproc:
        changed.append(f"before-filter maxproc {plan.choice.before_maxproc}")
    return f"What if, with {' and '.join(changed)}" if changed else "What if"


def _outlook_rows(outlooks: Sequence[Outlook], plan: Plan) -> list[str]:
    if not outlooks:
        return []
    target = f"P(>{seconds(plan.figures.wait_target)})"
    head = (
        "workers",
        "busy",
        "P(wait)",
        "mean wait",
        target,
        "P(>5s)",
        "p99 wait",
        "at most",
        "law",
        "memory",
    )
    rows = [head, *(_outlook_cells(one) for one in outlooks)]
    kept = [column for column in zip(*rows, strict=True) if any(column[1:])]
    marks = ["", *("<- proposed" if one.workers == plan.choice.workers else "" for one in outlooks)]
    table = columns(list(zip(*kept, strict=True)), right=True)
    return [f"{row}  {mark}" for row, mark in zip(table, marks, strict=True)]


def _outlook_cells(one: Outlook) -> tuple[str, ...]:
    return (
        str(one.workers),
        *wait_cells(one),
        cell(one.wait_p99, seconds),
        cell(one.longest_stay, seconds),
        "holds" if one.law_holds else "BROKEN",
        cell(one.memory, size) + ("" if one.fits_memory is not False else " TOO MUCH"),
    )


def wait_cells(one: Outlook | Prospect) -> tuple[str, ...]:
    """How busy workers are, and how long a connection waits for one: of a pool or of a fleet."""
    return (
        cell(one.utilisation, lambda value: f"{value:.2f}"),
        cell(one.p_wait, probability),
        cell(one.mean_wait, seconds),
        cell(one.p_wait_beyond_target, probability),
        cell(one.p_wait_beyond_5s, probability),
    )


def cell(value: Any, show: Callable[[Any], str]) -> str:
    """Of a table, empty where something is not known."""
    return "" if value is None else show(value)


def _measured_rows(page: Page) -> list[str]:
    texts = [advice.live_text(page.live)] if page.live else []
    texts += [advice.comparison_text(page.comparison)] if page.comparison else []
    if page.measured:
        texts += advice.usage_texts(page.measured, page.plan.figures.workers)
    return wrapped(texts)


def _running_rows(page: Page) -> list[str]:
    if page.breaches is None:
        return []
    if not page.breaches:
        return ["- ok: the law holds, and the after-filter service has a process for each worker"]
    texts = [f"WRONG: {advice.breach_text(breach, page.plan.figures)}" for breach in page.breaches]
    return wrapped(texts)


def as_json(page: Page) -> dict[str, Any]:
    """The page as a JSON value."""
    plan, figures = page.plan, page.plan.figures
    value = {
        "figures": figures_json(figures, figure_names()),
        "constraints": [constraint_json(one, figures) for one in plan.constraints],
        "proposal": {
            **asdict(plan.choice),
            "after_maxproc": plan.after_maxproc,
            "backlog": plan.backlog,
            "surge": plan.surge,
            "outlook": asdict(outlook(plan.adopted, plan.choice.workers)) if plan.choice.workers else None,
        },
        "what_if": [asdict(one) for one in page.outlooks],
        "settings": advice.settings(plan) if plan.choice.workers else [],
        "commands": advice.commands(plan, page.services) if plan.choice.workers else [],
        "advice": advice.remedies(plan),
        "measured": asdict(page.measured) if page.measured else None,
        "live": page.live is not None,
        "comparison": asdict(page.comparison) if page.comparison else None,
        "breaches": None if page.breaches is None else [one.value for one in page.breaches],
    }
    found: dict[str, Any] = plain(value)
    return found


def figures_json(figures: Figures, names: Sequence[str]) -> dict[str, Any]:
    """What is known of these, and where from, for JSON."""
    return {
        name: {"value": getattr(figures, name), "source": figures.sources[name]}
        for name in names
        if getattr(figures, name) is not None
    }


def constraint_json(constraint: Constraint, figures: Figures) -> dict[str, Any]:
    """The same for JSON."""
    return {
        **asdict(constraint),
        "reason": _reason(constraint, figures),
        "sources": _sources(constraint, figures),
    }
