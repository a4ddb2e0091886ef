"""Agent: what a load balancer is told of this machine, in the words of HAProxy's agent-check.

Whoever connects gets one line, whatever it sends:

    up 65%                      65 of 100 workers are free, as a mean of the last seconds
    up 0% # drain               SIGTERM came
    down # no worker            or: after-filter server out of reach

HAProxy multiplies the weight of the server with the percentage, so that a machine with less room gets less.
It takes 0% for a server that is drained: what is there is finished, and nothing new comes. So as long as
messages are taken the percentage does not fall below a minimum. A drained server is as free as a busy one
that is nearly done, and comes back the same way, with the next percentage.

"drain" and "maint" are words of HAProxy, too, and not used: they set the state that administrators set, and
only "ready" takes them back, which would undo what an administrator has set as well. "up", "down" and the
percentage come and go by themselves.

Runs in the exporter, from shared memory, so it answers while every worker is busy and while the master hangs.
"""

import math
import socket
import socketserver
from collections.abc import Callable

from bqfilter.pool.brief_server import BriefServer
from bqfilter.scoreboard import MasterWord, Scoreboard, State

_MEMORY = 2.0  # seconds: the weight of a look falls to a third in this time; HAProxy asks every two


class Agent:
    """The answer for one pool, from a look ten times a second or so."""

    def __init__(self, scoreboard: Scoreboard, is_upstream_gone: Callable[[], bool], minimum: int) -> None:
        self._scoreboard = scoreboard
        self._is_upstream_gone = is_upstream_gone
        self._minimum = minimum
        self._free = 0.0  # the share of workers that are free
        self._looked_at = -math.inf

    def look(self, now: float) -> None:
        """Count the free workers; the first time, that is the mean."""
        limit = self._scoreboard.header[MasterWord.WORKERS]
        free = min(self._scoreboard.count(State.IDLE) / limit, 1.0) if limit else 0.0
        faded = math.exp((self._looked_at - now) / _MEMORY)
        self._free = faded * self._free + (1 - faded) * free
        self._looked_at = now

    def line(self) -> str:
        """What there is to say now."""
        if self._scoreboard.header.seconds(MasterWord.DRAINING):
            return "up 0% # drain"
        if not self._scoreboard.count(State.IDLE) + self._scoreboard.count(State.BUSY):
            return "down # no worker"
        if self._is_upstream_gone():
            return "down # after-filter server out of reach"
        return f"up {max(round(100 * self._free), self._minimum)}%"


class AgentServer(BriefServer):
    """Answers on a socket that listens."""

    def __init__(self, sock: socket.socket, agent: Agent) -> None:
        super().__init__(sock, _Handler)
        self.agent = agent


class _Handler(socketserver.BaseRequestHandler):
    server: AgentServer

    def handle(self) -> None:
        self.request.sendall(f"{self.server.agent.line()}\n".encode("ascii"))
        self.request.shutdown(socket.SHUT_WR)
        while self.request.recv(
            1024
        ):  # agent-send: left unread it would reset the connection, and the answer
            pass
