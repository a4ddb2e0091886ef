"""Places: parts of the scoreboard for things that have names, such as scanners; how each of them fares.

Layout of a region of places:

    labels   for each place, written by the master (`LabelWord`, and the text of the name behind these words)
    records  for each place, and in it for each row, written by the process that the row belongs to

The first words of a record (`HealthWord`) are what `bqfilter.breaker` goes by, the others depend on what is
recorded. A place belongs to a name for as long as the file lives, so that counters never fall when a reload
drops a name and another brings it back, and what is known of its health stays known. A name for which there
is no place left goes without: what is recorded of it is seen by its own worker alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Generic, Self, TypeVar

from bqfilter.scoreboard import Words, printable


class LabelWord(IntEnum):
    """The words of a place's label; the name's text is behind them."""

    NAME_BYTES = 0  # its length; 0: nobody's place
    FAILURES = 1  # by the settings: after how many the breaker opens
    RETRY = 2  # seconds, likewise: the first pause, and the longest
    LONGEST = 3
    IS_PRESENT = 4  # 1 while the name is in the configuration


class HealthWord(IntEnum):
    """The first words of every record; all of them seconds on CLOCK_MONOTONIC, but for the streak."""

    FAILED_AT = 0  # the last failure
    FAILING_SINCE = 1  # the first one since the last answer that any row had had
    SUCCEEDED_AT = 2  # the last answer
    STREAK = 3  # failures since the last answer that any row had had when the first of them happened
    PROBED_AT = 4  # when this row last tried one that was left alone


TEXT_AT = 8 * len(LabelWord)  # in a label


@dataclass(frozen=True, slots=True)
class Terms:
    """When a breaker opens, and for how many seconds: `retry` at first, in the end `longest`."""

    failures: int
    retry: float
    longest: float

    def pause(self, lasting: float) -> float:
        """How long to leave alone what has been failing for so many seconds: as long again."""
        return min(max(self.retry, lasting), self.longest)


@dataclass(frozen=True, slots=True)
class Label:
    """Whose place it is."""

    name: str
    terms: Terms
    is_present: bool = True


class Place:
    """The records of one name: those of all rows to read, that of row `index` to write."""

    RECORD_BYTES: ClassVar[int]

    def __init__(self, memory: memoryview, index: int, number: int = 0) -> None:
        self.number = number  # counted from 1; 0 for one of no scoreboard
        self._memory = memory
        self._instants = memory.cast("d")
        self._counts = memory.cast("Q")
        self._stride = self.RECORD_BYTES // 8
        self.own = Words(memory[index * self.RECORD_BYTES : (index + 1) * self.RECORD_BYTES])
        self.index = index
        self.row_count = len(memory) // self.RECORD_BYTES

    @classmethod
    def unseen(cls) -> Self:
        """One of no scoreboard, for whoever works without."""
        return cls(memoryview(bytearray(cls.RECORD_BYTES)), 0)

    def latest(self, word: int, rows: int) -> float:
        """The latest instant that any of the first `rows` rows has in this word; 0 without one."""
        return max(self._instants[word : rows * self._stride : self._stride].tolist())

    def failures_since(self, instant: float, rows: int) -> int:
        """Failures that rows have counted, in those that failed after the instant."""
        streaks = self._counts[HealthWord.STREAK : rows * self._stride : self._stride].tolist()
        return sum(streak for streak, at in zip(streaks, self._failures(rows), strict=True) if at > instant)

    def failing_since(self, instant: float, rows: int) -> float:
        """When the first failure after this instant was; 0 where none is known."""
        first = self._instants[HealthWord.FAILING_SINCE : rows * self._stride : self._stride].tolist()
        found = [since for since, at in zip(first, self._failures(rows), strict=True) if at > instant]
        return min(found, default=0.0)

    def records(self, rows: int) -> list[Words]:
        """The records of the first `rows` rows."""
        size = self.RECORD_BYTES
        return [Words(self._memory[row * size : (row + 1) * size]) for row in range(rows)]

    def total(self, word: int, rows: int | None = None) -> int:
        """A counter, over all rows or the first so many."""
        end = None if rows is None else rows * self._stride
        return sum(self._counts[word : end : self._stride].tolist())

    def _failures(self, rows: int) -> list[float]:
        return [*self._instants[HealthWord.FAILED_AT : rows * self._stride : self._stride]]


P = TypeVar("P", bound=Place)


class PlaceBoard(Generic[P]):
    """A region of places of this kind in `memory`, with so many rows each, and labels of this size."""

    def __init__(self, memory: memoryview, row_count: int, kind: type[P], label_bytes: int) -> None:
        self._memory = memory
        self._kind = kind
        self._label_bytes = label_bytes
        self._records_bytes = row_count * kind.RECORD_BYTES
        self._count = len(memory) // (label_bytes + self._records_bytes)

    def labels(self) -> list[Label]:
        """The labels of the places that have an owner, in their order."""
        return list(self._owned().values())

    def owned(self, row: int) -> list[tuple[Label, P]]:
        """The same, each with its place as the process with this row has it."""
        return [(label, self.place(number, row)) for number, label in self._owned().items()]

    def give(self, labels: Iterable[Label]) -> list[str]:
        """In the master: give each its place. Returns the names for which there is none left."""
        known, without = self._numbers(), []
        free = [number for number in range(self._count) if number not in known.values()]
        for number in known.values():
            self._words(number)[LabelWord.IS_PRESENT] = 0
        for label in labels:
            name = self._cut(label.name)
            if name not in known and free:
                known[name] = free.pop(0)
            if name in known:
                self._write_label(known[name], label)
            else:
                without.append(label.name)
        return without

    def places(self, names: Sequence[str], row: int) -> list[P]:
        """The place of each name, as the process with this row has it; unseen ones for names without."""
        known = self._numbers()
        cut = map(self._cut, names)
        return [self.place(known[name], row) if name in known else self._kind.unseen() for name in cut]

    def place(self, number: int, row: int) -> P:
        """A place by its number."""
        start = self._count * self._label_bytes + number * self._records_bytes
        return self._kind(self._memory[start : start + self._records_bytes], row, number + 1)

    def _owned(self) -> dict[int, Label]:
        """By the number of the place: one whose label is lost moves none of the others."""
        found = ((number, self._label(number)) for number in range(self._count))
        return {number: label for number, label in found if label.name}

    def _numbers(self) -> dict[str, int]:
        return {label.name: number for number, label in self._owned().items()}

    def _cut(self, name: str) -> str:
        """A name as it comes back from memory."""
        return _shown(self._text(name))

    def _text(self, name: str) -> bytes:
        return name.encode("utf-8", "replace")[: self._label_bytes - TEXT_AT]

    def _words(self, number: int) -> Words:
        return Words(self._memory[number * self._label_bytes :][:TEXT_AT])

    def _label(self, number: int) -> Label:
        words = self._words(number)
        start = number * self._label_bytes + TEXT_AT
        length = min(words[LabelWord.NAME_BYTES], self._label_bytes - TEXT_AT)
        terms = Terms(
            words[LabelWord.FAILURES], words.seconds(LabelWord.RETRY), words.seconds(LabelWord.LONGEST)
        )
        text = bytes(self._memory[start : start + length])
        return Label(_shown(text), terms, bool(words[LabelWord.IS_PRESENT]))

    def _write_label(self, number: int, label: Label) -> None:
        """The text first, then its length: a reader sees no name or a whole one."""
        words, text = self._words(number), self._text(label.name)
        start = number * self._label_bytes + TEXT_AT
        self._memory[start : start + len(text)] = text
        words[LabelWord.FAILURES] = label.terms.failures
        words.set_seconds(LabelWord.RETRY, label.terms.retry)
        words.set_seconds(LabelWord.LONGEST, label.terms.longest)
        words[LabelWord.IS_PRESENT] = 1
        words[LabelWord.NAME_BYTES] = len(text)


def _shown(text: bytes) -> str:
    """A name out of the memory, in which anything may stand where a worker has gone mad."""
    return printable(text.decode("utf-8", "replace"))
