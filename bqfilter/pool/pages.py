"""Exporter, the child's side: the pages it serves, and its threads.

/metrics has everything (in OpenMetrics where that is asked for), /-/healthy says that this process does its
work, /-/ready that mail is being taken. One thread watches the queues, one looks at Postfix's configuration,
one at after-filter servers that are out of reach, one accepts requests and gives each a thread of its own;
where load balancers are told how we are, one answers these. Nothing here forks without running another
program at once, so threads are safe.

Imported by the exporter alone: all this is heavier than a worker.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from bqfilter.config.schema import Settings
from bqfilter.errors import ConfigError
from bqfilter.log import Log
from bqfilter.net.address import SocketAddress
from bqfilter.pool.agent import Agent, AgentServer
from bqfilter.pool.brief_server import REQUEST_TIMEOUT, BriefServer
from bqfilter.pool.calls import INTERVAL as CALLS_INTERVAL
from bqfilter.pool.calls import Calls
from bqfilter.pool.startup import hostname_of, upstream_addresses
from bqfilter.saturation.neighbours import Survey
from bqfilter.saturation.queues import QueueProbe
from bqfilter.saturation.reader import Board, Life
from bqfilter.saturation.report import duration
from bqfilter.saturation.sampler import INTERVAL, Sampler
from bqfilter.scoreboard import Scoreboard, State
from bqfilter.upstream.board import call_timeout
from bqfilter.upstream.probe import probe

try:
    from prometheus_client import CollectorRegistry, make_wsgi_app

    from bqfilter.saturation.collector import BoardCollector
except ImportError as error:
    METRICS_MISSING = str(error)
else:
    METRICS_MISSING = ""

SURVEY_INTERVAL = 60.0  # seconds between two looks at whether Postfix's files have changed

Respond = Callable[[str, list[tuple[str, str]]], Any]
Application = Callable[[dict[str, Any], Respond], Iterable[bytes]]


def run(
    metrics: socket.socket | None,
    agent: socket.socket | None,
    scoreboard: Scoreboard,
    settings: Settings,
    log: Log,
) -> None:
    """Watch the queues in this thread, and answer in others, where there is a socket to answer on."""
    sampler = Sampler(scoreboard, QueueProbe(), time.monotonic())
    sampler.sample(time.monotonic())  # before anybody is told that nobody looks
    if metrics is not None:
        _serve_pages(metrics, scoreboard, settings, log)
    told = None if agent is None else _serve_agent(agent, scoreboard, settings, log)
    threading.Thread(
        target=_make_calls, args=(_calls(scoreboard, settings), log), name="calls", daemon=True
    ).start()
    while True:
        sampler.sample(time.monotonic())
        if told is not None:
            told.look(time.monotonic())
        time.sleep(INTERVAL)


def _serve_pages(sock: socket.socket, scoreboard: Scoreboard, settings: Settings, log: Log) -> None:
    survey = Survey(settings)
    server = _Server(sock, Pages(Board(scoreboard.view), survey))
    threading.Thread(target=_serve, args=(server, log), name="http", daemon=True).start()
    threading.Thread(target=_look_around, args=(survey,), name="postfix", daemon=True).start()
    log.info("metrics served", at=_name_of(sock))
    if METRICS_MISSING:
        log.warning(
            "no metrics, mail flows without", cause=METRICS_MISSING, remedy="install prometheus-client"
        )


def _serve_agent(sock: socket.socket, scoreboard: Scoreboard, settings: Settings, log: Log) -> Agent:
    board = Board(scoreboard.view)
    agent = Agent(scoreboard, lambda: board.snapshot().is_upstream_gone, settings.agent.minimum)
    agent.look(time.monotonic())
    threading.Thread(target=_serve, args=(AgentServer(sock, agent), log), name="agent", daemon=True).start()
    log.info("agent served", at=_name_of(sock))
    return agent


def _name_of(sock: socket.socket) -> str:
    return str(SocketAddress(sock.family, sock.getsockname()))


def _look_around(survey: Survey) -> None:
    """In a thread of its own, because postconf may take its time, or hang."""
    while True:
        survey.look()
        time.sleep(SURVEY_INTERVAL)


def _calls(scoreboard: Scoreboard, settings: Settings) -> Calls:
    def addresses() -> tuple[SocketAddress, ...]:
        try:
            return upstream_addresses(settings)
        except ConfigError:  # a name that cannot be looked up just now
            return ()

    def answers(address: SocketAddress) -> bool:
        found = probe(address, settings.timeouts, hostname_of(settings), time.monotonic)
        if found.is_our_own:
            raise OSError(found.failure)
        return not found.failure

    def start(call: Callable[[], None]) -> None:
        threading.Thread(target=call, name="call", daemon=True).start()

    return Calls(scoreboard, addresses, answers, start, time.monotonic, call_timeout(settings))


def _make_calls(calls: Calls, log: Log) -> None:
    """A load balancer that was told "down" sends nothing that would find out that the server is back."""

    def call_forever() -> None:
        while True:
            calls.look()
            time.sleep(CALLS_INTERVAL)

    _insist_on(call_forever, log)


def _serve(server: BriefServer, log: Log) -> None:
    _insist_on(server.serve_forever, log)


def _insist_on(work: Callable[[], None], log: Log) -> None:
    """Without this thread the process is of no use: the master shall start another."""
    try:
        work()
    except BaseException as error:
        log.error("exporter failed", cause=f"{type(error).__name__}: {error}")
    finally:
        os._exit(1)


class Pages:
    """The WSGI application."""

    def __init__(self, board: Board, survey: Survey | None = None) -> None:
        self._board = board
        self._metrics = _make_metrics_page(board, survey)

    def __call__(self, environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return self._show_metrics(environ, respond)
            case "/-/healthy":
                return self._show_health(respond)
            case "/-/ready":
                return self._show_readiness(respond)
            case "/":
                return _text(respond, "200 OK", "bqfilterd: /metrics /-/healthy /-/ready")
            case _:
                return _text(respond, "404 Not Found", "there are /metrics, /-/healthy and /-/ready")

    def _show_metrics(self, environ: dict[str, Any], respond: Respond) -> Iterable[bytes]:
        if self._metrics is None:
            return _text(respond, "503 Service Unavailable", f"{METRICS_MISSING}; install prometheus-client")
        return self._metrics(environ, respond)

    def _show_health(self, respond: Respond) -> Iterable[bytes]:
        """This process does its work."""
        if self._board.snapshot().is_sampled:
            return _text(respond, "200 OK", "healthy")
        return _text(respond, "503 Service Unavailable", "the queues are not being watched")

    def _show_readiness(self, respond: Respond) -> Iterable[bytes]:
        """Mail is taken, and will be.

        The master's loop turns, was not told to stop, and has a worker; there is a server to pass mail on to.
        """
        snapshot = self._board.snapshot()
        if snapshot.life is not Life.RUNNING:
            return _text(respond, "503 Service Unavailable", f"the master is {snapshot.life}")
        if snapshot.is_draining:
            return _text(respond, "503 Service Unavailable", "the pool is being drained")
        if not snapshot.count(State.IDLE) + snapshot.count(State.BUSY):
            return _text(respond, "503 Service Unavailable", "there is no worker")
        gone_for = snapshot.upstream_gone_for
        if gone_for is not None and snapshot.is_upstream_gone:
            words = f"no after-filter server has been in reach for {duration(gone_for)}"
            return _text(respond, "503 Service Unavailable", words)
        return _text(respond, "200 OK", "ready")


def _make_metrics_page(board: Board, survey: Survey | None) -> Application | None:
    if METRICS_MISSING:
        return None
    registry = CollectorRegistry()
    registry.register(BoardCollector(board, survey))
    page: Application = make_wsgi_app(registry)
    return page


def _text(respond: Respond, status: str, text: str) -> list[bytes]:
    body = f"{text}\n".encode()
    respond(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT  # for each read and write; the server has one for the whole

    def address_string(self) -> str:
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has in the base class
        """A scrape every few seconds is no news."""


class _Server(BriefServer, WSGIServer):
    """A thread for each scraper."""

    def __init__(self, sock: socket.socket, app: Pages) -> None:
        super().__init__(sock, _Handler)
        self.server_name, self.server_port = "bqfilterd", 0
        self.setup_environ()
        self.set_app(app)
