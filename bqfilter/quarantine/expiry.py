"""Expiry: delete what is too old, then the oldest until the rest is small enough.

Only settled messages go: what is pending, being released or of unknown outcome stays, however old, and is
counted, because somebody has to look at it. A message that somebody else is at work on is passed over. Drafts
that a crash has left go after a day; no message is being written for so long.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bqfilter.errors import QuarantineFailure
from bqfilter.quarantine.names import SETTLED, Name, State, stamp
from bqfilter.quarantine.store import Quarantine, Sized

_DRAFT_AGE = 86400.0  # seconds; a reply budget is an hour at most


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_age` in seconds and `max_size` in bytes, 0 for none."""

    max_age: float
    max_size: int


@dataclass(slots=True)
class Expired:
    """What was done: `left` counts the messages that only a person can settle, by state."""

    deleted: list[Name] = field(default_factory=list)
    deleted_size: int = 0
    draft_count: int = 0
    kept_count: int = 0
    kept_size: int = 0
    left: Counter[State] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def expire(store: Quarantine, limits: Limits, now: float, *, dry_run: bool = False) -> Expired:
    """Delete what `limits` say; with `dry_run` tell only what would go. Raises OSError."""
    files = list(store.sizes())
    done = Expired()
    for draft in _old_drafts(files, now):
        if not dry_run:
            with contextlib.suppress(FileNotFoundError):  # somebody else expires, too
                store.discard_draft(draft.name)
        done.draft_count += 1
    for sized in chosen(files, limits, now):
        _delete(store, sized, done, dry_run)
    gone = set(done.deleted)
    kept = [sized for sized in files if sized.name.state is not State.NEW and sized.name not in gone]
    done.kept_count, done.kept_size = len(kept), sum(sized.size for sized in kept)
    done.left.update(sized.name.state for sized in kept if sized.name.state not in SETTLED)
    if not dry_run:
        store.tidy()
    return done


def chosen(files: Sequence[Sized], limits: Limits, now: float) -> Iterator[Sized]:
    """Which of these go; they are given oldest first. Pure."""
    edge = stamp(max(now - limits.max_age, 0)) if limits.max_age else ""
    total = sum(sized.size for sized in files if sized.name.state is not State.NEW)
    for sized in files:
        is_over = bool(limits.max_size) and total > limits.max_size
        if sized.name.state in SETTLED and (sized.name.id < edge or is_over):
            total -= sized.size
            yield sized


def _old_drafts(files: Sequence[Sized], now: float) -> list[Sized]:
    edge = stamp(max(now - _DRAFT_AGE, 0))
    return [sized for sized in files if sized.name.state is State.NEW and sized.name.id < edge]


def _delete(store: Quarantine, sized: Sized, done: Expired, dry_run: bool) -> None:
    try:
        if not dry_run:
            _delete_settled(store, sized.name)
    except (OSError, QuarantineFailure) as failure:
        done.failures.append(str(failure))
        return
    done.deleted.append(sized.name)
    done.deleted_size += sized.size


def _delete_settled(store: Quarantine, name: Name) -> None:
    with store.claim(name.id) as claim:
        if claim.name.state not in SETTLED:  # its release began meanwhile
            raise QuarantineFailure(f"{name.id}: is {claim.name.state} now")
        claim.delete()
