"""Inputs made from others without knowing what they mean; for one seed always the same ones."""

import random
from collections.abc import Iterator, Sequence

_MAX_STEPS = 4
_BYTES = b"\0\t\n\r .\"'()<>=:;,@/\\-%+?*[]{}0129aAzZ\x7f\x80\xff"


def mutations(
    corpus: Sequence[bytes], words: Sequence[bytes], max_bytes: int, seed: int | str
) -> Iterator[bytes]:
    """Mutations of the inputs in `corpus`, each by a few steps, without end."""
    draw = random.Random(seed)
    seeds = [*corpus, b""]
    while True:
        data = draw.choice(seeds)
        for _ in range(draw.randint(1, _MAX_STEPS)):
            data = _STEPS[draw.randrange(len(_STEPS))](draw, data, seeds, words)
        yield data[:max_bytes]


def _change(draw: random.Random, data: bytes, _seeds: Sequence[bytes], _words: Sequence[bytes]) -> bytes:
    """One byte becomes another."""
    at = draw.randrange(len(data) + 1)
    return data[:at] + _byte(draw) + data[at + 1 :]


def _flip(draw: random.Random, data: bytes, _seeds: Sequence[bytes], _words: Sequence[bytes]) -> bytes:
    """One bit."""
    if not data:
        return data
    at = draw.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


def _insert(draw: random.Random, data: bytes, _seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A word of the protocol, or a byte, goes in."""
    at = draw.randrange(len(data) + 1)
    new = draw.choice(words) if words and draw.random() < 0.7 else _byte(draw)
    return data[:at] + new + data[at:]


def _replace(draw: random.Random, data: bytes, _seeds: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A word takes the place of what is there."""
    new = draw.choice(words) if words else _byte(draw)
    at = draw.randrange(len(data) + 1)
    return data[:at] + new + data[at + len(new) :]


def _remove(draw: random.Random, data: bytes, _seeds: Sequence[bytes], _words: Sequence[bytes]) -> bytes:
    at, end = _stretch(draw, data)
    return data[:at] + data[end:]


def _repeat(draw: random.Random, data: bytes, _seeds: Sequence[bytes], _words: Sequence[bytes]) -> bytes:
    at, end = _stretch(draw, data)
    return data[:end] + data[at:end] * draw.choice((1, 1, 2, 30)) + data[end:]


def _truncate(draw: random.Random, data: bytes, _seeds: Sequence[bytes], _words: Sequence[bytes]) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _splice(draw: random.Random, data: bytes, seeds: Sequence[bytes], _words: Sequence[bytes]) -> bytes:
    """The beginning of this one and the end of another."""
    other = draw.choice(seeds)
    return data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other) + 1) :]


_STEPS = (_change, _flip, _insert, _insert, _replace, _remove, _repeat, _truncate, _splice)


def _stretch(draw: random.Random, data: bytes) -> tuple[int, int]:
    at = draw.randrange(len(data) + 1)
    return at, min(at + draw.choice((1, 2, 4, 16, 100)), len(data))


def _byte(draw: random.Random) -> bytes:
    return bytes([draw.choice(_BYTES) if draw.random() < 0.8 else draw.randrange(256)])
