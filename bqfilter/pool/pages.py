"""Exporter, the child's side: the pages it serves, and its threads.

/metrics has everything (in OpenMetrics where that is asked for), /-/healthy says that this process does its
work, /-/ready that mail is being taken. One thread watches the queues, one looks at Postfix's configuration,
one at after-filter servers that are out of reach, one accepts requests and gives each a thread of its own.
Nothing here forks without running another program at once, so threads are safe. A request may take five
seconds and no longer, and there are only so many at a time.

Imported by the exporter alone: all this is heavier than a worker.
"""

import contextlib
import os
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from bqfilter.config.schema import Settings
from bqfilter.errors import ConfigError
from bqfilter.log import Log
from bqfilter.net.address import SocketAddress
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

_REQUEST_TIMEOUT = 5.0  # seconds for a request and its answer
SURVEY_INTERVAL = 60.0  # seconds between two looks at whether Postfix's files have changed
_GONE_AFTER = (
    2.0  # seconds without any after-filter server; before it was called again, one failure says little
)
_MAX_REQUESTS = 8  # at a time; further ones are turned away

Respond = Callable[[str, list[tuple[str, str]]], Any]
Application = Callable[[dict[str, Any], Respond], Iterable[bytes]]


def run(sock: socket.socket, scoreboard: Scoreboard, settings: Settings, log: Log) -> None:
    """Watch the queues in this thread, and answer in another."""
    sampler = Sampler(scoreboard, QueueProbe(), time.monotonic())
    survey = Survey(settings)
    server = _Server(sock, Pages(Board(scoreboard.view), survey))
    threading.Thread(target=_serve, args=(server, log), name="http", daemon=True).start()
    threading.Thread(target=_look_around, args=(survey,), name="postfix", daemon=True).start()
    threading.Thread(target=_make_calls, args=(_calls(scoreboard, settings),), daemon=True).start()
    log.info("metrics served", at=str(SocketAddress(sock.family, sock.getsockname())))
    if METRICS_MISSING:
        log.warning(
            "no metrics, mail flows without", cause=METRICS_MISSING, remedy="install prometheus-client"
        )
    while True:
        sampler.sample(time.monotonic())
        time.sleep(INTERVAL)


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
        return not probe(address, settings.timeouts, hostname_of(settings), time.monotonic).failure

    def start(call: Callable[[], None]) -> None:
        threading.Thread(target=call, name="call", daemon=True).start()

    return Calls(scoreboard, addresses, answers, start, time.monotonic, call_timeout(settings))


def _make_calls(calls: Calls) -> None:
    while True:
        calls.look()
        time.sleep(CALLS_INTERVAL)


def _serve(server: "_Server", log: Log) -> None:
    """Without this thread the process is of no use: the master shall start another."""
    try:
        server.serve_forever()
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
        """Mail is being taken: the master's loop turns, there is a worker, and a server to pass it on to."""
        snapshot = self._board.snapshot()
        if snapshot.life is not Life.RUNNING:
            return _text(respond, "503 Service Unavailable", f"the master is {snapshot.life}")
        if not snapshot.count(State.IDLE) + snapshot.count(State.BUSY):
            return _text(respond, "503 Service Unavailable", "there is no worker")
        gone_for = snapshot.upstream_gone_for
        if gone_for is not None and gone_for >= _GONE_AFTER:
            words = f"no after-filter server is in reach since {duration(gone_for)} ago"
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
    timeout = _REQUEST_TIMEOUT  # for each read and write; the server has one for the whole

    def address_string(self) -> str:
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name it has in the base class
        """A scrape every few seconds is no news."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    """On a socket that is listening already; a thread for each request, and few of them."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, sock: socket.socket, app: Pages) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = sock
        self.server_name, self.server_port = "bqfilterd", 0
        self.setup_environ()
        self.set_app(app)
        self._until: dict[socket.socket, float] = {}  # open requests and when they must be over

    def get_request(self) -> tuple[socket.socket, Any]:
        sock, address = self.socket.accept()
        return sock, address or ("unix", 0)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002
        return len(self._until) < _MAX_REQUESTS

    def process_request(self, request: Any, client_address: Any) -> None:
        self._until[request] = time.monotonic() + _REQUEST_TIMEOUT
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        self._until.pop(request, None)
        super().close_request(request)

    def service_actions(self) -> None:
        """Twice a second: whoever sends or reads too slowly is cut off, however often a byte comes."""
        for request, until in list(self._until.items()):
            if time.monotonic() > until:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that hangs up, or was cut off: it will come again."""
