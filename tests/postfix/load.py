"""Many messages at once by Postfix's smtp-source, and whether each of them was delivered exactly once.

smtp-source ends with an error at the first reply that is not positive, so a run that ends well has seen no
4xx and no refused connection. How many messages a run has is in BQFILTER_TEST_MESSAGES, 1000 without it.
"""

import os
import re
import subprocess
from collections import Counter
from dataclasses import dataclass

from tests.doubles.programs import eventually

from .postfix_instance import MaillogView, PostfixInstance, fresh_address

MESSAGES = int(os.environ.get("BQFILTER_TEST_MESSAGES", "1000"))
LIMIT = 60.0 + MESSAGES / 20


@dataclass(slots=True)
class Load:
    """A run of smtp-source; every message has a recipient of its own: a number and the common address."""

    process: subprocess.Popen[bytes]
    recipient: str
    messages: int

    def wait(self) -> None:
        output, _ = self.process.communicate(timeout=LIMIT)
        assert (self.process.returncode, output) == (0, b"")

    def running(self) -> bool:
        return self.process.poll() is None


def start_load(address: tuple[str, int], *options: str, messages: int = MESSAGES, sessions: int = 20) -> Load:
    """Begin to send; `options` are smtp-source's own."""
    recipient = fresh_address("x", "elsewhere.example").replace("@", "+@")
    command = [
        "/usr/sbin/smtp-source",
        "-N",
        "-m",
        str(messages),
        "-s",
        str(min(sessions, messages)),
        *options,
    ]
    process = subprocess.Popen(
        [*command, "-f", "load@remote.example", "-t", recipient, "{}:{}".format(*address)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return Load(process, recipient, messages)


def numbered(recipient: str) -> str:
    """A pattern for what `smtp-source -N` makes of an address whose local part ends in no digit.

    The number is in front of all, and behind the local part since Postfix 3.9.
    """
    name, _, domain = recipient.partition("@")
    return rf"\d*{re.escape(name)}\d*@{re.escape(domain)}"


def delivered_once(postfix: PostfixInstance, maillog: MaillogView, load: Load) -> set[str]:
    """Assert it for every message of the load; the queue ids under which they were delivered."""
    postfix.settle(LIMIT)
    delivery = rf"postfix/discard\S+: (\w+): to=<({numbered(load.recipient)})>, .*status=sent"
    enough = f"{load.messages} deliveries in the maillog"
    eventually(lambda: len(maillog.matches(delivery)) >= load.messages, enough, LIMIT)
    recipients = Counter(found[2] for found in maillog.matches(delivery))
    assert set(recipients.values()) == {1}
    assert len(recipients) == load.messages
    queue_ids = {found[1] for found in maillog.matches(delivery)}
    assert len(queue_ids) == load.messages
    return queue_ids
