"""The matrix: how many at a time, and how large. Its cells are named as in `4k-20`: size, then sessions."""

from benchmarks.loads import Load, Unit

SESSIONS = (1, 20, 100)
SIZES = {"1k": 1 << 10, "4k": 4 << 10, "100k": 100 << 10, "1m": 1 << 20, "25m": 25 << 20}

_MOST_MESSAGES = 10_000
_MOST_BYTES = 400_000_000
_MUCH = 500_000_000  # bytes of a turn, of which there is a third as many then


def cells(rounds: int, seconds: float) -> list[Load]:
    return [
        _cell(name, size, sessions, rounds, seconds) for name, size in SIZES.items() for sessions in SESSIONS
    ]


def _cell(name: str, size: int, sessions: int, rounds: int, seconds: float) -> Load:
    return Load(
        name=f"{name}-{sessions}",
        title=f"{_told(size)}, {sessions} session{'s' if sessions > 1 else ''}",
        sessions=sessions,
        messages=max(sessions, min(_MOST_MESSAGES, _MOST_BYTES // size)),
        size=size,
        unit=Unit.MEGABYTES_PER_SECOND if size >= 1 << 20 else Unit.MESSAGES_PER_SECOND,
        rounds=max(1, rounds // 3) if size * sessions > _MUCH else rounds,
        seconds=seconds,
    )


def _told(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"
