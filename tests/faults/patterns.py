"""Does a text look as a row of the table says? "..." stands for anything."""

import re


def matches(pattern: str, text: str) -> bool:
    """All of the text."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("..."))), text) is not None


def with_causes(pattern: str, causes: tuple[str, ...]) -> list[str]:
    """The pattern with each of the causes that it may have."""
    if "{cause}" not in pattern:
        return [pattern]
    return [pattern.replace("{cause}", cause) for cause in causes]
