"""Cells, performed on several benches side by side: nearly all of the time of each goes into waiting."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import cells
from tests.faults.bench import Bench, Observed, bench
from tests.faults.checking import differences
from tests.faults.expectations import Cell
from tests.faults.scanners import ScannerBench, scanner_bench
from tests.faults.server import ShutSink
from tests.faults.tempo import slower

Outcome = Observed | BaseException

_SECOND_CHANCES = 40  # cells; where more of them differ it is not for lack of time
_SECOND_TEMPO = 4.0

_starting = threading.Semaphore(2)  # at a time: to start a daemon is nearly all of the work there is


@dataclass(frozen=True, slots=True)
class _Kind:
    """Benches of one kind: how many there may be, for how many cells one is good, and how it is made."""

    count: int
    uses: int
    make: Callable[[], AbstractContextManager[Any]]
    perform: Callable[[Cell, Any], Observed]


def observed(wanted: Iterable[Cell]) -> dict[Cell, Outcome]:
    """What each of the cells comes to; an exception where it could not be performed.

    A machine that is busy enough makes any answer late. So what came to something else than expected is
    performed once more, with more time and less beside it; a promise that was broken is not forgiven.
    """
    outcomes = _performed(wanted, side_by_side=True)
    again = [cell for cell, outcome in outcomes.items() if _deserves_another(cell, outcome)]
    if len(again) <= _SECOND_CHANCES:
        with slower(_SECOND_TEMPO):
            outcomes.update(_performed(again, side_by_side=False))
    return outcomes


def _deserves_another(cell: Cell, outcome: Outcome) -> bool:
    if isinstance(outcome, Observed):
        return not outcome.broken and bool(differences(cell, outcome))
    return True


def _performed(wanted: Iterable[Cell], *, side_by_side: bool) -> dict[Cell, Outcome]:
    todo: dict[str, queue.Queue[Cell]] = {}
    for cell in sorted(wanted, key=_takes_long, reverse=True):
        todo.setdefault(_kind_of(cell), queue.Queue()).put(cell)
    outcomes: dict[Cell, Outcome] = {}
    threads = [
        threading.Thread(target=_work, args=(_KINDS[name], left, outcomes))
        for name, left in todo.items()
        for _ in range(min(_KINDS[name].count, left.qsize()) if side_by_side else 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def _takes_long(cell: Cell) -> bool:
    """Those in which the reply to the final dot is waited for to the last moment."""
    return cell.phase == "." and cell.fault in ("stall", "trickle", "late")


def _kind_of(cell: Cell) -> str:
    if cell.side == "scanner" or cell.phase == "waiting: scanner":
        return "scanner"
    if cell.phase == "connection":
        return "shut"
    return "kept" if cell.side == "kept connection" else "plain"


def _work(kind: _Kind, left: "queue.Queue[Cell]", outcomes: dict[Cell, Outcome]) -> None:
    """Cells from the queue, on one bench after the other; one on which a cell failed is not used again."""
    while not left.empty():
        with ExitStack() as stack:
            try:
                with _starting:
                    made = stack.enter_context(kind.make())
            except Exception as failure:  # shown by the test of a cell that has no bench for it
                outcomes.update(dict.fromkeys(_some(left, 1), failure))
                continue
            for cell in _some(left, kind.uses):
                try:
                    outcomes[cell] = kind.perform(cell, made)
                except Exception as failure:  # shown by the test of this cell
                    outcomes[cell] = failure
                    break


def _some(left: "queue.Queue[Cell]", count: int) -> Iterator[Cell]:
    for _ in range(count):
        try:
            yield left.get_nowait()
        except queue.Empty:
            return


@contextmanager
def _warm(tables: Callable[[Path], dict[str, Any]]) -> Iterator[Bench]:
    """One whose worker knows what the after-filter server announces, as all do behind their first message."""
    with bench(tables) as made:
        made.serve_one()
        yield made


@contextmanager
def _warm_scanner_bench() -> Iterator[ScannerBench]:
    with scanner_bench() as made:
        made.bench.serve_one()
        yield made


def _plain(cell: Cell, made: Bench) -> Observed:
    return cells.at_client(cell, made) if cell.side == "client" else cells.at_server(cell, made)


def _with_scanners(cell: Cell, made: ScannerBench) -> Observed:
    return cells.at_client_of_scanner(cell, made) if cell.side == "client" else cells.at_scanner(cell, made)


_MANY = 1000
_KEEPING = {"upstream": {"max_messages_per_connection": 100}}

_KINDS = {
    "plain": _Kind(5, _MANY, lambda: _warm(lambda _directory: {}), _plain),
    "kept": _Kind(2, _MANY, lambda: _warm(lambda _directory: _KEEPING), cells.at_kept_server),
    "shut": _Kind(2, 1, lambda: bench(sink=ShutSink()), cells.at_shut_server),
    "scanner": _Kind(4, _MANY, _warm_scanner_bench, _with_scanners),
}
