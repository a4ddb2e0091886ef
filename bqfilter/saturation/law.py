"""The law of a before-queue filter: how many workers it takes so that everybody is done in time.

M before-filter processes have at most M connections between them. They are served first come, first served,
by N workers, each of which is done with a session after D seconds at the most. Whoever comes last has at
most M - 1 ahead of it, so it is done after ceil(M/N) turns of D, its own included:

    ceil(M / N) * D <= B        B: smtpd_proxy_timeout

This holds for any arrivals and any session times; no probability comes in. The ceilings matter: with M = 100,
N = 30 and D = 30s, N * B equals M * D, and yet the last one is done after 120s.

That is more than Postfix insists on, which starts its clock anew for every reply: nobody is turned away while
the wait alone, at most (ceil(M / N) - 1) * D, is less than B. But the remote client waits for the sum, and
what is left is room for a worker that is missing.

With several listeners, first come, first served is true but for one connection of each other listener (see
`pool.worker`): M is then larger by their number less one.

What it takes for granted: D bounds the whole time for which a worker is not free, M counts everything that
may connect, and a connection whose client has gone costs no time. Where sessions have no limit (D = 0), or
a longer one than B, nobody may wait behind one, and the law comes down to N >= M.
"""

from __future__ import annotations

import math

# So that 0.3s / 0.1s is three turns, whatever binary fractions make of it.
_ROUNDING = 1e-9


def turns(processes: int, workers: int) -> int:
    """How many sessions, one after the other, a worker may have until the last in the queue is done."""
    return -(-processes // workers)


def allowed_turns(proxy_timeout: float, session: float) -> int:
    """How many sessions of full length fit into B; without a useful limit 1, which lets nobody wait."""
    if not 0 < session <= proxy_timeout:
        return 1
    return math.floor(proxy_timeout / session + _ROUNDING)


def workers_needed(processes: int, proxy_timeout: float, session: float) -> int:
    """The fewest workers with which the law holds."""
    return turns(processes, allowed_turns(proxy_timeout, session))


def holds(processes: int, workers: int, proxy_timeout: float, session: float) -> bool:
    """Whether everybody is done in time, whatever comes."""
    return workers >= workers_needed(processes, proxy_timeout, session)


def longest_stay(processes: int, workers: int, session: float) -> float:
    """The longest that wait and session together can take, in seconds."""
    return turns(processes, workers) * session if session else math.inf


def longest_session(processes: int, workers: int, proxy_timeout: float) -> float:
    """The largest D with which the law holds for so many workers."""
    return proxy_timeout / turns(processes, workers)


def most_processes(workers: int, proxy_timeout: float, session: float) -> int:
    """The largest M with which the law holds for so many workers."""
    return workers * allowed_turns(proxy_timeout, session)
