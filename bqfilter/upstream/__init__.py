"""The leg to the after-filter server: `connection` speaks to one, `leg` picks one and carries messages."""

from bqfilter.upstream.leg import Upstream

__all__ = ["Upstream"]
