"""File names in text: attachments by uuencode, which mail programs find in the middle of any text.

Such an attachment begins with a line that gives its name. Only that is looked for, wherever it stands; what
follows it is not decoded.
"""

import re
from collections.abc import Iterator

_BEGIN = re.compile(
    rb"(?:\A|(?<=[\r\n]))begin(?:-base64)?[ \t]{1,8}[0-7]{3,4}[ \t]{1,8}([^\r\n]{1,255}+)(?=[\r\n])"
)
_LONGEST_BYTES = 320  # of a line that fits


class UuNames:
    """The names in one text that comes in pieces."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b"\n"  # the end of what has been looked at: a line may go on in the next piece

    def feed(self, text: bytes) -> Iterator[str]:
        """The names in lines that end in `text`, which comes next."""
        text = self._held + text
        end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        self._held = text[max(end - 1, 0) :][:_LONGEST_BYTES]
        for match in _BEGIN.finditer(text, 0, end):
            yield match[1].decode("utf-8", "replace")
