"""What ends a run without a result."""


class BenchmarkError(Exception):
    """Root of the tree, never raised itself."""


class ProgramError(BenchmarkError):
    """A program did not start, or does not do what it was started for."""


class LoadError(BenchmarkError):
    """smtp-source gave up: something refused or dropped a message."""


class DeliveryError(BenchmarkError):
    """Acknowledged messages did not arrive, or arrived more than once."""


class ScanError(BenchmarkError):
    """A scanner did not call a clean message clean."""
