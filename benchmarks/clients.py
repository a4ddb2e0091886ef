"""Bare clients of the scanning daemons, to see what a scanner takes without any filter around it.

A client gives the command that bqfilterd gives, over a connection of its own for each message, and does
nothing else: no mail is received or sent. An answer other than "nothing found" raises `ScanError`. `play`
asks from as many processes as there are messages under way.
"""

import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks.errors import ScanError
from benchmarks.programs import HOST

Ask = Callable[[int, bytes], None]

_TIMEOUT = 60.0
_CHUNK = 1 << 16


def ask_nobody(port: int, message: bytes) -> None:
    """For what is no daemon."""


def ask_clamd(port: int, message: bytes) -> None:
    chunks = (message[start : start + _CHUNK] for start in range(0, len(message), _CHUNK))
    stream = b"".join(struct.pack(">L", len(chunk)) + chunk for chunk in chunks)
    _expect(port, b"zINSTREAM\0" + stream + bytes(4), b"stream: OK\0")


def ask_spamd(port: int, message: bytes) -> None:
    head = b"SYMBOLS SPAMC/1.5\r\nContent-length: %d\r\n\r\n" % len(message)
    _expect(port, head + message, b"Spam: False")


def ask_rspamd(port: int, message: bytes) -> None:
    head = b"POST /checkv2 HTTP/1.1\r\nHost: rspamd\r\nFrom: sender@example.com\r\nRcpt: user@example.net\r\n"
    head += b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(message)
    _expect(port, head + message, b'"action":"no action"')


def _expect(port: int, request: bytes, answer: bytes) -> None:
    with socket.create_connection((HOST, port), timeout=_TIMEOUT) as client:
        client.sendall(request)
        heard = b"".join(iter(lambda: client.recv(_CHUNK), b""))
    if answer not in heard:
        raise ScanError(f"the scanner on port {port} answered {heard[:200]!r}")


def play(ask: Ask, port: int, message: bytes, messages: int, sessions: int) -> float:
    """Ask so often, from so many processes; seconds from the first question to the last answer."""
    sessions = min(sessions, messages)
    shares = [messages // sessions + (number < messages % sessions) for number in range(sessions)]
    with ProcessPoolExecutor(sessions, get_context("fork")) as pool:
        jobs = [pool.submit(_share, ask, port, message, share) for share in shares]
        times = [job.result() for job in jobs]
    return max(end for _, end in times) - min(start for start, _ in times)


def _share(ask: Ask, port: int, message: bytes, messages: int) -> tuple[float, float]:
    start = time.perf_counter()
    for _ in range(messages):
        ask(port, message)
    return start, time.perf_counter()
