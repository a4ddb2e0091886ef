"""Exporter, the master's side: a child that answers scrapers and watches the queues, and has no part in mail.

It serves /metrics, /-/healthy and /-/ready, and tells load balancers how we are. It reads shared memory and
asks the kernel, so it answers while every worker is busy, and while the master hangs. It holds none of the
mail listeners: were it to survive the others, Postfix must not connect to a socket that nobody accepts from.
When it dies the master starts another one, each time a little later; scrapes wait in the queue of the
listening socket, which the master keeps. Where there is no such socket, or no prometheus_client, there is a
warning and mail flows.

What the child runs is in `pages` and `agent`, which only the child imports.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import setproctitle

from bqfilter.config.schema import Settings
from bqfilter.errors import ConfigError
from bqfilter.log import Log
from bqfilter.net.address import Endpoint, resolve
from bqfilter.net.listeners import bind_inet, bind_unix
from bqfilter.pool.roster import Throttle
from bqfilter.pool.startup import Identity, drop_privileges
from bqfilter.scoreboard import ExporterWord, MasterWord, Scoreboard

_BACKLOG = 64
_UNIX_MODE = 0o666  # as open as a port on the loopback interface; the directory can guard it
_HUNG_AFTER = 30.0  # seconds without a look at the queues, of which there should be ten a second
_SETTLED_AFTER = 10.0  # seconds after which an exporter did not die of its start


class Exporter:
    """In the master: keeps an exporter running. `leave_master` lets the child go of the master's things.

    `left` is the `estate` of an exporter of the program before this one.
    """

    def __init__(
        self,
        settings: Settings,
        identity: Identity | None,
        scoreboard: Scoreboard,
        leave_master: Callable[[], None],
        log: Log,
        left: Iterable[tuple[str, int]] = (),
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._scoreboard = scoreboard
        self._leave_master = leave_master
        self._log = log
        self._throttle = Throttle()
        self._forked_at = 0.0
        self._pid = 0
        self._is_outdated = False  # the one that runs, by settings newer than its own
        spare = list(left)
        self._metrics = self._open("metrics.listen", settings.metrics.listen, spare)
        self._agent = self._open("agent.listen", settings.agent.listen, spare)
        for _, fd in spare:
            _give_up(socket.socket(fileno=fd))

    def keep(self, now: float, since: float = 0.0) -> None:
        """See to it that there is one. `since` is when this process last went on after a standstill."""
        if not self._doors:
            return
        if self._pid and not self._is_alive():
            self._bury(now)
        alive_at = max(self._forked_at, self._sampled_at, since)
        if self._pid and (self._is_outdated or now - alive_at > _HUNG_AFTER):
            os.kill(self._pid, signal.SIGKILL)  # alive a moment ago, so the pid is certainly its own
        if not self._pid and now >= self._throttle.closed_until:
            self._fork(now)

    def take(self, settings: Settings, identity: Identity | None) -> None:
        """These are in force from now on; an exporter with others is replaced."""
        self._is_outdated |= identity != self._identity
        self._is_outdated |= settings.upstream.endpoints != self._settings.upstream.endpoints
        self._is_outdated |= self._agent is not None and settings.agent != self._settings.agent
        self._settings, self._identity = settings, identity

    @property
    def fds(self) -> list[int]:
        """Not for workers: they have no business with scrapers."""
        return [sock.fileno() for _, sock in self._doors]

    def estate(self) -> tuple[tuple[str, int], ...]:
        """Addresses and sockets, for the program behind this one: scrapes wait in their queues."""
        return tuple((str(endpoint), sock.fileno()) for endpoint, sock in self._doors)

    def rest(self) -> None:
        """End the one that runs. It keeps nothing that could be lost, so it is not asked."""
        if self._pid and self._is_alive():
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        self._pid = 0

    def end(self) -> None:
        """The master stops."""
        self.rest()
        for endpoint, _ in self._doors:
            if endpoint.scheme == "unix":
                with contextlib.suppress(OSError):
                    Path(endpoint.path).unlink()

    @property
    def _doors(self) -> list[tuple[Endpoint, socket.socket]]:
        """Where it can be asked anything."""
        pairs = ((self._settings.metrics.listen, self._metrics), (self._settings.agent.listen, self._agent))
        return [(endpoint, sock) for endpoint, sock in pairs if endpoint is not None and sock is not None]

    @property
    def _sampled_at(self) -> float:
        """When it last showed that it works."""
        return self._scoreboard.header.seconds(ExporterWord.SAMPLED)

    def _open(
        self, key: str, endpoint: Endpoint | None, spare: list[tuple[str, int]]
    ) -> socket.socket | None:
        """What the program before this one listened on, if that is still the address, or a new socket."""
        if endpoint is None:
            return None
        for place in spare:
            if place[0] == str(endpoint):
                spare.remove(place)
                return socket.socket(fileno=place[1])
        try:
            if endpoint.scheme == "unix":
                return bind_unix(endpoint.path, _BACKLOG, _UNIX_MODE, "")
            return bind_inet(resolve(endpoint)[0], _BACKLOG)
        except (ConfigError, OSError, ValueError) as error:
            self._log.warning("nobody can ask at this address, mail flows without", key=key, cause=str(error))
            return None

    def _is_alive(self) -> bool:
        try:
            return os.waitpid(self._pid, os.WNOHANG)[0] == 0
        except ChildProcessError:  # reaped together with the workers
            return False

    def _bury(self, now: float) -> None:
        if self._is_outdated:
            self._pid, self._is_outdated = 0, False
            return
        if now - self._forked_at > _SETTLED_AFTER:
            self._throttle.forgive()
        delay = self._throttle.on_early_death(now)
        self._log.warning("exporter died, mail flows without", pid=self._pid, delay=delay or None)
        self._pid = 0

    def _fork(self, now: float) -> None:
        self._forked_at, self._is_outdated = now, False
        master_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            delay = self._throttle.on_failed_fork(now)
            self._log.warning("cannot fork the exporter", cause=error.strerror, delay=delay or None)
            return
        if pid == 0:
            self._become_exporter(master_pid)
        self._pid = pid
        self._scoreboard.header.count(MasterWord.EXPORTER_FORKS)

    def _become_exporter(self, master_pid: int) -> None:
        """In the child: serve, and exit without the master's clean-up."""
        try:
            self._leave_master()
            _settle_signals()
            setproctitle.setproctitle("bqfilterd: exporter")
            # Before privileges are dropped: the account may not be able to read where Python is installed.
            from bqfilter.pool import pages
            from bqfilter.pool.parentage import die_with

            drop_privileges(self._identity)
            die_with(master_pid)
            pages.run(self._metrics, self._agent, self._scoreboard, self._settings, self._log)
        except BaseException as error:
            self._log.error("exporter failed", cause=f"{type(error).__name__}: {error}")
        finally:
            os._exit(1)


def _give_up(sock: socket.socket) -> None:
    """Nobody is told anything there any more."""
    name = sock.getsockname()
    sock.close()
    if isinstance(name, str) and name:
        Path(name).unlink(missing_ok=True)


def _settle_signals() -> None:
    """Only the master ends an exporter; what a terminal sends to all of us is for the master to deal with."""
    signal.set_wakeup_fd(-1)
    for ignored in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_IGN)
    for default in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(default, signal.SIG_DFL)
