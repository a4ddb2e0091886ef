"""From the bytes of a charset to UTF-8, whole or in pieces, for text that is to be looked at; and back.

Nothing is refused. What cannot be read becomes U+FFFD; text whose charset is not known is read as UTF-8. The
work is linear in the size of the text.

Only the charsets listed here are known. A name comes out of a message: Python would look for a module of that
name and remember that there is none, and it has codecs that are no charsets (escapes, compression) or take
quadratic time (punycode, idna). Who looks at content loads all that are known while it can read the files
that they are in: the master does for its workers, which share them and may have no right to.
"""

import codecs
import re
from encodings.aliases import aliases
from functools import lru_cache

_NAMES = (
    "ascii utf_8 utf_7 utf_16 utf_16_be utf_16_le utf_32 utf_32_be utf_32_le latin_1 iso8859_2 iso8859_3 "
    "iso8859_4 iso8859_5 iso8859_6 iso8859_7 iso8859_8 iso8859_9 iso8859_10 iso8859_11 iso8859_13 "
    "iso8859_14 iso8859_15 iso8859_16 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 "
    "cp437 cp850 cp852 cp855 cp866 cp874 koi8_r koi8_u mac_roman mac_cyrillic tis_620 big5 big5hkscs "
    "gb2312 gbk gb18030 hz euc_jp euc_jis_2004 iso2022_jp iso2022_jp_1 iso2022_jp_2 iso2022_jp_3 "
    "iso2022_jp_ext iso2022_kr shift_jis shift_jis_2004 cp932 euc_kr cp949 johab"
)
_KNOWN = frozenset(_NAMES.split())
# Writers say the first and mean the second, which has all of the first, and more.
_WIDER = {"ascii": "utf_8", "latin_1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932"}
_UNKNOWN = "utf_8"
_WITHOUT_MARK = {"utf_16": "utf_16_be", "utf_32": "utf_32_be"}  # RFC 2781 section 4.3


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


_CODECS = {_plain(alias): codec for alias, codec in aliases.items() if codec in _KNOWN}
_CODECS |= {_plain(codec): codec for codec in _KNOWN}


def load_codecs() -> None:
    """All that are known."""
    for name in _KNOWN:
        codecs.lookup(name)


def codec_of(charset: str) -> str:
    """Python's name for what reads this charset."""
    return _codec_of(charset[:64])  # whatever is remembered is short


@lru_cache(maxsize=256)
def _codec_of(charset: str) -> str:
    codec = _CODECS.get(_plain(charset), _UNKNOWN)
    return _WIDER.get(codec, codec)


def to_utf8(raw: bytes, charset: str) -> bytes:
    """All of a text."""
    codec = codec_of(charset)
    if codec in _WITHOUT_MARK:
        return ToUtf8(charset).last(raw)
    return raw.decode(codec, "replace").encode("utf-8", "replace")  # the same, and several times faster


def from_utf8(text: bytes, charset: str) -> bytes:
    """Text in a charset. What that does not have becomes "?": where it is not known, all beyond ASCII."""
    codec = _CODECS.get(_plain(charset[:64]), "ascii")
    return text.decode("utf-8", "replace").encode(codec, "replace")


def bare_to_utf8(raw: bytes) -> bytes:
    """8-bit text that tells no charset: UTF-8 where it is that (RFC 6532), else the usual one before that."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return to_utf8(raw, "iso-8859-1")
    return raw


class ToUtf8:
    """A text that comes in pieces, which may end within a character."""

    __slots__ = ("_codec", "_decoder")

    def __init__(self, charset: str) -> None:
        self._codec = codec_of(charset)
        self._decoder = _decoder(self._codec)

    def more(self, raw: bytes) -> bytes:
        """The characters that this piece ends."""
        return self._decoded(raw, False)

    def last(self, raw: bytes = b"") -> bytes:
        """The last piece."""
        return self._decoded(raw, True)

    def _decoded(self, raw: bytes, is_last: bool) -> bytes:
        before = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(raw, is_last)
        except UnicodeError:  # what "replace" does not cover
            text = self._read_otherwise(before + raw, is_last)
        return text.encode("utf-8", "replace")

    def _read_otherwise(self, raw: bytes, is_last: bool) -> str:
        """Without a byte order mark; or where a piece ends in an escape sequence that never becomes one.

        In the latter case no text is lost, and from here on it is read as from the beginning of a line.
        """
        codec = _WITHOUT_MARK.get(self._codec)
        self._decoder = _decoder(codec or self._codec)
        return self._decoder.decode(raw, is_last) if codec else raw.decode(self._codec, "replace")


def _decoder(codec: str) -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder(codec)("replace")
