"""RecordingSink: log lines in a list instead of a log."""

from collections.abc import Callable

from bqfilter.log import Priority, Sink


class RecordingSink(Sink):
    """Keeps every line with its priority, and tells `on_line` about it."""

    def __init__(self, on_line: Callable[[Priority, str], None] | None = None) -> None:
        super().__init__()
        self._on_line = on_line
        self.entries: list[tuple[Priority, str]] = []
        self.is_stuck = False

    @property
    def lines(self) -> list[str]:
        return [line for _, line in self.entries]

    @property
    def alarms(self) -> list[str]:
        """Warnings and errors."""
        return [line for priority, line in self.entries if priority <= Priority.WARNING]

    def _try(self, priority: Priority, line: str) -> bool:
        if self.is_stuck:
            return False
        self.entries.append((priority, line))
        if self._on_line:
            self._on_line(priority, line)
        return True
