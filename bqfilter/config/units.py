"""Durations and sizes as people write them: "30s", "1m30s", "25MiB", "10 MB"; and back.

`parse_duration(format_duration(x)) == x` and the same for sizes. What cannot be read raises ValueError with a
sentence that shows how it is written. There is no default unit on purpose: a bare 30 has meant seconds,
milliseconds and minutes in the mail programs next to us.
"""

from __future__ import annotations

import re
from decimal import Decimal

_SECONDS = {
    "d": Decimal(86400),
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}

# Each unit at most once, the large ones first, so that "1m30s" is read and "30s1m" is questioned. Digits are
# bounded: no sensible value needs more, and a megabyte of digits is no number.
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,15}}(?:\.[0-9]{{1,24}})?) ?{unit} ?)?" for unit in _SECONDS))

# Minutes are read but never written: Postfix's limits, which ours are compared with, are written in seconds.
_WRITTEN_UNITS = ("d", "h", "s", "ms")

_BYTES = {
    "TiB": 1024**4,
    "TB": 1000**4,
    "GiB": 1024**3,
    "GB": 1000**3,
    "MiB": 1024**2,
    "MB": 1000**2,
    "KiB": 1024,
    "kB": 1000,
    "B": 1,
}
_UNIT_BYTES = {unit.lower(): value for unit, value in _BYTES.items()}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,12})?) ?([A-Za-z]{1,3})")

_DURATION_HINT = 'a duration is written with a unit (ms, s, m, h, d), for example "30s"'
_SIZE_HINT = 'a size is written with a unit (B, kB, MB, GB, KiB, MiB, GiB), for example "25MiB"'


def parse_duration(text: str) -> float:
    """Seconds."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()) or text != text.strip():
        raise ValueError(_DURATION_HINT)
    parts = zip(match.groups(), _SECONDS.values(), strict=True)
    return float(sum(Decimal(amount) * unit for amount, unit in parts if amount))


def format_duration(seconds: float) -> str:
    """In the largest unit that needs no fraction; a fraction of a millisecond is written in seconds."""
    exact = Decimal(repr(seconds))
    if exact == 0:
        return "0s"
    for unit in _WRITTEN_UNITS:
        if exact % _SECONDS[unit] == 0:
            return f"{exact / _SECONDS[unit]:.0f}{unit}"
    return f"{exact:f}s"


def parse_size(text: str) -> int:
    """Bytes; a fraction is welcome as long as whole bytes come out."""
    match = _SIZE.fullmatch(text)
    unit = _UNIT_BYTES.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(_SIZE_HINT)
    exact = Decimal(match[1]) * unit
    if exact % 1 != 0:
        raise ValueError("a size is a whole number of bytes")
    return int(exact)


def format_size(size: int) -> str:
    """In the largest unit that needs no fraction."""
    if size == 0:
        return "0B"
    unit = next(unit for unit, value in _BYTES.items() if size % value == 0)
    return f"{size // _BYTES[unit]}{unit}"
