"""The after-filter server of the demo: takes mail and keeps it in a Maildir.

A process of its own listens and forks one more for each connection. Commands are read and put in order by the
same code as bqfilterd's. Content is not: this server is as gullible as real ones are towards a client that
they trust. A line ends at LF, all CRs before it are dropped, and a dot alone ends the data. Whatever such a
server takes for two messages, bqfilterd must not send it.

There is no limit on size, number or time but the silence of a client. It is made for loopback and a demo.
"""

import contextlib
import os
import signal
import socket
import time

from bqfilter.demo.maildir import Maildir
from bqfilter.errors import ConversationLost
from bqfilter.net.address import SocketAddress
from bqfilter.net.deadline import Deadline
from bqfilter.net.stream import Stream
from bqfilter.smtp import commands, phases, replies
from bqfilter.smtp.commands import Command
from bqfilter.smtp.phases import Phase
from bqfilter.smtp.replies import Reply, reply
from bqfilter.smtp.server import ServerDialogue

UNKNOWN_RECIPIENT = b"unknown@demo.example"
NO_SUCH_USER = reply(550, "5.1.1 <unknown@demo.example>: the demo has no such user")

_HOSTNAME = b"after.demo.example"
_GREETING = Reply(220, (_HOSTNAME + b" ESMTP after-filter server of the demo",))
_EHLO = Reply(
    250,
    (
        _HOSTNAME,
        b"PIPELINING",
        b"SIZE 10240000",
        b"ENHANCEDSTATUSCODES",
        b"8BITMIME",
        b"DSN",
        b"SMTPUTF8",
        b"XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT",
    ),
)
_IDLE_TIMEOUT = 60.0  # seconds a client may be silent
_BACKLOG = 16


class AfterFilter:
    """The server in front of `maildir`; it can be stopped and started again, always at the same `address`."""

    def __init__(self, maildir: Maildir) -> None:
        self._maildir = maildir
        # Bound and never listening, so that nobody else is given the port while the server is down.
        self._place = _bound(0)
        self._port: int = self._place.getsockname()[1]
        self.address = SocketAddress(socket.AF_INET, ("127.0.0.1", self._port))
        self._pid = 0

    def start(self) -> None:
        """Listen, unless it does already; connections are taken from the moment this returns."""
        if self._pid:
            return
        listener = _bound(self._port)
        listener.listen(_BACKLOG)
        # A SIGTERM to a child that still has our handler would be lost: it waits until that is gone.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        self._pid = os.fork()
        if self._pid == 0:
            self._serve_for_ever(listener)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.setpgid(self._pid, self._pid)  # in both processes: whoever comes first
        listener.close()

    def stop(self) -> None:
        """End the server with all of its connections; from now on a connection is refused."""
        if self._pid:
            os.killpg(self._pid, signal.SIGTERM)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def close(self) -> None:
        """Stop, and give the port up."""
        self.stop()
        self._place.close()

    def _serve_for_ever(self, listener: socket.socket) -> None:
        """In the child: its only way out is a signal, or an error that nobody expected."""
        try:
            os.setpgid(0, 0)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the connections' processes
            while True:
                self._serve(listener)
        finally:
            os._exit(1)

    def _serve(self, listener: socket.socket) -> None:
        sock, peer = listener.accept()
        with sock:
            if os.fork() == 0:
                listener.close()
                Conversation(Stream(sock, f"{peer[0]}:{peer[1]}", time.monotonic), self._maildir).run()
                os._exit(0)


class Conversation:
    """One connection: commands in the order that the table of phases allows, messages into the Maildir."""

    def __init__(self, client: Stream, maildir: Maildir) -> None:
        self._client = client
        self._maildir = maildir
        self._dialogue = ServerDialogue()
        self._phase = Phase.CONNECTED
        self._facts: list[bytes] = []
        self._sender = b""
        self._recipients: list[bytes] = []
        self._content: list[bytes] = []

    def run(self) -> None:
        """Hold the conversation to its end; a client that is lost ends it."""
        self._dialogue.answer(_GREETING)
        with contextlib.suppress(ConversationLost):
            while self._phase is not Phase.CLOSED:
                command = self._next_command()
                answer = phases.check(self._phase, command) or self._perform(command)
                self._dialogue.answer(answer)
                self._phase = phases.advance(self._phase, command, answer)
            self._flush()
        self._client.close()

    def _next_command(self) -> Command:
        if self._phase is Phase.BODY:
            return self._receive_content()
        while (command := self._dialogue.next_command()) is None:
            self._dialogue.receive(self._receive())
        return command

    def _receive_content(self) -> Command:
        reader = GullibleReader()
        data = self._dialogue.begin_body()
        while (rest := reader.feed(data)) is None:
            data = self._receive()
        self._content = reader.lines
        self._dialogue.receive(rest)
        return commands.EndOfData()

    def _receive(self) -> bytes:
        self._flush()
        return self._client.read(_patience())

    def _flush(self) -> None:
        output = self._dialogue.take_output()
        if output:
            self._client.write(output, _patience())

    def _perform(self, command: Command) -> Reply:
        match command:
            case commands.Malformed():
                return command.reply
            case commands.Ehlo():
                return _EHLO
            case commands.XForward():
                self._facts += [name + b"=" + value for name, value in command.attributes]
            case commands.Mail():
                self._sender, self._recipients = command.address, []
            case commands.Rset():
                self._facts = []
            case commands.Rcpt():
                return self._take_recipient(command)
            case commands.Data():
                return replies.START_MAIL_INPUT
            case commands.EndOfData():
                return self._store()
            case commands.Quit():
                return replies.BYE
            case _:
                pass
        return replies.OK

    def _take_recipient(self, command: commands.Rcpt) -> Reply:
        if command.address == UNKNOWN_RECIPIENT:
            return NO_SUCH_USER
        self._recipients.append(command.address)
        return replies.OK

    def _store(self) -> Reply:
        """The message with what an onlooker wants to know on top: the envelope, and whose message it was."""
        head = [
            b"Return-Path: <" + self._sender + b">",
            *(b"Delivered-To: " + recipient for recipient in self._recipients),
            b"X-Demo-XFORWARD: " + b" ".join(self._facts),
        ]
        self._facts = []
        queue_id = self._maildir.store(b"\n".join([*head, *self._content, b""]))
        return reply(250, f"2.0.0 Ok: queued as {queue_id}")


class GullibleReader:
    """Content as an LF-splitting, CR-stripping server reads it; `lines` are un-stuffed, without line ends."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._rest = b""

    def feed(self, data: bytes) -> bytes | None:
        """None: need more bytes; otherwise the end has come, and this is what stood behind it."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for number, line in enumerate(lines, start=1):
            stripped = line.rstrip(b"\r")
            if stripped == b".":
                return b"\n".join([*lines[number:], self._rest])
            self.lines.append(stripped.removeprefix(b"."))
        return None


def _bound(port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _patience() -> Deadline:
    return Deadline.after(time.monotonic, _IDLE_TIMEOUT)
