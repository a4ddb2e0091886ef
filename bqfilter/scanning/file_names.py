"""File names as those see them whom they are meant to deceive, and what is wrong with them.

A name is looked at after all that hides it is taken off: paths, blanks and dots at its end, characters
without a shape (among them those that turn the direction of writing), letters and dots that only look
different. What a name would do when somebody opens it depends on its last extension, wherever that is shown.

Nothing here reads or writes a file, and no name is refused for what it is but by the rules given.
"""

import fnmatch
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_MAX_NAME_CHARS = 1024  # of a name only its end is looked at: no file system takes longer ones
_MAX_SHOWN_CHARS = 100
_AROUND = " \"'`"
# What programs and file systems drop at the end of a name: blanks, dots and quotation marks of all shapes.
_TRAILING = "".join(map(chr, [*range(9, 14), 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029]))
_TRAILING += "\u202f\u205f\u3000\u2024\ufe52\uff0e./\\\"'`\u2018\u2019\u201c\u201d"
# Characters without a shape: controls, marks of direction and format, halves of characters (categories Cc,
# Cf, Cs, Zl, Zp), and what only changes the look of its neighbours.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufe00-\ufe0f\ufeff\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_STREAM = re.compile(r"(?::[^\s:.]*){1,2}\Z")  # "x.exe::$DATA": a stream of the file x.exe
_CLASS_ID = re.compile(r"\{[0-9a-f-]{30,40}\}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# Extensions of documents and pictures, which a name shows first to look harmless.
_HARMLESS = (
    "7z avi bmp csv doc docx eml gif gz htm html jpeg jpg mov mp3 mp4 mpeg msg odp ods odt ogg pdf png ppt "
    "pptx rar rtf svg tif tiff txt wav webp xls xlsx xml zip"
)
# Extensions of what runs when it is opened, on whatever system.
_RUNS = (
    "action ade adp apk app application appref-ms appx bash bat bin btm chm class cmd com command cpl csh "
    "dll dmg elf exe gadget hta htc img inf ins inx ipa iso isp jar jnlp job js jse ksh lnk mde msc msh msi "
    "msix msp mst oxe paf pif pl prg ps1 ps2 psc1 py pyw rb reg rgs run scf scr sct settingcontent-ms sh shb "
    "shs url vb vbe vbs vbscript vhd vhdx workflow ws wsc wsf wsh xbap xll"
)
_FIRST = frozenset(_HARMLESS.split())
_LAST = frozenset(_RUNS.split())


@dataclass(frozen=True, slots=True)
class NameRules:
    """What no name may be. `patterns` are matched without regard to letter case."""

    extensions: frozenset[str]
    patterns: tuple[tuple[str, re.Pattern[str]], ...] = ()
    double_extensions: bool = True

    @classmethod
    def of(cls, extensions: Iterable[str], patterns: Iterable[str], double_extensions: bool) -> "NameRules":
        """From the words of the settings."""
        lowered = frozenset(one.lower() for one in extensions)
        return cls(lowered, tuple((one, _compiled(one)) for one in patterns), double_extensions)

    def objection(self, name: str) -> str:
        """What is wrong with `name`, in two or three words; "" where nothing is."""
        for one in bare_names(name):
            if found := self._objection(one):
                return found
        return ""

    def _objection(self, name: str) -> str:
        extensions = [part.strip(_AROUND) for part in name.split(".")[1:]]
        last = extensions[-1] if extensions else ""
        if last in self.extensions:
            return f"extension {last}"
        if self.extensions and _CLASS_ID.fullmatch(last):
            return "extension is a class identifier"
        for text, pattern in self.patterns:
            if pattern.fullmatch(name):
                return f"name {text}"
        if self.double_extensions and last in _LAST and len(extensions) > 1 and extensions[-2] in _FIRST:
            return f"double extension {extensions[-2]}.{last}"
        return ""


def bare_names(name: str) -> Iterator[str]:
    """The names that `name` may come to, without what hides them, in lower case; each once, none empty."""
    ended = _CONTROL.split(name, maxsplit=1)[0]  # a control character may end it
    given = dict.fromkeys([name, _STREAM.sub("", name), ended, _STREAM.sub("", ended)])
    yield from (one for one in dict.fromkeys(map(_bare, given)) if one)


def _bare(path: str) -> str:
    text = _UNSEEN.sub("", path).rstrip(_TRAILING)[-_MAX_NAME_CHARS:]
    text = unicodedata.normalize("NFKC", text).lower().replace("\\", "/")
    return text.rpartition("/")[2].strip(_AROUND)


def extension(name: str) -> str:
    """The last extension of a name as it was given, "" where it has none."""
    return next((one.rpartition(".")[2] for one in bare_names(name) if "." in one), "")


def shown(name: str) -> str:
    """A name for people: one line without what cannot be seen, its end where it is long."""
    text = _UNSEEN.sub("?", name[-_MAX_NAME_CHARS:])
    return text if len(text) <= _MAX_SHOWN_CHARS else "..." + text[3 - _MAX_SHOWN_CHARS :]


def _compiled(pattern: str) -> re.Pattern[str]:
    """A file name pattern: "*" is any text, "?" any character, and nothing else has a meaning.

    What fnmatch makes of one tries no "*" twice, so a match takes linear time for each of them.
    """
    return re.compile(fnmatch.translate(pattern.lower().replace("[", "[[]")))
