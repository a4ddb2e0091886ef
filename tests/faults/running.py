"""Cells, performed on several benches side by side: nearly all of the time of each goes into waiting."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import cells
from tests.faults.bench import Bench, Observed, bench
from tests.faults.expectations import Cell
from tests.faults.scanners import ScannerBench, scanner_bench
from tests.faults.server import ShutSink

Outcome = Observed | BaseException


@dataclass(frozen=True, slots=True)
class _Kind:
    """Benches of one kind: how many there may be, for how many cells one is good, and how it is made."""

    count: int
    uses: int
    make: Callable[[], AbstractContextManager[Any]]
    perform: Callable[[Cell, Any], Observed]


def observed(wanted: Iterable[Cell]) -> dict[Cell, Outcome]:
    """What each of the cells comes to; an exception where it could not be performed."""
    todo: dict[str, queue.Queue[Cell]] = {}
    for cell in sorted(wanted, key=_takes_long, reverse=True):
        todo.setdefault(_kind_of(cell), queue.Queue()).put(cell)
    outcomes: dict[Cell, Outcome] = {}
    threads = [
        threading.Thread(target=_work, args=(_KINDS[name], cells_left, outcomes))
        for name, cells_left in todo.items()
        for _ in range(min(_KINDS[name].count, cells_left.qsize()))
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
        try:
            with kind.make() as made:
                for cell in _some(left, kind.uses):
                    outcomes[cell] = RuntimeError("not performed to its end")
                    try:
                        outcomes[cell] = kind.perform(cell, made)
                    except Exception as failure:  # shown by the test of this cell
                        outcomes[cell] = failure
                        break
        except Exception as failure:  # the bench itself: shown by the tests of all cells that lack one
            outcomes.update(dict.fromkeys(_some(left, left.qsize()), failure))


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
    "plain": _Kind(6, _MANY, lambda: _warm(lambda _directory: {}), _plain),
    "kept": _Kind(2, _MANY, lambda: _warm(lambda _directory: _KEEPING), cells.at_kept_server),
    "shut": _Kind(2, 1, lambda: bench(sink=ShutSink()), cells.at_shut_server),
    "scanner": _Kind(5, _MANY, _warm_scanner_bench, _with_scanners),
}
