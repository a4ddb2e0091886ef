"""What an operator sees afterwards: the quarantine, the metrics, the status of the pool, advice on its size.

All of it is shown by bqfilterd's own commands and its exporter. Two things are checked: that a released
message arrives as it was kept, and that the metrics count what the log tells.
"""

import http.client
import json
import re
from collections import Counter
from collections.abc import Iterator

from bqfilter.demo import arrivals
from bqfilter.demo.arrivals import Watch
from bqfilter.demo.daemon import Daemon
from bqfilter.demo.maildir import Maildir
from bqfilter.demo.scenes import Arrival
from bqfilter.demo.telling import Teller

_SCRAPE_TIMEOUT = 15.0  # seconds
# The families that are shown, as far as something is to be seen.
_SHOWN = re.compile(
    r"bqfilterd_(?:messages_total|filter_reports_total|filter_duration_seconds_count|quarantine_\w+_total"
    r"|connections_\w+_total|workers)\b"
)
_SAMPLE = re.compile(r"^(bqfilterd_\S+) (\S+)$", re.MULTILINE)
_RESULT = re.compile(r'^bqfilterd_messages_total\{result="(\w+)"\}')
_LOGGED = re.compile(r"\bmessage result=(\w+)")
# A site that the demo makes up: with so few messages as were played there is nothing to compute with.
_SITE = (
    "--rate=5", "--service-time=1.5s", "--speed-adjust", "--session=30s", "--before-maxproc=100",
    "--after-maxproc=100",
)  # fmt: skip
_ADVICE = ("Constraints", "Proposal", "Advice")  # what is shown of all that it says


class Aftermath:
    """Looks at a bqfilterd that has had some mail."""

    def __init__(self, daemon: Daemon, maildir: Maildir, teller: Teller) -> None:
        self._daemon = daemon
        self._maildir = maildir
        self._teller = teller

    def tell(self, number: int) -> list[bool]:
        """Tell all of it, what is checked numbered from `number` on; whether each came as it should."""
        results = [check(number + index) for index, check in enumerate((self._quarantine, self._metrics))]
        self._status()
        self._advice()
        return results

    def _quarantine(self, number: int) -> bool:
        self._teller.text(f"\n{number}. The quarantine, and a message that is released from it.\n")
        self._command("quarantine", "list")
        listed = self._daemon.run("quarantine", "list", "--json").splitlines()
        try:
            return self._release(json.loads(listed[0])["id"]) if listed else True
        except ValueError:  # it says why, and no JSON
            return self._teller.check(["the quarantine cannot be read"])

    def _release(self, identifier: str) -> bool:
        expected = self._kept(identifier)
        watch = Watch(self._maildir)
        self._command("quarantine", "release", identifier)
        arrived = watch.arrived()  # it is there when the command has ended
        self._teller.text("")
        self._teller.fact("arrived", "\n".join(map(str, arrived)))
        return self._teller.check(arrivals.complaints([expected], arrived))

    def _kept(self, identifier: str) -> Arrival:
        """The message as it would travel, for the recipients that it is kept for."""
        facts = json.loads(self._daemon.run("quarantine", "show", identifier, "--json"))
        content = self._daemon.run("quarantine", "show", identifier, "--raw")
        return Arrival(tuple(facts["recipients"]), content.replace("\n", "\r\n").encode())

    def _metrics(self, number: int) -> bool:
        self._teller.text(f"\n{number}. What Prometheus gets to see, a part of it.\n")
        self._teller.command(["curl", f"http://{self._exporter}/metrics"])
        try:
            samples = self._scraped()
        except (OSError, http.client.HTTPException) as error:
            return self._teller.check([f"/metrics cannot be read: {error}"])
        shown = [f"{name} {value}" for name, value in samples.items() if _SHOWN.match(name)]
        self._teller.quotation("\n".join(shown))
        self._teller.text("")
        return self._teller.check(list(self._miscounted(samples)))

    def _scraped(self) -> dict[str, str]:
        """The samples that are not 0."""
        connection = http.client.HTTPConnection(self._exporter, timeout=_SCRAPE_TIMEOUT)
        try:
            connection.request("GET", "/metrics")
            page = connection.getresponse().read().decode("utf-8", "replace")
        finally:
            connection.close()
        return {name: value for name, value in _SAMPLE.findall(page) if float(value)}

    @property
    def _exporter(self) -> str:
        return str(self._daemon.exporter).removeprefix("inet:")

    def _miscounted(self, samples: dict[str, str]) -> Iterator[str]:
        logged = Counter(_LOGGED.findall(self._daemon.log()))
        counted = {found[1]: float(samples[name]) for name in samples if (found := _RESULT.match(name))}
        for result, count in logged.items():
            if counted.get(result, 0) != count:
                yield f"the log has {count} {result}, and the metrics {counted.get(result, 0):g}"

    def _status(self) -> None:
        self._teller.text("\nThe pool behind this.\n")
        self._command("status", "--over", "0")

    def _advice(self) -> None:
        self._teller.text(
            "\nHow many workers should there be? On a host with real mail `bqfilterd tune` measures the pool"
            "\nthat runs. A few messages are no measure, so here it is told of a site that gets five a second"
            "\nand needs 1.5 s for each.\n"
        )
        output = self._run("tune", "--no-live", *_SITE)
        sections = [section for section in output.split("\n\n") if section.startswith(_ADVICE)]
        self._teller.quotation("\n\n".join(sections) or output)

    def _command(self, *words: str) -> None:
        self._teller.quotation(self._run(*words))

    def _run(self, *words: str) -> str:
        """What a command of bqfilterd says; the command itself is told."""
        self._teller.command(["bqfilterd", *words, f"--config {self._daemon.configuration_path}"])
        return self._daemon.run(*words)
