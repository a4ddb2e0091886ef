"""What systemd expects of a service that it starts: notifications, signs of life, inherited sockets.

A few lines each. Without systemd every function here does nothing. See sd_notify(3), sd_watchdog_enabled(3)
and sd_listen_fds(3).
"""

import os
import socket
import time

_FIRST_FD = 3  # SD_LISTEN_FDS_START


def notify(*assignments: str) -> bool:
    """Tell the service manager, for example `notify("READY=1", "STATUS=accepting")`; True if it was told."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.sendto("\n".join(assignments).encode("utf-8"), address)
    except OSError:  # it does not listen, or no descriptor is to be had
        return False
    return True


def notify_reloading() -> bool:
    """Announce a reload, with the instant that Type=notify-reload asks for."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def is_listening() -> bool:
    """There is a service manager to tell something."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def watchdog_timeout() -> float | None:
    """Seconds within which `notify("WATCHDOG=1")` is due again and again; None where nobody waits for it.

    The variables stay where they are, for whatever program this process may execute next.
    """
    microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or pid not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000 or None


def inherited_fds(pid: int) -> list[int]:
    """The descriptors passed to the process `pid`, which has not taken them yet."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(pid) or not count.isdigit():
        return []
    return list(range(_FIRST_FD, _FIRST_FD + int(count)))


def adopt_inheritance(pid: int) -> None:
    """What was passed to the process `pid`, whose descendant we are, is ours from now on."""
    if os.environ.get("LISTEN_PID") == str(pid):
        os.environ["LISTEN_PID"] = str(os.getpid())


def inherited_sockets() -> list[socket.socket]:
    """The listening sockets passed to this very process; the variables are taken out of the environment."""
    fds = inherited_fds(os.getpid())
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    return [socket.socket(fileno=fd) for fd in fds]
