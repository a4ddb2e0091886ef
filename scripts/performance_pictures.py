"""The pictures of docs/performance.md, from the records in benchmarks/published/."""

import itertools
import math
import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from drawing import WIDTH, Drawing, logarithmic, ruled, scale, ticked  # noqa: E402

from benchmarks.contenders import FILTER_KEPT, FILTER_ONE, HAPROXY, NO_FILTER  # noqa: E402
from benchmarks.distribution import CURVE  # noqa: E402
from benchmarks.peers import LOCKSTEP, LOCKSTEP_KEPT  # noqa: E402

LEFT, RIGHT = 64, WIDTH - 24
LINE = 16  # pixels between two labels, one below the other

# Ours in blue, what copies bytes in black, the peers in orange, what nobody would use in grey.
_BARE = (LOCKSTEP.name, LOCKSTEP_KEPT.name)
_KINDS = {
    NO_FILTER: "dim",
    HAPROXY: "ink",
    FILTER_ONE: "one",
    FILTER_KEPT: "one",
    **dict.fromkeys(_BARE, "dim"),
}


def kind_of(contender):
    return _KINDS.get(contender, "two")


def curve_of(contender):
    """One message a connection is the broken one of two lines in blue."""
    if contender == NO_FILTER:
        return "curve axis dashed"
    return f"curve line-{kind_of(contender)}" + (" dashed" if contender == FILTER_ONE else "")


def loads(parts):
    return {load["name"]: load for load in parts["matrix"]["rows"]}


# ---- what a message costs ----------------------------------------------------------------------------------

_COST_STEPS = {100: "0.1 ms", 1000: "1 ms", 10_000: "10 ms", 100_000: "100 ms", 1_000_000: "1 s"}


def cost_picture(parts):
    """Processor time a message of everybody that carries it, cheapest first."""
    found = {
        summary["contender"]: summary["cpu_per_message"]
        for summary in loads(parts)["4k-20"]["summaries"]
        if summary.get("cpu_per_message", 0) > 0
    }
    rows = sorted(found.items(), key=lambda row: row[1])
    told = "; ".join(f"{name}: {_time(cost)}" for name, cost in rows)
    bottom = 58 + 28 * len(rows)
    drawing = Drawing(
        "Processor time of a message of 4 KiB, 20 sessions",
        "What the processes of each contender spend on one message, user and system together, on a "
        f"logarithmic scale, median of the rounds. {told}.",
        bottom + 40,
    )
    begin, end = 250, RIGHT - 70
    low, high = _decades(found.values())
    x = logarithmic(low, high, begin, end)
    steps = {step: label for step, label in _COST_STEPS.items() if 10**low <= step <= 10**high}
    for step in steps:
        drawing.line(x(step), 48, x(step), bottom, "grid")
    for top, (name, cost) in zip(range(50, bottom, 28), rows, strict=False):
        drawing.text(begin - 10, top + 17, name, "ink small end")
        drawing.box(begin, top + 3, x(cost), top + 21, kind_of(name), 2)
        drawing.text(x(cost) + 8, top + 17, _time(cost), "ink small")
    drawing.line(begin, 48, begin, bottom)
    ticked(drawing, steps, x, bottom)
    drawing.line(begin, bottom, end, bottom)
    return drawing


def _decades(values):
    """Powers of ten around all of them."""
    return math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))


def _time(microseconds):
    if microseconds < 1000:
        return f"{microseconds:.0f} \N{MICRO SIGN}s"
    return f"{microseconds / 1000:.{1 if microseconds < 100_000 else 0}f} ms"


# ---- from small messages to large ones ---------------------------------------------------------------------

# Peers cross each other: no two have the same line.
_PEERS = (
    ("two", "curve line-two"),
    ("limit", "curve line-limit"),
    ("two", "curve line-two dashed"),
    ("limit", "curve line-limit dashed"),
    ("dim", "curve axis"),
)


def sizes_picture(parts):
    """The rate beside HAProxy's, by size, a line for each contender that is one."""
    found = [load for name, load in loads(parts).items() if name.endswith("-20")]
    lines = {}
    for load in sorted(found, key=lambda load: load["size"]):
        for summary in load["summaries"]:
            if "ratio" in summary and summary["contender"] not in _BARE:
                point = (load["size"], summary["ratio"]["median"])
                lines.setdefault(summary["contender"], []).append(point)
    lines.pop(HAPROXY)
    peers = [name for name in lines if kind_of(name) == "two"]
    styles = dict(zip(peers, itertools.cycle(_PEERS), strict=False))
    kinds = {name: styles[name][0] if name in styles else kind_of(name) for name in (*lines, HAPROXY)}
    told = "; ".join(
        f"{name}: " + ", ".join(f"{ratio:.2g} at {_size(size)}" for size, ratio in points)
        for name, points in lines.items()
    )
    drawing = Drawing(
        "The rate beside HAProxy's, by size of the messages, 20 sessions",
        f"1 is as many messages a second as HAProxy in TCP mode, which copies bytes. {told}.",
        430,
    )
    ratios = [ratio for points in lines.values() for _, ratio in points]
    y = logarithmic(math.log10(min(ratios) / 1.3), math.log10(max(*ratios, 1.0) * 1.2), 366, 64)
    steps = [
        step
        for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
        if 64 <= y(step) <= 366
    ]
    right = RIGHT - 230
    sizes = sorted({size for points in lines.values() for size, _ in points})
    x = logarithmic(math.log10(sizes[0]), math.log10(sizes[-1]), LEFT, right)
    drawing.text(LEFT, 50, "rate, HAProxy = 1", "ink strong")
    ruled(drawing, {step: f"{step:g}" for step in steps}, y, LEFT, right)
    drawing.line(LEFT, y(1), right, y(1), "line-ink thick")
    for name, points in lines.items():
        places = [(x(size), y(ratio)) for size, ratio in points]
        drawing.path(places, styles[name][1] if name in styles else curve_of(name))
        for place in places:
            drawing.dot(*place, 3, kinds[name])
    ends = {name: (x(points[-1][0]), y(points[-1][1])) for name, points in lines.items()}
    labelled(drawing, {**ends, HAPROXY: (right, y(1))}, kinds, right + 24)
    ticked(drawing, {size: _size(size) for size in sizes}, x, 366)
    drawing.line(LEFT, 366, right, 366)
    drawing.text((LEFT + right) / 2, 412, "size of a message", "ink middle")
    return drawing


def labelled(drawing, ends, kinds, left):
    """Names to the right of where lines end, one below the other, each with a thread to its line."""
    names = sorted(ends, key=lambda name: ends[name][1])
    for name, at in zip(names, spread([ends[name][1] for name in names], 64, 372), strict=True):
        x, y = ends[name]
        drawing.line(x + 5, y, left - 4, at, "axis")
        drawing.text(left, at + 4, name, f"{kinds[name]} small strong")


def spread(places, top, bottom):
    """Ascending places, moved as little as it takes until none is nearer to the next than a line."""
    moved = []
    for place in places:
        moved.append(max(place, moved[-1] + LINE if moved else top))
    limit = bottom
    for index in range(len(moved) - 1, -1, -1):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - LINE
    return moved


def _size(size):
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


# ---- how long a message takes ------------------------------------------------------------------------------

_SHARES = {0.0: "0", 0.5: "50 %", 0.9: "90 %", 0.99: "99 %", 0.999: "99.9 %"}
_TIMES = {
    100: "0.1 ms", 200: "0.2 ms", 500: "0.5 ms", 1000: "1 ms", 2000: "2 ms", 5000: "5 ms", 10_000: "10 ms",
    20_000: "20 ms", 50_000: "50 ms", 100_000: "0.1 s", 200_000: "0.2 s", 500_000: "0.5 s", 1_000_000: "1 s",
}  # fmt: skip


def latency_picture(parts):
    """The time of a message alone, and of one that comes at random, by the share that takes no longer."""
    turns = parts["latency"]["rows"]
    names = ("alone", max(turn["load"] for turn in turns if turn["load"].startswith("open")))
    panels = [[turn for turn in turns if turn["load"] == name] for name in names]
    curves = [turn["microseconds"]["whole"]["curve"] for panel in panels for turn in panel]
    told = ". ".join(
        f"{panel[0]['title']}: "
        + "; ".join(
            f"{turn['contender']}: median {_time(turn['microseconds']['whole']['p50'])}, "
            f"99 % within {_time(turn['microseconds']['whole']['p99'])}"
            for turn in panel
        )
        for panel in panels
    )
    drawing = Drawing(
        "How long a message takes, alone and among others",
        "From the begin of a connection to the reply to its message, by the share of messages that take no "
        f"longer. {told}.",
        452,
    )
    low, high = min(map(min, curves)), max(map(max, curves))
    y = logarithmic(math.log10(low / 1.2), math.log10(high * 1.2), 340, 80)
    steps = {at: label for at, label in _TIMES.items() if 80 <= y(at) <= 340}
    half = (RIGHT - LEFT - 40) / 2
    for panel, left in zip(panels, (LEFT, LEFT + half + 40), strict=True):
        _latency_panel(
            drawing, panel, left, left + half, y, steps if left == LEFT else dict.fromkeys(steps, "")
        )
    drawing.text(WIDTH / 2, 384, "of all messages take no longer than", "ink small middle")
    for index, name in enumerate(dict.fromkeys(turn["contender"] for turn in panels[0])):
        left, top = LEFT + index // 2 * (half + 40), 408 + index % 2 * 20
        drawing.line(left, top, left + 30, top, curve_of(name))
        drawing.text(left + 38, top + 4, name, "ink small")
    return drawing


def _latency_panel(drawing, panel, left, right, y, steps):
    nines = scale(0, 3, left, right)
    ruled(drawing, steps, y, left, right)
    drawing.text(left, 62, panel[0]["title"], "ink strong")
    for turn in panel:
        curve = turn["microseconds"]["whole"]["curve"]
        points = zip(CURVE, curve, strict=True)
        drawing.path(
            [(nines(_nines(share)), y(value)) for share, value in points], curve_of(turn["contender"])
        )
    ticked(drawing, _SHARES, lambda share: nines(_nines(share)), 340)
    drawing.line(left, 340, right, 340)


def _nines(share):
    return -math.log10(1 - share)


# ---- by number of workers ----------------------------------------------------------------------------------


def workers_picture(parts):
    """What a larger pool takes of memory, and of the processor for a message."""
    pools = parts["growth"]["rows"]
    counts = [pool["workers"] for pool in pools]
    memory = [pool["used"]["all_processes"] / 1024 for pool in pools]
    cost = [median(1e6 * turn["cpu_seconds"] / turn["messages"] for turn in pool["turns"]) for pool in pools]
    other = [
        median(1e6 * turn["haproxy_cpu_seconds"] / turn["messages"] for turn in pool["turns"])
        for pool in pools
    ]
    told = "; ".join(
        f"{count} workers: {size:.0f} MiB, {_time(spent)}"
        for count, size, spent in zip(counts, memory, cost, strict=True)
    )
    drawing = Drawing(
        "What a larger pool costs",
        "Memory of all processes together (PSS) after mail, and processor time of a message of 4 KiB at 20 "
        f"sessions. {told}. HAProxy beside it takes {_time(median(other))} for a message.",
        350,
    )
    half = (RIGHT - LEFT - 84) / 2
    _workers_panel(drawing, "memory of all processes, MiB", counts, [(memory, FILTER_ONE)], LEFT, half)
    right = [(cost, FILTER_ONE), (other, HAPROXY)]
    title = "processor time of a message, \N{MICRO SIGN}s"
    _workers_panel(drawing, title, counts, right, LEFT + half + 84, half)
    for left, name, kind in ((LEFT + 150, "bqfilterd", "one"), (LEFT + 270, "HAProxy, TCP", "ink")):
        drawing.line(left, 330, left + 30, 330, f"line-{kind} thick")
        drawing.text(left + 38, 334, name, "ink small")
    return drawing


def _workers_panel(drawing, title, counts, lines, left, width):
    top = max(max(values) for values, _ in lines)
    step = next(step for step in _rough_steps() if top / step <= 5)
    x = logarithmic(0, math.log10(counts[-1]), left + 8, left + width)
    y = scale(0, 1.12 * top, 270, 74)
    drawing.text(left, 56, title, "ink strong")
    ruled(drawing, {at: str(at) for at in range(0, int(1.12 * top) + 1, step)}, y, left, left + width)
    for values, name in lines:
        points = [(x(count), y(value)) for count, value in zip(counts, values, strict=True)]
        drawing.path(points, f"curve line-{kind_of(name)}")
        for point in points:
            drawing.dot(*point, 3, kind_of(name))
    ticked(drawing, {count: str(count) for count in counts}, x, 270)
    drawing.line(left, 270, left + width, 270)
    drawing.text(left + width / 2, 310, "workers", "ink middle")


def _rough_steps():
    return (factor * 10**power for power in range(6) for factor in (1, 2, 5))


PICTURES = {
    "performance-cost": (cost_picture, "matrix"),
    "performance-sizes": (sizes_picture, "matrix"),
    "performance-latency": (latency_picture, "latency"),
    "performance-workers": (workers_picture, "growth"),
}


def drawings(parts):
    """By name; those whose records have not been published are missing."""
    return {name: draw(parts) for name, (draw, part) in PICTURES.items() if part in parts}
