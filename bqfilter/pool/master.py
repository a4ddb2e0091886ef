"""Master: binds, forks, reaps, replaces, reloads, drains; one loop that waits in its poll alone.

    SIGHUP   reload: read the settings, fork workers with them, then let the old ones finish
    SIGTERM  drain: no new connections, finish what has begun, within runtime.drain_timeout (SIGINT likewise);
             with runtime.drain_delay load balancers are told first, and connections still taken meanwhile
    SIGQUIT  stop at once
    SIGUSR2  make way for the program that lies there now, in the same process and with the same sockets

The listening sockets stay open over a reload, so no connection is refused. Should the master die, even by
SIGKILL, the workers notice by the pipe that it held, finish and leave.

Reading the settings is the one thing that can hold the loop up: a reload asks the resolver for host names,
and loads filters of the site's own for trial. Addresses in the configuration need no resolver.
"""

import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import setproctitle

from bqfilter import systemd
from bqfilter.config import Settings
from bqfilter.config.loader import not_reloadable_changes, reloaded
from bqfilter.errors import ConfigError
from bqfilter.ledger import Stage
from bqfilter.log import Log, open_log
from bqfilter.net.address import SocketAddress
from bqfilter.net.listeners import Listener
from bqfilter.pool.audition import Audition
from bqfilter.pool.bulletin import Bulletin
from bqfilter.pool.detaching import START_TIMEOUT, StartReport
from bqfilter.pool.exporter import Exporter
from bqfilter.pool.outfit import SLOT_COUNT, Premises, make_outfit
from bqfilter.pool.pid_file import PidFile
from bqfilter.pool.preparation import prepare
from bqfilter.pool.roster import Child, Roster
from bqfilter.pool.signals import SignalQueue
from bqfilter.pool.startup import allow_lists, bound_address, make_runtime_directory, open_listeners
from bqfilter.pool.succession import Elders, Estate, Invocation
from bqfilter.pool.watch import Watch
from bqfilter.pool.worker import Worker
from bqfilter.saturation.queues import entrance_of
from bqfilter.scoreboard import MasterWord, Scoreboard, State, Word
from bqfilter.upstream.board import UpstreamBoard

_SPARE_SCANNER_PLACES = 6  # for scanners that a reload brings
_SPARE_UPSTREAM_PLACES = 4  # for after-filter servers, likewise
_TICK = 0.25  # seconds between two looks at children and clocks
_BUSY_TICK = 0.02  # the same while workers are starting or leaving
_KILL_GRACE = 10.0  # seconds beyond the last limit before a worker is killed
_STANDSTILL = 5.0  # seconds between two turns of the loop that no machine takes that runs
_INSIST_AFTER = 1.0  # seconds between two reminders while draining
_QUIT_GRACE = 2.0  # seconds between SIGQUIT and SIGKILL

_HOPELESS_DEATHS = 2  # of workers on their first job, before the pool was ever complete

_SIGNALS = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD,
)  # fmt: skip


class Master:
    """The master process. `load` reads the settings anew for a reload; `source` names where from.

    `invocation` starts a new version of the program, `estate` is what an old one has left; `pid_file` is
    locked already, and `report` tells whoever waits for the end of the start.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        source: str,
        invocation: Invocation,
        estate: Estate | None,
        pid_file: PidFile | None,
        report: StartReport,
    ) -> None:
        self._load = load
        self._source = source
        self._invocation = invocation
        self._pid_file = pid_file
        self._report = report
        self._audition = Audition(invocation)
        self._elders = Elders(estate)
        inherited = systemd.inherited_sockets()
        self._inherited = {*(sock.fileno() for sock in inherited), *(estate.managers if estate else ())}
        kept = estate.sockets() if estate else []
        self._listeners: list[Listener] = open_listeners(settings, inherited, kept)
        self._outfit = make_outfit(settings, self._addresses, open_log(settings.log))
        self._scoreboard = self._open_scoreboard()
        prepare(self._outfit, self._scoreboard)
        self._watch = Watch(self._scoreboard, settings, self._log)
        self._bulletin = Bulletin(self._scoreboard)
        left = estate.metrics if estate else ()
        self._exporter = Exporter(
            settings, self._outfit.identity, self._scoreboard, self._leave, self._log, left
        )
        self._roster = Roster(settings.pool.workers, SLOT_COUNT)
        self._lifeline = os.pipe()
        self._reports = os.pipe()
        os.set_blocking(self._reports[0], False)
        os.set_blocking(self._reports[1], False)
        self._premises = Premises(
            self._listeners, self._scoreboard, os.getpid(), self._lifeline[0], self._reports[1],
            self._watch.slow_log,
        )  # fmt: skip
        self._is_ready = False
        self._started_at = time.monotonic()
        self._last_death = ""
        self._exit_status = 0
        self._drains_at: float | None = None  # connections are taken until then
        self._drains_until: float | None = None
        self._insisted_at = 0.0
        self._jobs_at_death = 0
        self._turned_at = self._went_on_at = time.monotonic()

    def run(self) -> int:
        """Serve until told to stop; returns the exit status."""
        self._signals = SignalQueue(_SIGNALS)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)  # blocked over exec: nobody could hear them
        setproctitle.setproctitle(f"bqfilterd: master {self._source}")
        gc.collect()
        gc.freeze()
        poll = select.poll()
        poll.register(self._signals.fileno(), select.POLLIN)
        poll.register(self._reports[0], select.POLLIN)
        while True:
            self._supervise(time.monotonic())
            if self._drains_until is not None and not self._roster.children and not self._elders.pids:
                break
            poll.poll((_BUSY_TICK if self._is_anybody_starting() else _TICK) * 1000)
            self._read_reports()
            for number in self._signals.take():
                self._act_on(number)
        self._log.info("stopped")
        self._clean_up()
        return self._exit_status

    def _supervise(self, now: float) -> None:
        """One look at everything: who is gone, who is up, who is late, who is missing, who should go."""
        if now - self._turned_at > _STANDSTILL:
            self._went_on_at = now
        self._turned_at = now
        self._watch.turn(now, self._roster.children.values())
        self._reap(now)
        self._note_who_is_up()
        self._bulletin.turn(now, self._is_anybody_there())
        self._kill_overdue(now)
        if self._drains_at is not None and now >= self._drains_at:
            self._drain()
        if self._drains_until is not None:
            self._insist(now)
            return
        if self._report.is_due and not self._is_ready:
            self._give_up_where_hopeless(now)
        self._hear_audition(now)
        self._forgive()
        self._roster.grant_retirements()
        self._hire(self._roster.missing_count(now), now)
        for child in self._roster.surplus():
            self._retire(child)
        if not self._is_ready and not self._is_stopping and self._is_complete():
            self._announce_ready()
        self._exporter.keep(now, self._went_on_at)

    def _act_on(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGTERM | signal.SIGINT:
                self._retreat()
            case signal.SIGQUIT:
                self._drain()
                self._drains_until = time.monotonic()
            case signal.SIGHUP:
                self._reload()
                # Each reload leaves kilobytes in the interpreter's lists of free objects, emptied here alone;
                # and workers are not to inherit what is left of the old settings.
                gc.collect()
            case signal.SIGUSR2:
                self._begin_audition()
            case _:  # SIGCHLD: reaped with every turn of the loop
                pass

    def _hire(self, count: int, now: float) -> None:
        """Fork so many workers, all by one loop.

        What the master writes between two forks is a copy of a page of which the earlier child has the
        original alone. So each is made as far as it can be before the first fork, and noted behind the last.
        """
        if not count:
            return
        slots = self._roster.free_slots(count)
        if len(slots) < count:
            self._log.error("no free slot for another worker", slots=SLOT_COUNT)
        pids: list[int] = []
        try:
            self._fork([self._recruit(slot) for slot in slots], pids)
        except Exception as error:  # no process or memory to be had, or a mistake: not worth the pool
            self._on_failed_fork(error, now)
        for slot, pid in zip(slots, pids, strict=False):
            self._watch.count(MasterWord.FORKS)
            self._roster.children[pid] = Child(pid, slot, self._roster.generation, now)
        for slot in slots[len(pids) :]:
            self._scoreboard.slots[slot].was_vacated()

    def _recruit(self, slot: int) -> Worker:
        self._scoreboard.slots[slot].was_given(self._roster.generation)
        return Worker(self._premises, self._outfit, slot)

    def _fork(self, recruits: Sequence[Worker], pids: list[int]) -> None:
        not_theirs = [*self._own_fds, self._lifeline[1], self._reports[0], *self._exporter.fds]
        for worker in recruits:
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    status = self._become(worker, not_theirs)
                finally:  # without the master's clean-up; and whatever fails, there is no second master
                    os._exit(status)
            pids.append(pid)

    def _on_failed_fork(self, error: Exception, now: float) -> None:
        cause = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        delay = self._roster.throttle.on_failed_fork(now)
        self._last_death = f"a fork that failed ({cause})"
        self._log.error("cannot fork a worker", cause=cause, delay=delay)
        self._watch.count(MasterWord.FAILED_FORKS)

    def _become(self, worker: Worker, not_its_own: Sequence[int]) -> int:
        """In the child: drop what is the master's alone, and work; the exit status."""
        try:
            _let_go(not_its_own)
            return worker.run()
        except BaseException as error:
            self._log.error("worker failed", slot=worker.slot_index, cause=f"{type(error).__name__}: {error}")
            return 1

    def _leave(self) -> None:
        """In a child that is no worker: nothing of mail is its business."""
        listening = [listener.socket.fileno() for listener in self._listeners]
        _let_go([*self._own_fds, *self._lifeline, *self._reports, *listening])

    @property
    def _own_fds(self) -> list[int]:
        """Not for any child: what must end with the master, and not with the last of its children."""
        lock = [self._pid_file.fd] if self._pid_file else []
        return [*self._signals.fds, *self._elders.fds, *self._audition.fds, *self._report.fds, *lock]

    def _reap(self, now: float) -> None:
        while self._roster.children or self._elders.pids:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self._elders.forget()
                if not self._roster.children:
                    return
                pid, status, usage = next(iter(self._roster.children)), 0, None
            if pid == 0:
                return
            child = self._roster.children.get(pid)
            if child is not None:
                self._bury(child, os.waitstatus_to_exitcode(status), now)
                self._watch.note_usage(usage)
            elif self._elders.was_reaped(pid):
                self._mourn(pid, os.waitstatus_to_exitcode(status))
            else:
                self._audition.was_reaped(pid, status)

    def _bury(self, child: Child, exit_code: int, now: float) -> None:
        slot = self._scoreboard.slots[child.slot]
        on_first_job = slot[Word.JOBS] == 0 and slot.state in (State.STARTING, State.BUSY)
        delay = self._roster.on_exit(child, now, abnormally=exit_code != 0, on_first_job=on_first_job)
        if exit_code != 0:
            self._last_death = cause = _cause_of(exit_code)
            self._log.warning(
                "worker died", pid=child.pid, slot=child.slot, cause=cause, stage=slot.stage.name.lower(),
                delay=delay or None,
            )  # fmt: skip
        if slot.stage is Stage.HANDOVER:
            slot.count(Word.OUTCOME_UNKNOWN)
            self._log.warning(
                "worker ended during a hand-over: possible duplicate",
                pid=child.pid, session=f"{slot[Word.SESSION]:X}", client=slot.client or None,
            )  # fmt: skip
        self._watch.note_exit(child, exit_code, self._roster.generation, now)
        slot.was_vacated()
        UpstreamBoard(self._scoreboard.upstreams, SLOT_COUNT).vacate(child.slot)
        if exit_code != 0:
            self._jobs_at_death = self._job_count()

    def _mourn(self, pid: int, exit_code: int) -> None:
        """An elder is gone. What it was doing stands in a scoreboard that nobody has any more."""
        if exit_code != 0:
            self._log.warning("worker of the former program died", pid=pid, cause=_cause_of(exit_code))

    def _note_who_is_up(self) -> None:
        for child in self._roster.children.values():
            if not child.is_up:
                child.is_up = self._scoreboard.slots[child.slot].state in (State.IDLE, State.BUSY)

    def _kill_overdue(self, now: float) -> None:
        """A worker that is beyond every limit of its own is stuck where no deadline reaches.

        Where we did not run ourselves for a while, the whole machine may have stood still: then each of them
        gets the time to notice, and to tell its client, as if its limit had passed only now.
        """
        for child in self._roster.children.values():
            until = self._scoreboard.slots[child.slot].seconds(Word.UNTIL)
            if until and now > max(until, self._went_on_at) + _KILL_GRACE and not child.was_killed:
                child.was_killed = True
                stage = self._scoreboard.slots[child.slot].stage.name.lower()
                self._log.error("worker outlived every limit, killing it", pid=child.pid, stage=stage)
                _kill(child.pid, signal.SIGKILL)

    def _forgive(self) -> None:
        """Jobs done since the last death show that the trouble is not with every worker."""
        if self._roster.throttle.deaths and self._job_count() > self._jobs_at_death:
            self._roster.throttle.forgive()

    def _job_count(self) -> int:
        return sum(slot[Word.SESSIONS] - (slot.state is State.BUSY) for slot in self._scoreboard.slots)

    def _retire(self, child: Child) -> None:
        child.is_leaving = True
        _kill(child.pid, signal.SIGUSR1)

    def _read_reports(self) -> None:
        try:
            reports = os.read(self._reports[0], 4096)
        except BlockingIOError:
            return
        for start in range(0, len(reports) - 3, 4):
            self._on_share_done(int.from_bytes(reports[start : start + 4], "little"))

    def _on_share_done(self, slot_index: int) -> None:
        for child in self._roster.children.values():
            if child.slot == slot_index:
                child.has_done_share = True

    def _reload(self) -> None:
        """New settings for new workers; with bad ones everything stays as it is."""
        if self._is_stopping:
            return
        self._bulletin.reloading()
        try:
            wanted = self._load()
            settings = reloaded(self._settings, wanted)
            log = self._log if settings.log == self._settings.log else open_log(settings.log)
            outfit = make_outfit(settings, self._addresses, log)
        except ConfigError as error:
            self._keep_settings(str(error))
            return
        except Exception as error:  # no memory or descriptor to be had, or a mistake: not worth the pool
            self._keep_settings(f"{type(error).__name__}: {error}")
            return
        restart_for = not_reloadable_changes(self._settings, wanted)
        for key in restart_for:
            self._log.warning("key takes effect after a restart only", key=key)
        self._bulletin.reloaded(restart_for)
        self._outfit = outfit
        prepare(outfit, self._scoreboard)
        self._take_allow_lists()
        self._exporter.take(settings, outfit.identity)
        self._roster.generation += 1
        self._roster.size = settings.pool.workers
        self._watch.take(settings, self._roster.generation, log)
        self._is_ready = False

    def _keep_settings(self, cause: str) -> None:
        self._log.error("reload failed, the old settings stay in force", cause=cause)
        self._watch.count(MasterWord.FAILED_RELOADS)
        self._bulletin.reload_failed(cause)

    def _begin_audition(self) -> None:
        """SIGUSR2: try out what lies there now; `_hear_audition` goes on."""
        if self._is_stopping or self._audition.pid:
            return
        self._log.info("trying out the new program")
        try:
            self._audition.begin(time.monotonic(), [listener.wanted for listener in self._listeners])
        except OSError as error:
            self._keep_program(f"cannot be started: {error.strerror}")

    def _hear_audition(self, now: float) -> None:
        verdict = self._audition.verdict(now)
        if verdict:
            self._keep_program(verdict)
        elif verdict == "":
            self._make_way()

    def _keep_program(self, cause: str) -> None:
        self._log.error("new program is not fit, the present one goes on", cause=cause)
        self._watch.count(MasterWord.FAILED_RELOADS)
        self._bulletin.upgrade_failed(cause)

    def _make_way(self) -> None:
        """Become the new program. What cannot be told by a log any more is told by the new one: `ready`."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._signals.hand_down()
        self._log.info("making way for the new program", workers=len(self._roster.children))
        self._bulletin.reloading()
        self._exporter.rest()
        try:
            self._estate().bequeath(self._invocation)
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._keep_program(f"cannot be started: {error.strerror}")

    def _estate(self) -> Estate:
        return Estate(
            pid=self._premises.master_pid,
            listeners=tuple((listener.wanted, listener.socket.fileno()) for listener in self._listeners),
            managers=tuple(self._inherited),
            metrics=self._exporter.estate(),
            pid_file=self._pid_file.fd if self._pid_file else -1,
            elders=(*self._roster.children, *self._elders.pids),
            lifelines=(self._lifeline[1], *self._elders.lifelines),
            reports=(self._reports[0], *self._elders.reports),
        )

    def _give_up_where_hopeless(self, now: float) -> None:
        """Somebody waits for the pool to be ready. Where it will not be, they hear it, and nobody is left."""
        words = ""
        if self._roster.throttle.deaths >= _HOPELESS_DEATHS:
            words = f"workers die at once, the last one by {self._last_death}: see the log"
        elif now > self._started_at + START_TIMEOUT:
            words = f"not ready after {START_TIMEOUT:g} s: see the log"
        if words:
            self._exit_status = 1
            self._log.error("start failed", cause=words)
            self._report.failed(1, words)
            self._drain()

    @property
    def _addresses(self) -> list[SocketAddress]:
        """Where we listen."""
        return [bound_address(listener) for listener in self._listeners]

    @property
    def _settings(self) -> Settings:
        """Those in force."""
        return self._outfit.settings

    @property
    def _log(self) -> Log:
        return self._outfit.log

    def _take_allow_lists(self) -> None:
        lists = {listen.endpoint: allow_lists(listen) for listen in self._settings.listen}
        for listener in self._listeners:
            if listener.endpoint in lists:
                listener.allow, listener.proxies = lists[listener.endpoint]

    @property
    def _is_stopping(self) -> bool:
        return self._drains_at is not None or self._drains_until is not None

    def _retreat(self) -> None:
        """Say that we are on our way out, and go on until load balancers have heard it; told twice, drain."""
        delay = self._settings.runtime.drain_delay
        if self._is_stopping or not delay:
            self._drain()
            return
        self._log.info("about to stop, still taking connections", delay=delay)
        self._drains_at = time.monotonic() + delay
        self._watch.note_drain()
        self._bulletin.stopping(self._drains_at + self._settings.runtime.drain_timeout, self._drains_at)
        self._audition.end()

    def _drain(self) -> None:
        """No new connections; what has begun is finished, within the time for it."""
        if self._drains_until is not None:
            return
        self._log.info("stopping", workers=len(self._roster.children))
        now = time.monotonic()
        self._drains_until = now + self._settings.runtime.drain_timeout
        self._watch.note_drain()
        self._bulletin.stopping(self._drains_until, now)
        self._audition.end()
        self._elders.relieve()
        self._stop_listening()

    def _stop_listening(self) -> None:
        """Refuse connections from now on, in every process; what systemd owns stays open, with its queue."""
        for listener in self._listeners:
            if listener.socket.fileno() in self._inherited:
                continue
            listener.socket.shutdown(socket.SHUT_RDWR)
            if listener.endpoint.scheme == "unix":
                Path(listener.endpoint.path).unlink(missing_ok=True)

    def _insist(self, now: float) -> None:
        """Tell all workers to finish, again and again: a signal can fall between two moments of a worker."""
        if now - self._insisted_at < _INSIST_AFTER or self._drains_until is None:
            return
        self._insisted_at = now
        number = signal.SIGTERM
        if now >= self._drains_until:
            number = signal.SIGQUIT if now < self._drains_until + _QUIT_GRACE else signal.SIGKILL
        for child in self._roster.children.values():
            child.is_leaving = True
            _kill(child.pid, number)
        self._elders.tell(number)

    def _is_anybody_starting(self) -> bool:
        """A worker that comes up says so in the scoreboard only, so the loop has to look for it."""
        return any(not child.is_up for child in self._roster.children.values())

    def _is_anybody_there(self) -> bool:
        """To take mail, or to finish it: what a sign of life for the service manager is about."""
        return self._drains_until is not None or any(child.is_up for child in self._roster.children.values())

    def _is_complete(self) -> bool:
        """As many workers as wanted are up with the present settings, whoever else is still finishing."""
        generation = self._roster.generation
        up = sum(
            1 for child in self._roster.children.values() if child.is_up and child.generation == generation
        )
        return up >= self._roster.size

    def _announce_ready(self) -> None:
        self._is_ready = True
        self._elders.relieve()
        self._report.ready()
        endpoints = ",".join(map(str, self._addresses))
        self._log.info(
            "ready", workers=self._roster.size, listen=endpoints, generation=self._roster.generation
        )
        self._bulletin.ready()

    def _open_scoreboard(self) -> Scoreboard:
        directory, identity = self._settings.runtime.directory, self._outfit.identity
        entrances = [entrance_of(one.socket, str(bound_address(one))) for one in self._listeners]
        places = len(self._outfit.scanners) + _SPARE_SCANNER_PLACES
        servers = len(self._outfit.upstream) + _SPARE_UPSTREAM_PLACES
        try:
            make_runtime_directory(directory, identity)
            group = identity.gid if identity else -1
            return Scoreboard.in_file(directory, SLOT_COUNT, entrances, group, places, servers)
        except OSError as error:
            self._log.warning(
                "no scoreboard file, statistics stay inside", directory=directory, cause=str(error)
            )
            return Scoreboard.anonymous(SLOT_COUNT, entrances, places, servers)

    def _clean_up(self) -> None:
        self._exporter.end()
        self._watch.end()
        if self._pid_file is None:
            return
        try:
            self._pid_file.remove()
        except OSError as error:
            self._log.warning(
                "cannot remove the pid file", path=str(self._pid_file.path), cause=error.strerror
            )


def _let_go(fds: Iterable[int]) -> None:
    """In a child: these are its parent's. By number: every object that is touched is a copy of its memory."""
    signal.set_wakeup_fd(-1)
    for fd in fds:
        os.close(fd)


def _cause_of(exit_code: int) -> str:
    return f"signal {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit status {exit_code}"


def _kill(pid: int, number: signal.Signals) -> None:
    """Send a signal to a child that has not been reaped yet, so the pid is certainly its own."""
    os.kill(pid, number)
