"""How much memory bqfilterd takes: idle, while it holds a large message, and after large messages.

Sizes are proportional (PSS): a page that twenty workers share counts as a twentieth for each, so the sum over
the processes is what the machine pays. "Growth" is what a worker that has carried a large message keeps,
against the same worker before it.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import mean

from benchmarks import proc
from benchmarks.contenders import Contender
from benchmarks.deliveries import Deliveries
from benchmarks.loads import LARGE, send
from benchmarks.programs import HOST

VERY_LARGE = 50_000_000

_LINE = b"X" * 78 + b"\r\n"
_CHUNK = _LINE * 800
_STALL = 1_000_000  # bytes still to come while a message is held


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    kib: float


def footprint(contender: Contender, deliveries: Deliveries, workers: int, large_messages: int) -> list[Row]:
    if contender.program is None:
        raise ValueError("only a program has a size")
    master = contender.program.pid
    rows = [
        Row("master, PSS", proc.memory(master).pss),
        Row("idle worker that has served nothing, PSS, mean", _mean_pss(master)),
    ]
    send(contender, 10 * workers, workers, 1024, deliveries)
    rows.append(Row("idle worker after 1 KB messages, PSS, mean", _mean_pss(master)))
    for pid in worker_pids(master):
        proc.reset_peak(pid)
    before = _workers(master)
    rows.append(
        Row("worker holding 24 of 25 MB of a message, PSS", busy_worker(contender, deliveries, master))
    )
    send(contender, large_messages, min(4, large_messages), VERY_LARGE, deliveries)
    rows += _growth(before, _workers(master))
    rows.append(Row("all processes together, PSS", proc.pss_of_tree(master)))
    return rows


def busy_worker(contender: Contender, deliveries: Deliveries, master: int) -> int:
    """PSS of the one that holds a large message."""
    cpu_before = {pid: proc.cpu_seconds(pid) for pid in worker_pids(master)}
    with _held_message(contender.port, LARGE):
        worker = max(cpu_before, key=lambda pid: proc.cpu_seconds(pid) - cpu_before[pid])
        size = proc.memory(worker).pss
    deliveries.expect(1)
    deliveries.settle()
    return size


def _growth(before: dict[int, proc.Memory], after: dict[int, proc.Memory]) -> list[Row]:
    same = before.keys() & after.keys()
    return [
        Row(
            "growth of a worker by 50 MB messages, private memory, largest",
            max(after[pid].private - before[pid].private for pid in same),
        ),
        Row(
            "highest resident size of a worker meanwhile, above its size before, largest",
            max(after[pid].peak - before[pid].peak for pid in same),
        ),
    ]


def _workers(master: int) -> dict[int, proc.Memory]:
    return {pid: proc.memory(pid) for pid in worker_pids(master)}


def worker_pids(master: int) -> list[int]:
    """By their titles, for the master has other children too."""
    return [pid for pid in proc.children(master) if "worker" in proc.title(pid)]


def _mean_pss(master: int) -> float:
    return mean(memory.pss for memory in _workers(master).values())


@contextmanager
def _held_message(port: int, size: int) -> Iterator[None]:
    """A message of which the last megabyte comes only when the block ends."""
    with socket.create_connection((HOST, port), timeout=60) as client, client.makefile("rb") as replies:
        _expect(replies.readline(), b"220")
        for command, code in (
            (b"HELO client.example", b"250"),
            (b"MAIL FROM:<sender@example.com>", b"250"),
            (b"RCPT TO:<user@example.net>", b"250"),
            (b"DATA", b"354"),
        ):
            client.sendall(command + b"\r\n")
            _expect(replies.readline(), code)
        client.sendall(b"Subject: large\r\n\r\n")
        _send_lines(client, size - _STALL)
        yield
        _send_lines(client, _STALL)
        client.sendall(b".\r\nQUIT\r\n")
        _expect(replies.readline(), b"250")
        _expect(replies.readline(), b"221")


def _send_lines(client: socket.socket, size: int) -> None:
    for _ in range(size // len(_CHUNK)):
        client.sendall(_CHUNK)


def _expect(reply: bytes, code: bytes) -> None:
    if not reply.startswith(code):
        raise ConnectionError(f"expected {code.decode()}, got {reply!r}")
