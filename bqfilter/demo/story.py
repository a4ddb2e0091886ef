"""The demo as a story: every scene is played, looked at, and told in a few lines of plain text.

`play` starts everything, ends everything whatever happens, and says whether all came as it should. A scene
that goes wrong does not stop the others.
"""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from bqfilter.demo import before_filter
from bqfilter.demo.after_filter import AfterFilter
from bqfilter.demo.daemon import Daemon, eventually
from bqfilter.demo.maildir import Maildir
from bqfilter.demo.scenes import SCENES, Scene
from bqfilter.smtp.replies import Reply

Say = Callable[[str], object]

_WIDTH = 100
_ARRIVAL_TIMEOUT = 10.0  # seconds for a message that the filter did not announce
_MARGIN = " " * 13


def play(directory: Path, say: Say, scenes: Sequence[Scene] = SCENES) -> bool:
    """Play all scenes with everything that belongs to them in `directory`. Raises DaemonFailed."""
    maildir = Maildir(directory / "Maildir")
    after_filter = AfterFilter(maildir)
    try:
        after_filter.start()
        daemon = Daemon(directory, after_filter.address)
        try:
            is_good = _Story(daemon, after_filter, maildir, say).tell(scenes)
        finally:
            status = daemon.stop()
    finally:
        after_filter.close()
    say(f"\nbqfilterd was sent SIGTERM and ended with exit status {status}.")
    return is_good and status == 0


class _Story:
    def __init__(self, daemon: Daemon, after_filter: AfterFilter, maildir: Maildir, say: Say) -> None:
        self._daemon = daemon
        self._after_filter = after_filter
        self._maildir = maildir
        self._say = say

    def tell(self, scenes: Sequence[Scene]) -> bool:
        """Play and tell each; True if all came as they should."""
        self._introduce()
        results = [self._tell(number, scene) for number, scene in enumerate(scenes, start=1)]
        self._say("\nThe pool behind this, as `bqfilterd status` shows it:\n")
        self._say(textwrap.indent(self._daemon.status().rstrip(), "    "))
        self._say(f"\n{sum(results)} of {len(results)} came as they should.")
        return all(results)

    def _introduce(self) -> None:
        self._say("Mail on its way through bqfilterd, on this machine alone:\n")
        self._say("    before-filter Postfix      bqfilterd             after-filter server    Maildir")
        self._say(
            "    (played here)         -->  the real one     -->  (of the demo)     -->  one file a message"
        )
        self._say(f"\n    bqfilterd        {self._daemon.address}, {self._daemon.configuration_path}")
        self._say(f"    after-filter     {self._after_filter.address}")
        self._say(f"    Maildir          {self._maildir.path}")
        self._line("log", self._daemon.log(), lead="    ")

    def _tell(self, number: int, scene: Scene) -> bool:
        self._say(f"\n{number}. {scene.title}.")
        known, log_start = set(self._maildir.messages()), len(self._daemon.log())
        reply = self._play(scene)
        log = self._daemon.log_from(log_start, scene.logged)
        arrived = self._arrivals(known, scene.arrivals)
        self._line("told", str(reply) if reply else "nothing: the connection is gone")
        self._line("arrived", "\n".join(_shown(path) for path in arrived) or "nothing")
        self._line("log", log)
        complaints = _complaints(scene, reply, log, arrived)
        self._line("checked", "\n".join(complaints) or "as it should be")
        return not complaints

    def _play(self, scene: Scene) -> Reply | None:
        if scene.after_filter_is_up:
            self._after_filter.start()
        else:
            self._after_filter.stop()
        address = self._daemon.address if scene.passes_filter else self._after_filter.address
        if scene.gives_up:
            return before_filter.give_up_in_the_middle(address, scene.message)
        return before_filter.send(address, scene.message)

    def _arrivals(self, known: set[Path], expected: int) -> list[Path]:
        eventually(lambda: len(self._maildir.messages()) >= len(known) + expected, _ARRIVAL_TIMEOUT)
        return [path for path in self._maildir.messages() if path not in known]

    def _line(self, name: str, text: str, lead: str = "   ") -> None:
        lines = text.splitlines() or ["nothing"]
        self._say(_wrapped(f"{lead}{name:<{len(_MARGIN) - len(lead)}}", lines[0]))
        for line in lines[1:]:
            self._say(_wrapped(_MARGIN, line))


def _complaints(scene: Scene, reply: Reply | None, log: str, arrived: Sequence[Path]) -> list[str]:
    """What did not come as the scene says."""
    told = str(reply) if reply else ""
    found = []
    if not told.startswith(scene.told) or bool(told) != bool(scene.told):
        found.append(f'NOT as it should be: the client should have been told "{scene.told}"')
    if scene.logged not in log:
        found.append(f'NOT as it should be: "{scene.logged}" is missing in the log')
    if len(arrived) != scene.arrivals:
        found.append(f"NOT as it should be: messages that should have arrived: {scene.arrivals}")
    elif arrived and scene.is_unchanged and not _has_content(arrived[0], scene):
        found.append("NOT as it should be: the message was changed on its way")
    return found


def _has_content(path: Path, scene: Scene) -> bool:
    """The file ends in what was sent, as it lies in a Maildir: un-stuffed, with LF at the ends of lines."""
    sent = (b"\r\n" + scene.message.content).replace(b"\r\n.", b"\r\n")
    return path.read_bytes().endswith(sent.replace(b"\r\n", b"\n"))


def _shown(path: Path) -> str:
    subjects = [line[9:] for line in path.read_bytes().splitlines() if line.startswith(b"Subject: ")]
    subject = subjects[0].decode("utf-8", "replace") if subjects else "none"
    return f'new/{path.name} (subject "{subject}")'


def _wrapped(head: str, text: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=_MARGIN + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
