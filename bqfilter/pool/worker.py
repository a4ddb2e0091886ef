"""Worker: takes one connection at a time from the listeners, holds one session, and takes the next.

All workers share the listening sockets. Each waits in an epoll set of its own, made after the fork, with
EPOLLEXCLUSIVE: the kernel wakes one worker a connection, the one that went idle last. So there is no
thundering herd, and the workers that are not needed stay cold.

A worker leaves between two sessions: when it is told to, when it has done its share, or when the master is
gone. Only SIGQUIT ends it in the middle of one.
"""

import errno
import faulthandler
import gc
import os
import select
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import setproctitle

from bqfilter.errors import ConversationLost
from bqfilter.ledger import Ledger, Stage
from bqfilter.net.deadline import Deadline
from bqfilter.net.listeners import Accepted, Listener
from bqfilter.net.stream import Stream, connect
from bqfilter.outcome import Outcome, Result
from bqfilter.pool.outfit import SLOT_COUNT, Outfit, Premises
from bqfilter.pool.ration import Ration
from bqfilter.pool.reception import Standing, Visitor, receive
from bqfilter.pool.signals import wakeup_pipe
from bqfilter.pool.startup import drop_privileges
from bqfilter.quarantine import Quarantine
from bqfilter.scanning import interrupt
from bqfilter.scanning.board import ScannerBoard
from bqfilter.scanning.judge import Judge, is_needed
from bqfilter.scoreboard import MESSAGE_SIZE, Tally, TallyWord, Word
from bqfilter.session import Session, Surroundings, new_session_id
from bqfilter.smtp import replies
from bqfilter.transaction import Means
from bqfilter.upstream import Upstream
from bqfilter.upstream.board import UpstreamBoard, row_of

_TICK = 5.0  # seconds between two looks at what nobody wakes us for
_OUT_OF_RESOURCES_PAUSE = 0.5  # seconds; EMFILE, ENFILE, ENOBUFS, ENOMEM pass when a session ends
_COMPLAINT_INTERVAL = 10.0  # seconds between two lines about it: where files end, all workers have one to say
_HEADER_GRACE = 1.0  # seconds to read a header that is there already, however little time is left
_RECYCLE_SPREAD = 0.1  # a worker's share is max_messages give or take this part of it
_MEMORY_MAP = Path("/proc/self/smaps_rollup")
_WEIGHING_INTERVAL = 60.0  # seconds between two looks at it, which take up to a millisecond each

# What `ps` shows: one word for a stage and its replies from behind, which alternate with every RCPT.
_TITLES = {
    Stage.IDLE: "idle",
    Stage.GREETING: "greeting",
    Stage.ENVELOPE: "envelope",
    Stage.DATA: "data",
    Stage.FILTER: "filter",
    Stage.UPSTREAM_CONNECT: "envelope",
    Stage.UPSTREAM_WAIT: "envelope",
    Stage.HANDOVER: "handover",
}

_WORDS = {
    Result.ACCEPTED: Word.ACCEPTED,
    Result.QUARANTINED: Word.QUARANTINED,
    Result.DISCARDED: Word.DISCARDED,
    Result.REJECTED: Word.REJECTED,
    Result.TEMPFAILED: Word.TEMPFAILED,
    Result.OUTCOME_UNKNOWN: Word.OUTCOME_UNKNOWN,
    Result.CLIENT_ABORT: Word.CLIENT_ABORT,
}


class Worker:
    """One worker process. It is made in the master, which forks and has it run in the child.

    So nothing here belongs to a process until `run`: neither a descriptor nor a lock is made.
    """

    def __init__(self, premises: Premises, outfit: Outfit, slot_index: int) -> None:
        settings = outfit.settings
        self._premises = premises
        self._outfit = outfit
        self._slot = premises.scoreboard.slots[slot_index]
        self._tallies = premises.scoreboard.tallies(slot_index)
        self._log = outfit.log
        self._clock = time.monotonic
        self._session: Session | None = None
        self._is_leaving = False  # takes no further connection
        self._is_draining = False  # and brings the present one to an end
        self._has_reported = False
        self._message_count = 0
        self._share = _staggered(settings.pool.max_messages)
        self._went_idle = False
        self._turn = 0  # which listener is asked first, in rotation
        self._peer = ""
        self._activity = ""
        self._weighed_at = 0.0
        self._complained_at = -_COMPLAINT_INTERVAL
        self._ration = Ration(settings.pool)
        self._is_spent = False  # has used up a session's processor time
        self._lifeline = select.poll()
        self._lifeline.register(premises.lifeline, 0)  # its closing is told without being asked for
        self._upstream = self._make_upstream()
        self._judge = self._make_judge()
        means = Means(settings, self._upstream, self._judge, Quarantine(settings.quarantine.directory))
        self._around = Surroundings(
            means, outfit.hostname, self._clock, premises.buffer, self._count, self._weigh
        )

    def _make_upstream(self) -> Upstream:
        outfit, board = self._outfit, UpstreamBoard(self._premises.scoreboard.upstreams, SLOT_COUNT)
        places = board.places([str(address) for address in outfit.upstream], row_of(self._slot.index))
        rows = row_of(self._slots_looked_at)
        return Upstream(
            outfit.settings, outfit.upstream, outfit.hostname,
            self._clock, connect, self._log, self._slot, places, rows,
        )  # fmt: skip

    def _make_judge(self) -> Judge | None:
        """None where there is nothing to judge by: what is not made costs a worker no memory."""
        outfit = self._outfit
        if not is_needed(outfit.settings):
            return None
        names = [scanner.settings.name for scanner in outfit.scanners]
        board = ScannerBoard(self._premises.scoreboard.scanners, SLOT_COUNT)
        return Judge(
            outfit.settings,
            outfit.scanners,
            outfit.hostname.decode("ascii"),
            self._clock,
            self._log,
            dict(zip(names, board.places(names, self._slot.index), strict=True)),
            slots=self._slots_looked_at,
            announce=self._slot.ask,
        )

    @property
    def _slots_looked_at(self) -> int:
        """Where other workers may be: a reload has both generations for a while."""
        return min(2 * self._outfit.settings.pool.workers, SLOT_COUNT)

    @property
    def slot_index(self) -> int:
        """Of its place in the scoreboard."""
        return self._slot.index

    def run(self) -> int:
        """In the child: serve until it is time to leave; returns the exit status."""
        gc.freeze()  # what there is came from the master: not to be looked at, and so written to, ever again
        self._slot.move_in(os.getpid())
        drop_privileges(self._outfit.identity)
        if self._judge is not None:
            self._judge.after_fork_in_worker()
        wake = self._take_over_signals()
        self._ration.limit_memory()
        epoll = self._make_epoll(wake)
        self._wait(epoll, wake)
        while not self._is_leaving and self._has_master():
            if not self._serve_next():
                self._wait(epoll, wake)
        if not self._is_draining:
            self._serve_next()  # the kernel may have woken us, and nobody else, for one more connection
        self._slot.leave()
        self._upstream.close()
        return 0

    def _has_master(self) -> bool:
        """Asked between two sessions: under load no worker waits, and none would see the lifeline."""
        if os.getppid() != self._premises.master_pid:
            self._log.warning("master is gone, leaving", slot=self._slot.index)
            return False
        return not self._lifeline.poll(0)  # closed by a master of a newer program, in the same process

    def _take_over_signals(self) -> int:
        """Handlers that only set flags, and a pipe that wakes the epoll wait when one of them ran."""
        wake, _ = wakeup_pipe()
        signal.signal(signal.SIGTERM, self._on_drain)
        signal.signal(signal.SIGUSR1, self._on_retire)
        signal.signal(signal.SIGQUIT, self._on_quit)
        if self._ration.limits_cpu:
            signal.signal(signal.SIGXCPU, self._on_cpu_spent)
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR2):
            signal.signal(ignored, signal.SIG_IGN)
        if self._premises.slow_log is not None:
            faulthandler.register(signal.SIGUSR2, self._premises.slow_log, all_threads=False)
        return wake

    def _make_epoll(self, wake: int) -> select.epoll:
        epoll = select.epoll()
        for listener in self._premises.listeners:
            epoll.register(listener.socket.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)
        epoll.register(wake, select.EPOLLIN)
        epoll.register(self._premises.lifeline, select.EPOLLIN)
        return epoll

    def _wait(self, epoll: select.epoll, wake: int) -> None:
        """Sleep until there may be a connection, a signal, or nobody left to work for."""
        if not self._went_idle:
            self._go_idle()
        events = epoll.poll(_TICK, 1)
        if not events:
            self._upstream.close_if_idle()
            return
        if events[0][0] == wake:
            os.read(wake, 4096)

    def _go_idle(self) -> None:
        self._went_idle = True
        self._slot.wait()
        self._peer = ""
        self._entitle("idle")

    def _serve_next(self) -> bool:
        """Hold one session if a connection waits; False where none does."""
        for index in self._order():
            accepted = self._accept(self._premises.listeners[index])
            if accepted is not None:
                self._turn += 1
                self._serve(index, accepted)
                return True
        return False

    def _order(self) -> Sequence[int]:
        """In which order the listeners are asked: first the one whose last connection had come the earliest.

        How long the first in a queue has waited is known only once it is accepted. This way at the most one
        connection of each other listener goes before it that came later, and `saturation.law` holds for all
        of them together; with workers that take turns, its bound can be passed by far. Where a listener does
        not tell waits turns have to do, so that at least none starves.
        """
        listeners = self._premises.listeners
        if all(listener.tells_waits for listener in listeners):
            return sorted(range(len(listeners)), key=lambda index: listeners[index].latest)
        return [(self._turn + step) % len(listeners) for step in range(len(listeners))]

    def _accept(self, listener: Listener) -> Accepted | None:
        try:
            return listener.accept()
        except OSError as error:
            self._complain(listener, error)
            if error.errno == errno.EMFILE and not self._has_reported:
                self._ask_for_successor()  # who has what we have lost, and sees the connection at once
            time.sleep(_OUT_OF_RESOURCES_PAUSE)  # the connection stays in the queue, for whoever can take it
            return None

    def _complain(self, listener: Listener, error: OSError) -> None:
        now = self._clock()
        if now - self._complained_at >= _COMPLAINT_INTERVAL:
            self._complained_at = now
            self._log.error(
                "cannot accept connections", endpoint=str(listener.endpoint), cause=error.strerror
            )

    def _serve(self, index: int, accepted: Accepted) -> None:
        listener, tally = self._premises.listeners[index], self._tallies[index]
        began, session_id = self._clock(), new_session_id(self._slot.index)
        is_queued = self._note_arrival(index, accepted, began, session_id)
        ledger = Ledger(self._clock, self._report)
        self._peer, self._activity = accepted.peer, ""
        stream = Stream(accepted.socket, accepted.peer, self._clock)
        visitor = self._receive(listener, accepted, stream, is_queued, ledger)
        self._peer, self._activity = visitor.peer, ""
        stream.peer = visitor.peer
        is_probe = visitor.standing is Standing.PASSED_BY
        if visitor.is_served:
            waited = _with_header(accepted.waited, self._clock() - began, listener)
            is_probe = self._hold_session(visitor, stream, ledger, waited, session_id, listener, began)
        else:
            self._send_away(visitor, accepted, stream, tally)
        if is_probe:
            tally.count(TallyWord.PROBES)
        elif visitor.is_served:
            self._note_duration(tally, accepted.waited or 0.0, self._clock() - began, ledger)
        ledger.settle()
        self._slot.end(self._clock(), ledger.totals)

    def _note_arrival(self, index: int, accepted: Accepted, now: float, session_id: str) -> bool:
        """In the scoreboard: a connection, and in what state it found the pool; had it to wait for us?"""
        is_queued, self._went_idle = not self._went_idle, False
        self._slot.begin(now, accepted.waited, is_queued, index, int(session_id, 16))
        self._slot.meet(self._outfit.settings.pool.workers, is_queued)
        self._tallies[index].accept(accepted.waited, is_queued)
        return is_queued

    def _receive(
        self, listener: Listener, accepted: Accepted, stream: Stream, is_queued: bool, ledger: Ledger
    ) -> Visitor:
        """Find out who it is. The time for that is part of the time for the greeting."""
        settings = self._outfit.settings
        deadline = Deadline.never(self._clock)
        if listener.proxies is not None:
            left = settings.budget.proxy_timeout - settings.budget.margin - (accepted.waited or 0.0)
            seconds = max(min(settings.timeouts.proxy_header, left), _HEADER_GRACE)
            deadline = Deadline.after(self._clock, seconds)
            ledger.enter(Stage.GREETING, deadline.at)
        return receive(listener, accepted, stream, deadline, is_queued=is_queued)

    def _send_away(self, visitor: Visitor, accepted: Accepted, stream: Stream, tally: Tally) -> None:
        """Part with somebody who is not served."""
        match visitor.standing:
            case Standing.STRANGER:
                tally.count(TallyWord.DENIED)
                self._deny(stream)
            case Standing.UNANNOUNCED:
                tally.count(TallyWord.DENIED)
                self._slot.count(Word.DENIED)
                self._log.warning(
                    "no usable PROXY header", peer=visitor.peer, cause=visitor.cause,
                    remedy="set send-proxy-v2 on the load balancer, or proxy_protocol = false here",
                )  # fmt: skip
            case Standing.LEFT:
                tally.count(TallyWord.ABANDONED)
                self._slot.count(Word.ABANDONED)
                self._log.info(
                    "client left before it was greeted", peer=visitor.peer, wait=_ms(accepted.waited)
                )
        stream.close()

    def _note_duration(self, tally: Tally, waited: float, seconds: float, ledger: Ledger) -> None:
        """In the scoreboard: a session is over; and from time to time, what this worker weighs."""
        budget = self._outfit.settings.budget
        ledger.settle()
        tally.end(seconds, (waited + seconds) / budget.proxy_timeout, ledger.totals)
        if budget.session and seconds >= budget.session:
            self._slot.count(Word.OVERTIME)
        if self._clock() - self._weighed_at > _WEIGHING_INTERVAL:
            self._weighed_at = self._clock()
            self._slot[Word.MEMORY] = _own_memory()

    def _hold_session(
        self, visitor: Visitor, stream: Stream, ledger: Ledger, waited: float | None, session_id: str,
        listener: Listener, began: float,
    ) -> bool:  # fmt: skip
        """Serve a client until it leaves; True where it only wanted to know whether we are there."""
        log = self._log.for_session(session_id)
        may_send = visitor.standing is Standing.CLIENT
        session = Session(
            stream, self._around, ledger, log, waited, session_id, listener.endpoint, may_send, began
        )
        self._session = session
        self._ration.renew_cpu()
        if self._is_draining:  # told between accept and here
            session.drain()
        session.run()
        self._session = None
        self._message_count += session.message_count
        if self._is_spent:
            log.warning("processor time used up", limit=self._outfit.settings.pool.worker_cpu)
        has_done_share = 0 < self._share <= self._message_count
        if (has_done_share or self._is_spent) and not self._has_reported:
            self._ask_for_successor()
        return session.was_probe

    def _deny(self, stream: Stream) -> None:
        self._slot.count(Word.DENIED)
        self._log.warning("peer is not in the allow list", peer=stream.peer)
        try:
            stream.write(replies.NOT_ALLOWED.wire, Deadline.after(self._clock, 1.0))
        except ConversationLost as loss:
            self._log.info("denied peer did not listen", peer=stream.peer, cause=loss.cause)
        stream.close()

    def _ask_for_successor(self) -> None:
        """Done our share: the master forks another worker first and then tells us to leave."""
        self._has_reported = True
        try:
            os.write(self._premises.reports, self._slot.index.to_bytes(4, "little"))
        except OSError as error:
            self._log.warning("cannot report to the master", cause=error.strerror)
            self._has_reported = False

    def _report(self, stage: Stage, now: float, until: float) -> None:
        self._slot.enter(stage, now, until)
        self._entitle(_TITLES[stage])

    def _entitle(self, activity: str) -> None:
        """Say in `ps` what we do. Setting a title costs a system call, so only what changed is said."""
        if activity != self._activity:
            self._activity = activity
            setproctitle.setproctitle(f"bqfilterd: worker {self._slot.index} {activity} {self._peer}")

    def _count(self, outcome: Outcome) -> None:
        self._slot.count(_WORDS[outcome.result])
        if outcome.is_unheard:
            self._slot.count(Word.UNHEARD)
        if outcome.reply is replies.QUARANTINE_FAILED:
            self._slot.count(Word.KEEP_FAILURES)
        if outcome.result is not Result.QUARANTINED:
            for _ in outcome.kept_as:
                self._slot.count(Word.COPIES_KEPT)

    def _weigh(self, size: int) -> None:
        self._slot.observe(MESSAGE_SIZE, size)

    def _on_drain(self, _number: int, _frame: FrameType | None) -> None:
        self._is_leaving = self._is_draining = True
        if self._session is not None:
            self._session.drain()

    def _on_retire(self, _number: int, _frame: FrameType | None) -> None:
        self._is_leaving = True

    def _on_cpu_spent(self, _number: int, frame: FrameType | None) -> None:
        self._is_spent = True
        interrupt.strike(frame)

    def _on_quit(self, _number: int, _frame: FrameType | None) -> None:
        # No clean-up. What is open ends without a message on both sides, unless its final dot is out already:
        # then the master, which sees the stage in the scoreboard, says so.
        os._exit(0)


def _staggered(max_messages: int) -> int:
    """This worker's share, so that workers forked together do not all retire together; 0 stays 0."""
    spread = int(max_messages * _RECYCLE_SPREAD)
    offset = int.from_bytes(os.urandom(4)) % (2 * spread + 1) - spread
    return max(max_messages + offset, 1) if max_messages else 0


def _own_memory() -> int:
    """Bytes of memory that this process alone accounts for (PSS); 0 where the kernel does not tell."""
    try:
        words = _MEMORY_MAP.read_bytes().split()
        return int(words[words.index(b"Pss:") + 1]) * 1024
    except (OSError, ValueError):
        return 0


def _with_header(waited: float | None, seconds: float, listener: Listener) -> float | None:
    """What a client has waited for its greeting, if known: for a worker, and for the header of a proxy."""
    return waited if waited is None or listener.proxies is None else waited + seconds


def _ms(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds * 1000:.0f}"
