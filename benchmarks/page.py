"""The generated blocks of docs/performance.md: tables of what is in benchmarks/published/.

Each block stands between two markers of its own on the page, which is otherwise written by hand. Nothing is
typed in: a part that has not been published yet says so.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from benchmarks import growth, life, loads, sizes, syscalls
from benchmarks.contenders import FILTER_KEPT, FILTER_ONE, HAPROXY, NO_FILTER
from benchmarks.matrix import SIZES
from benchmarks.peers import LOCKSTEP, LOCKSTEP_KEPT
from benchmarks.postfix import SPEED_ADJUST
from benchmarks.published import MATRIX, MEMORY, POSTFIX, SCANNERS, Part
from benchmarks.report import heading, markdown
from benchmarks.section import number

Parts = Mapping[str, Part]
Record = Mapping[str, Any]

NOTHING = "Not measured yet."
FAULT = "fault"
_PLAIN = (NO_FILTER, HAPROXY, FILTER_ONE, FILTER_KEPT)  # who asks no scanner
_BARE = {FILTER_ONE: LOCKSTEP.name, FILTER_KEPT: LOCKSTEP_KEPT.name}  # what does no more in the same manner
_UNSHOWN = ("busy, KiB", "of workers")  # columns of growth
_FEW = 0.5  # system calls a message; those that are fewer have one row together


def filled(page: str, blocks: Mapping[str, str]) -> str:
    """The page with these blocks between their markers."""
    for name, block in blocks.items():
        before, begin, rest = page.partition(f"<!-- {name}:begin -->")
        _, end, after = rest.partition(f"<!-- {name}:end -->")
        if not begin or not end:
            raise ValueError(f"the markers {name}:begin and {name}:end must both be on the page")
        page = f"{before}{begin}\n\n{block}\n\n{end}{after}"
    return page


def blocks(parts: Parts) -> dict[str, str]:
    return {name: "\n\n".join(make(parts)) or NOTHING for name, make in _BLOCKS.items()}


# ---- what was measured when --------------------------------------------------------------------------------


def _machine(parts: Parts) -> Iterator[str]:
    """Of the latest record."""
    measured = [one for part in parts.values() for one in part["measured"]]
    if measured:
        last = max(measured, key=lambda one: one["taken"])
        yield heading(last["machine"], datetime.fromisoformat(last["taken"]))


def _runs(parts: Parts) -> Iterator[str]:
    """A row for each record, with all parts that come from it."""
    found: dict[str, tuple[Record, list[str]]] = {}
    for name, part in parts.items():
        for one in part["measured"]:
            found.setdefault(one["taken"], (one, []))[1].append(name)
    rows = [
        [
            f"`{one['command']}`" if "command" in one else "",
            ", ".join(names),
            one["taken"].replace("T", " ")[:16],
            _took(one.get("seconds")),
            one["machine"]["load average"],
        ]
        for _, (one, names) in sorted(found.items())
    ]
    if rows:
        yield markdown(["command", "what", "end, UTC", "took", "load average before"], rows)


def _took(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


# ---- messages through every contender ----------------------------------------------------------------------


def _aims(parts: Parts) -> Iterator[str]:
    rows = [*_aims_of(parts, MATRIX), *_aims_of(parts, POSTFIX)]
    if rows:
        yield markdown(
            [
                "load",
                "contender",
                "aim, to HAProxy",
                "found",
                "lowest to highest",
                "met",
                "bare proxy in Python",
            ],
            rows,
        )


def _aims_of(parts: Parts, part: str) -> Iterator[list[str]]:
    found = _loads(parts, part)
    for name, (aims, more_is_better) in _AIMS.items():
        title = found[name]["title"] if name in found else ""
        for contender, aim in aims.items():
            summary = _summary(found.get(name), contender)
            if summary and "ratio" in summary:
                bare = _summary(found.get(name), _BARE[contender])
                floor = (
                    _in_terms_of_aim(bare["ratio"], more_is_better)[0] if bare and "ratio" in bare else None
                )
                cells = _aim_cells(summary["ratio"], aim, more_is_better)
                yield [title, contender, *cells, "" if floor is None else f"{floor:.2f}"]
                title = ""


def _aim_cells(ratio: Record, aim: float, more_is_better: bool) -> list[str]:
    values = _in_terms_of_aim(ratio, more_is_better)
    wanted = f"rate at least {aim:.2f}" if more_is_better else f"time at most {aim:.2f}"
    is_met = values[0] >= aim if more_is_better else values[0] <= aim
    return [wanted, f"{values[0]:.2f}", f"{min(values):.2f} to {max(values):.2f}", "yes" if is_met else "no"]


def _in_terms_of_aim(ratio: Record, more_is_better: bool) -> list[float]:
    """Where less is better the aim is about the time of a message, and the record has the rate."""
    return [ratio[key] if more_is_better else 1 / ratio[key] for key in ("median", "lowest", "highest")]


# By the cell that shows it: aims, and whether they are floors.
_AIMS: dict[str, tuple[Mapping[str, float], bool]] = {
    "4k-20": (loads.many(1).aims, True),
    "4k-1": (loads.alone(1).aims, False),
    "25m-1": (loads.large(1, 1).aims, True),
    "25m-20": (loads.large(4, 1).aims, True),
    POSTFIX: (loads.POSTFIX_AIMS, True),
    f"{POSTFIX}-{SPEED_ADJUST}": (loads.POSTFIX_AIMS, True),
}


def _small(parts: Parts) -> Iterator[str]:
    found = _loads(parts, MATRIX)
    rows = [row for name in ("4k-1", "4k-20", "4k-100") if name in found for row in _load_rows(found[name])]
    if rows:
        yield markdown(
            ["load", "contender", "messages/s", "to HAProxy", "lowest to highest", "CPU µs/message"], rows
        )


def _load_rows(load: Record) -> Iterator[list[str]]:
    title = load["title"]
    for summary in load["summaries"]:
        yield [
            title,
            summary["contender"],
            _rate(summary["messages_per_second"]),
            *_ratio(summary.get("ratio")),
            number(summary.get("cpu_per_message"), 0),
        ]
        title = ""
    for fault in load["faults"]:
        yield [title, fault["contender"], FAULT, "", "", ""]
        title = ""


def _by_size(parts: Parts) -> Iterator[str]:
    """The ratio of the rate at 20 sessions, and in brackets its lowest and highest."""
    found = _loads(parts, MATRIX)
    names = [f"{size}-20" for size in SIZES if f"{size}-20" in found]
    contenders = dict.fromkeys(one for name in names for one in _contenders(found[name]) if one != HAPROXY)
    if names:
        head = [found[name]["title"].partition(",")[0] for name in names]
        rows = [[one, *(_size_cell(found[name], one) for name in names)] for one in contenders]
        yield markdown(["rate to HAProxy's, 20 sessions", *head], rows)


def _size_cell(load: Record, contender: str) -> str:
    if any(fault["contender"] == contender for fault in load["faults"]):
        return FAULT
    summary = _summary(load, contender)
    if summary is None or "ratio" not in summary:
        return ""
    median_ratio, span = _ratio(summary["ratio"])
    return f"{median_ratio} ({span})"


def _between_postfix(parts: Parts) -> Iterator[str]:
    found = _loads(parts, POSTFIX)
    if set(found) != {POSTFIX, f"{POSTFIX}-{SPEED_ADJUST}"}:
        return
    rows = [
        [contender, *(cell for load in found.values() for cell in _postfix_cells(load, contender))]
        for contender in dict.fromkeys(one for load in found.values() for one in _contenders(load))
    ]
    head = ["messages/s", "to HAProxy", "lowest to highest", "CPU µs/message"]
    yield markdown(["between two Postfix", *head, "with speed_adjust, messages/s", *head[1:]], rows)


def _postfix_cells(load: Record, contender: str) -> list[str]:
    summary = _summary(load, contender)
    if summary is None:
        return [FAULT, "", "", ""]
    cpu = number(summary.get("cpu_per_message"), 0)
    return [_rate(summary["messages_per_second"]), *_ratio(summary.get("ratio")), cpu]


def _scanners(parts: Parts) -> Iterator[str]:
    rows = [row for load in _loads(parts, SCANNERS).values() for row in _scanner_rows(load)]
    if rows:
        head = ["load", "contender", "messages/s", "to the scanner alone", "lowest to highest"]
        yield markdown([*head, "CPU µs/message", "scanner's", "beyond the scanner alone"], rows)


def _scanner_rows(load: Record) -> Iterator[list[str]]:
    """The scanner and who asks it; where it is in the filter, the filter without it stands for it."""
    kind = load["name"].rpartition("-")[0]
    alone = _summary(load, f"{kind} alone")
    title = load["title"]
    for summary in load["summaries"]:
        name = summary["contender"]
        if alone is None and "bqfilterd" not in name:
            continue
        if alone is not None and name in _PLAIN:
            continue
        own, scanner = summary.get("cpu_per_message"), summary.get("scanner_cpu_per_message")
        yield [
            title,
            name,
            _rate(summary["messages_per_second"]),
            *(_ratio(summary.get("to_scanner")) if summary is not alone else ("", "")),
            number(own, 0),
            number(scanner, 0),
            number(_beyond(load, summary, alone), 0),
        ]
        title = ""
    for fault in load["faults"]:
        yield [title, fault["contender"], FAULT, "", "", "", "", ""]
        title = ""


def _beyond(load: Record, summary: Record, alone: Record | None) -> float | None:
    """Processor time of filter and scanner, less that of the scanner that is asked by nobody but clients."""
    if summary is alone:
        return None
    if alone is not None:
        spent: float = summary["cpu_per_message"] + summary.get("scanner_cpu_per_message", 0)
        return spent - float(alone["scanner_cpu_per_message"])
    plain = _summary(load, summary["contender"].rpartition(", ")[0])
    return float(summary["cpu_per_message"] - plain["cpu_per_message"]) if plain else None


def _faults(parts: Parts) -> Iterator[str]:
    """Who was not there, and who did not do its work under which loads."""
    left_out = dict.fromkeys(
        sentence for part in parts.values() for one in part["measured"] for sentence in one["left out"]
    )
    under: dict[tuple[str, str], list[str]] = {}
    for name in (MATRIX, POSTFIX, SCANNERS):
        for load in _loads(parts, name).values():
            for fault in load["faults"]:
                under.setdefault((fault["contender"], fault["reason"]), []).append(load["title"])
    rows = [[name, "; ".join(titles), reason] for (name, reason), titles in under.items()]
    if rows:
        yield markdown(["did not do its work", "under", "what was seen"], rows)
    elif _loads(parts, MATRIX):
        yield "Every program that took part did its work under every load."
    if left_out:
        yield "\n".join(["Left out:", "", *(f"- {sentence}" for sentence in left_out)])


# ---- the other parts ---------------------------------------------------------------------------------------


def _latency(parts: Parts) -> Iterator[str]:
    rows, last = [], None
    for turn in _rows(parts, "latency"):
        whole, lag = turn["microseconds"]["whole"], turn["microseconds"]["lag"]
        rows.append(
            [
                "" if turn["title"] == last else turn["title"],
                turn["contender"],
                *map(_ms, (whole["p50"], whole["p99"], whole["p999"])),
                *(_ms(turn["microseconds"][step]["p50"]) for step in ("banner", "envelope", "dot")),
                _ms(lag["p99"]),
                "yes" if turn["trusted"] else "no",
            ]
        )
        last = turn["title"]
    if rows:
        head = ["load", "contender", "p50 ms", "p99 ms", "p99.9 ms", "banner p50", "envelope p50", "dot p50"]
        yield markdown([*head, "lag p99 ms", "trusted"], rows)


def _ms(microseconds: float | None) -> str:
    return number(None if microseconds is None else microseconds / 1000)


def _life(parts: Parts) -> Iterator[str]:
    if lives := [life.Lifetime(**row) for row in _rows(parts, life.NAME)]:
        section = life.section(lives)
        yield markdown(list(section.head), [list(row) for row in section.rows])


def _growth(parts: Parts) -> Iterator[str]:
    if pools := [pool_of(row) for row in _rows(parts, growth.NAME)]:
        section = growth.section(pools)
        shown = [
            column for column, title in enumerate(section.head) if title not in ("busy, KiB", "of workers")
        ]
        yield markdown(
            [section.head[column] for column in shown],
            [[row[column] for column in shown] for row in section.rows],
        )


def pool_of(row: Record) -> growth.Pool:
    """As it was before it was written down."""
    rest = row["rest"]
    return growth.Pool(
        workers=row["workers"],
        fresh=growth.Sizes(**row["fresh"]),
        rest=growth.Rest(
            rest["seconds"], growth.Work(**rest["all_processes"]), growth.Work(**rest["workers"])
        ),
        turns=[growth.Turn(**turn) for turn in row["turns"]],
        used=growth.Sizes(**row["used"]),
        busy_worker=row["busy_worker"],
    )


def _cost_by_size(parts: Parts) -> Iterator[str]:
    turns = [sizes.Turn(**row) for row in _rows(parts, sizes.NAME)]
    if turns:
        found = {(row[0], row[1]): row for row in sizes.section(turns).rows}
        names = list(dict.fromkeys(size for size, _ in found))
        head = ["CPU µs/message, 4 sessions", HAPROXY, FILTER_ONE, "to HAProxy", FILTER_KEPT, "to HAProxy"]
        yield markdown([*head, "MB/s"], [_cost_row(size, found) for size in names])


def _cost_row(size: str, found: Mapping[tuple[str, str], Sequence[str]]) -> list[str]:
    haproxy, one, kept = (found[size, name] for name in (HAPROXY, FILTER_ONE, FILTER_KEPT))
    return [size, haproxy[4], one[4], one[5], kept[4], kept[5], kept[3]]


def _syscalls(parts: Parts) -> Iterator[str]:
    counts = [syscalls.Count(**row) for row in _rows(parts, syscalls.NAME)]
    if not counts:
        return
    most = {name: max(count.a_message(name) for count in counts) for count in counts for name in count.calls}
    shown = sorted((name for name in most if most[name] >= _FEW), key=lambda name: (-most[name], name))
    rows = [[f"`{name}`", *(number(count.a_message(name)) for count in counts)] for name in shown]
    others = [count.total - sum(map(count.a_message, shown)) for count in counts]
    rows += [["others", *map(number, others)], ["all", *(number(count.total) for count in counts)]]
    yield markdown(["system calls a message", *(count.contender for count in counts)], rows)


def _memory(parts: Parts) -> Iterator[str]:
    if rows := _rows(parts, MEMORY):
        yield markdown(["memory", "KiB"], [[row["what"], number(row["kib"], 0)] for row in rows])


# ---- figures -----------------------------------------------------------------------------------------------


def _rows(parts: Parts, name: str) -> Sequence[Record]:
    return parts[name]["rows"] if name in parts else []


def _loads(parts: Parts, name: str) -> dict[str, Record]:
    return {load["name"]: load for load in _rows(parts, name)}


def _contenders(load: Record) -> list[str]:
    return [one["contender"] for one in (*load["summaries"], *load["faults"])]


def _summary(load: Record | None, contender: str) -> Record | None:
    summaries = load["summaries"] if load else ()
    return next((one for one in summaries if one["contender"] == contender), None)


def _rate(value: float) -> str:
    return number(value, 0 if value >= 100 else 1)


def _ratio(ratio: Record | None) -> tuple[str, str]:
    if ratio is None:
        return "", ""
    digits = 2 if ratio["median"] >= 0.1 else 3
    low, high = number(ratio["lowest"], digits), number(ratio["highest"], digits)
    return number(ratio["median"], digits), f"{low} to {high}"


_BLOCKS: dict[str, Callable[[Parts], Iterator[str]]] = {
    "machine": _machine,
    "runs": _runs,
    "aims": _aims,
    "small-messages": _small,
    "sizes": _by_size,
    "cost-by-size": _cost_by_size,
    "postfix": _between_postfix,
    "scanners": _scanners,
    "latency": _latency,
    "life": _life,
    "growth": _growth,
    "syscalls": _syscalls,
    "memory": _memory,
    "faults": _faults,
}
