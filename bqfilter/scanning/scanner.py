"""Scanner: what every kind of scanner is, to those who run them.

One object per scanner in the configuration, made in the master before it forks and used in the workers, one
message at a time. It holds no connection and no state of a message between two calls.

The deadline is an instant: everything a scanner waits for, however many steps that takes, ends by it. What
the scanner cannot do it raises, as ScannerFailure or as the ConversationLost of its stream; it never takes an
error for a finding. Size limits, circuit breakers and what follows from a failure are not its business.
"""

from typing import Protocol

from bqfilter.config.content import ScannerSettings
from bqfilter.mail.envelope import Envelope
from bqfilter.mail.message import Message
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.report import Report


class Scanner(Protocol):
    """One scanner of the configuration."""

    @property
    def settings(self) -> ScannerSettings:
        """Its table; `settings.name` is its name."""

    def after_fork_in_worker(self) -> None:
        """Get ready, as the unprivileged worker: load a site's own code, say. Raises ScannerFailure."""

    def scan(self, message: Message, envelope: Envelope, deadline: Deadline) -> Report:
        """Look at a message. Raises ScannerFailure, ConversationLost or, from the spool, OSError."""

    def ping(self, deadline: Deadline) -> str:
        """Is it there? One line about it, its version where it tells. Raises as `scan` does."""
