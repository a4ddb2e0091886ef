"""Parentage: to end with one's parent. For children of the master that hold its sockets and accept nothing.

Workers end by themselves when their master is gone, and shall not carry this: so those who need it import it
themselves. They do that before they drop privileges, because the account that they become may not be able to
read where Python is installed.
"""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with(parent_pid: int) -> None:
    """Be killed when the parent dies. After dropping privileges, because that clears the wish."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(0)
