"""The rows as tables for docs/reliability.md, one for each subject."""

from collections.abc import Iterator

from tests.scarcity import rows
from tests.scarcity.rows import Row

_HEADINGS = (
    "fault", "the client is told", "the after-filter server gets", "logged", "counted", "when it is over",
)  # fmt: skip


def all_rows() -> list[Row]:
    """Every row, in the order of the subjects' first ones."""
    found: list[Row] = []
    for value in vars(rows).values():
        if isinstance(value, Row):
            found.append(value)
        elif isinstance(value, tuple):
            found += [one for one in value if isinstance(one, Row)]
    subjects = list(dict.fromkeys(row.subject for row in found))
    return sorted(found, key=lambda row: subjects.index(row.subject))


def tables() -> Iterator[str]:
    """Lines of Markdown."""
    subject = ""
    for row in all_rows():
        if row.subject != subject:
            subject = row.subject
            yield f"\n### {subject}\n"
            yield f"| {' | '.join(_HEADINGS)} |"
            yield f"| {' | '.join('---' for _ in _HEADINGS)} |"
        yield f"| {' | '.join(row.cells())} |"
