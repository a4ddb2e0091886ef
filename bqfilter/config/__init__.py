"""What the operator decides: the settings, their defaults and ranges, and the file they are read from."""

from bqfilter.config.loader import load
from bqfilter.config.schema import Settings

__all__ = ["Settings", "load"]
