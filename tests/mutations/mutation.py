"""A mutation: one place in the code changed so that a promise is broken, and the tests that have to fail."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """In `file`, a path in the repository, `old` becomes `new`; then `effect`, which breaks `promise`.

    `promise` is P1 to P7 of docs/design.md. Every one of `tests` fails then: a test by its node id, or any of
    those in a file. A parameter in brackets is the name of a transcript.
    """

    name: str
    promise: str
    effect: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def of(self, text: str) -> str:
        """The text of the file, changed. Raises ValueError where `old` is not in it exactly once."""
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"{self.name}: found {count} times in {self.file}: {self.old!r}")
        return text.replace(self.old, self.new)

    def read_from(self, root: Path) -> str:
        """The file as it stands below `root`."""
        return (root / self.file).read_text(encoding="utf-8")
