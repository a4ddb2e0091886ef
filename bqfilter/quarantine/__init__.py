"""The quarantine: messages that are kept, each in one file that holds all there is to know about it.

`store` keeps and finds them, `claim` is one of them in the hands of one process, `names` has the states that
a file can be in. Nothing is sent from here: that is `bqfilter.release`.
"""

from bqfilter.quarantine.names import State
from bqfilter.quarantine.record import Record, ReportSummary, headline
from bqfilter.quarantine.store import Kept, Quarantine

__all__ = ["Kept", "Quarantine", "Record", "ReportSummary", "State", "headline"]
