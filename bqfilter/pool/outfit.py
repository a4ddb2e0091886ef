"""Outfit: what workers are given, made in the master before any of them is forked.

Memory that the master has written is one copy for all of them, for as long as nobody writes to it; what a
worker makes for itself it has alone. So whatever can be the same for all is made here, once: `Premises` for
as long as the master lives, an `Outfit` for as long as its settings are in force.

An outfit is never changed. A reload makes another, and workers that have the old one keep it to their end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bqfilter.config.schema import Settings
from bqfilter.log import Log
from bqfilter.mail.charsets import load_codecs
from bqfilter.net.address import SocketAddress
from bqfilter.net.listeners import Listener
from bqfilter.pool.rehearsal import rehearse
from bqfilter.pool.startup import (
    Identity,
    find_identity,
    hostname_of,
    refuse_loop,
    upstream_addresses,
)
from bqfilter.scanning.judge import is_needed
from bqfilter.scanning.making import make_scanners
from bqfilter.scanning.scanner import Scanner
from bqfilter.scoreboard import Scoreboard

SLOT_COUNT = 1024  # twice the largest pool: a reload has both generations for a while

_CONTENT_BUFFER_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Premises:
    """What all workers of one master share. The scoreboard has SLOT_COUNT slots.

    `lifeline` is the reading end of a pipe that the master holds open while it lives, and closes when it has
    workers of a newer program: an idle worker wakes up then, a busy one looks between two sessions, also
    whether `master_pid` is still its parent. Through `reports` a worker sends the number of its slot when it
    has done its share. On SIGUSR2 it writes to the descriptor `slow_log` where in the program it stands. The
    `buffer` takes content on its way to the spool: each process has as much of it to itself as it has written
    to.
    """

    listeners: Sequence[Listener]
    scoreboard: Scoreboard
    master_pid: int
    lifeline: int
    reports: int
    slow_log: int | None
    buffer: bytearray = field(default_factory=lambda: bytearray(_CONTENT_BUFFER_BYTES))


@dataclass(frozen=True, slots=True)
class Outfit:
    """What all workers of one generation share: its settings, and what was made of them."""

    settings: Settings
    upstream: Sequence[SocketAddress]
    hostname: bytes
    scanners: Sequence[Scanner]
    identity: Identity | None
    log: Log


def make_outfit(settings: Settings, listening: Sequence[SocketAddress], log: Log) -> Outfit:
    """For workers that take mail at the addresses `listening`. Raises ConfigError with what cannot be."""
    upstream = upstream_addresses(settings)
    refuse_loop(listening, upstream)
    hostname, identity = hostname_of(settings), find_identity(settings.runtime.user)
    if is_needed(settings):
        load_codecs()
    scanners = make_scanners(settings, hostname)
    rehearse(scanners, identity)
    return Outfit(settings, upstream, hostname, scanners, identity, log)
