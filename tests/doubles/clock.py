"""FakeClock: time that moves only when a test says so."""


class FakeClock:
    """Stands in for `time.monotonic`: called, it tells the time."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let this much time pass."""
        assert seconds >= 0, "a monotonic clock does not go backwards"
        self.now += seconds
