"""What has to be edited to make one header of another: for filters that give back a whole message.

As many fields as can be are left alone, so that what a program did not touch stays byte for byte as it came,
and edits of other scanners still find it. The time is n log n in the number of fields.
"""

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Sequence

from bqfilter.mail.fields import Edit, Field, Header, Insert, Remove


def edits_between(old: Header, new: Header) -> tuple[Edit, ...]:
    """The edits that make `new` of `old`: `edited(old, edits_between(old, new)) == new.raw`."""
    kept = _kept(old.fields, new.fields)
    edits: list[Edit] = []
    place = 0
    for field in new.fields:
        if field.index in kept:
            place = kept[field.index] + 1
        else:
            edits.append(Insert(place, field.raw))
    stays = set(kept.values())
    return (*edits, *(Remove(field.index) for field in old.fields if field.index not in stays))


def _kept(old: Sequence[Field], new: Sequence[Field]) -> dict[int, int]:
    """The fields that stay: place in `new` to place in `old`, ascending on both sides."""
    head = _common(old, new)
    tail = _common(old[head:][::-1], new[head:][::-1])
    middle = _in_order(_twins(old[head : len(old) - tail], new[head : len(new) - tail]))
    first = [(place, place) for place in range(head)]
    last = [(len(new) - place, len(old) - place) for place in range(tail, 0, -1)]
    return dict([*first, *middle, *last])


def _common(old: Sequence[Field], new: Sequence[Field]) -> int:
    """How many fields both begin with."""
    pairs = enumerate(zip(old, new, strict=False))
    return next((at for at, (one, other) in pairs if one.raw != other.raw), min(len(old), len(new)))


def _twins(old: Sequence[Field], new: Sequence[Field]) -> list[tuple[int, int]]:
    """Places in `new` and `old` of equal fields; the first of several equal ones goes with the first."""
    places: dict[bytes, deque[int]] = defaultdict(deque)
    for field in old:
        places[field.raw].append(field.index)
    return [(field.index, places[field.raw].popleft()) for field in new if places[field.raw]]


def _in_order(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest run of pairs that ascends on both sides (a longest increasing subsequence)."""
    ends: list[int] = []  # the smallest place at which a run of each length can end
    last: list[int] = []  # and the pair that does
    before: list[int | None] = []
    for number, (_, place) in enumerate(pairs):
        length = bisect_left(ends, place)
        before.append(last[length - 1] if length else None)
        ends[length : length + 1] = [place]
        last[length : length + 1] = [number]
    run: list[tuple[int, int]] = []
    at = last[-1] if last else None
    while at is not None:
        run.append(pairs[at])
        at = before[at]
    return run[::-1]
