"""The demo as a story: every scene is played, looked at, and told in a few lines of plain text.

`play` starts everything, ends everything whatever happens, and says whether all came as it should. A scene
that goes wrong does not stop the others.
"""

from collections.abc import Sequence
from pathlib import Path

from bqfilter.demo import arrivals, before_filter, sample
from bqfilter.demo.after_filter import AfterFilter
from bqfilter.demo.aftermath import Aftermath
from bqfilter.demo.arrivals import Arrived, Watch
from bqfilter.demo.daemon import Daemon, eventually
from bqfilter.demo.maildir import Maildir
from bqfilter.demo.scenes import SCENES, Scene
from bqfilter.demo.telling import Say, Teller
from bqfilter.smtp.replies import Reply

_ARRIVAL_TIMEOUT = 10.0  # seconds for a message that the filter did not announce


def play(directory: Path, say: Say, scenes: Sequence[Scene] = SCENES) -> bool:
    """Play all scenes with everything that belongs to them in `directory`. Raises DaemonFailed."""
    maildir = Maildir(directory / "Maildir")
    after_filter = AfterFilter(maildir)
    try:
        after_filter.start()
        daemon = Daemon(directory, after_filter.address)
        try:
            is_good = _Story(daemon, after_filter, maildir, Teller(say)).tell(scenes)
        finally:
            status = daemon.stop()
    finally:
        after_filter.close()
    say(f"\nbqfilterd was sent SIGTERM and ended with exit status {status}.")
    return is_good and status == 0


class _Story:
    def __init__(self, daemon: Daemon, after_filter: AfterFilter, maildir: Maildir, teller: Teller) -> None:
        self._daemon = daemon
        self._after_filter = after_filter
        self._maildir = maildir
        self._teller = teller

    def tell(self, scenes: Sequence[Scene]) -> bool:
        """Play and tell each, and what an operator sees afterwards; True if all came as it should."""
        self._introduce()
        results = [self._tell(number, scene) for number, scene in enumerate(scenes, start=1)]
        self._after_filter.start()
        results += Aftermath(self._daemon, self._maildir, self._teller).tell(len(results) + 1)
        self._teller.text(f"\n{sum(results)} of {len(results)} came as they should.")
        return all(results)

    def _introduce(self) -> None:
        teller = self._teller
        teller.text("Mail on its way through bqfilterd, on this machine alone:\n")
        teller.text("    before-filter Postfix      bqfilterd             after-filter server    Maildir")
        teller.text(
            "    (played here)         -->  the real one     -->  (of the demo)     -->  one file a message"
        )
        teller.text(f"\n    bqfilterd        {self._daemon.address}")
        teller.text(f"    configuration    {self._daemon.configuration_path}")
        teller.text(f"    after-filter     {self._after_filter.address}")
        teller.text(f"    Maildir          {self._maildir.path}")
        teller.fact("log", self._daemon.log(), lead="    ")
        teller.text("\nWhat the configuration says about content (--keep leaves it and the tables there):\n")
        teller.quotation(sample.policy(self._daemon.configuration_path))

    def _tell(self, number: int, scene: Scene) -> bool:
        self._teller.text(f"\n{number}. {scene.title}.")
        watch, log_start = Watch(self._maildir), len(self._daemon.log())
        reply = self._play(scene)
        log = self._daemon.log_from(log_start, scene.logged)
        arrived = _await(watch, len(scene.arrivals))
        self._teller.fact("told", str(reply) if reply else "nothing: the connection is gone")
        self._teller.fact("arrived", "\n".join(map(str, arrived)))
        self._teller.fact("log", log)
        return self._teller.check(_complaints(scene, reply, log, arrived))

    def _play(self, scene: Scene) -> Reply | None:
        if scene.after_filter_is_up:
            self._after_filter.start()
        else:
            self._after_filter.stop()
        address = self._daemon.address if scene.passes_filter else self._after_filter.address
        if scene.gives_up:
            return before_filter.give_up_in_the_middle(address, scene.message)
        return before_filter.send(address, scene.message)


def _await(watch: Watch, count: int) -> list[Arrived]:
    eventually(lambda: len(watch.arrived()) >= count, _ARRIVAL_TIMEOUT)
    return watch.arrived()


def _complaints(scene: Scene, reply: Reply | None, log: str, arrived: Sequence[Arrived]) -> list[str]:
    """What did not come as the scene says."""
    told = str(reply) if reply else ""
    found = []
    if not told.startswith(scene.told) or bool(told) != bool(scene.told):
        found.append(f'the client should have been told "{scene.told}"')
    found += [f'"{words}" is missing in the log' for words in scene.logged if words not in log]
    return found + arrivals.complaints(scene.arrivals, arrived)
