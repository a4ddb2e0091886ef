"""How the demo looks: plain text of a hundred columns, facts under a name, quotations indented."""

import textwrap
from collections.abc import Callable, Sequence

Say = Callable[[str], object]

_WIDTH = 100
_MARGIN = " " * 13


class Teller:
    """Tells by `say`, which gets one piece of text after the other."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def text(self, text: str) -> None:
        """Text as it is."""
        self._say(text)

    def fact(self, name: str, text: str, lead: str = "   ") -> None:
        """Something under a name; long lines of it are wrapped."""
        lines = text.splitlines() or ["nothing"]
        self._say(_wrapped(f"{lead}{name:<{len(_MARGIN) - len(lead)}}", lines[0]))
        for line in lines[1:]:
            self._say(_wrapped(_MARGIN, line))

    def quotation(self, text: str) -> None:
        """What a program has written, line by line as it did."""
        self._say(textwrap.indent(text.rstrip() or "nothing", "    "))

    def command(self, words: Sequence[str]) -> None:
        """A command line as it is typed; a word may hold blanks, where it is not to be torn apart."""
        lines = [words[0]]
        for word in words[1:]:
            is_room = len(lines[-1]) + len(word) <= _WIDTH - 12
            lines[-1:] = [f"{lines[-1]} {word}"] if is_room else [lines[-1], word]
        self._say("    $ " + " \\\n        ".join(lines))

    def check(self, complaints: Sequence[str]) -> bool:
        """Whether there are none; told in either case."""
        told = [f"NOT as it should be: {complaint}" for complaint in complaints]
        self.fact("checked", "\n".join(told) or "as it should be")
        return not complaints


def _wrapped(head: str, text: str) -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=head,
        subsequent_indent=_MARGIN + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
