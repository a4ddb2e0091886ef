"""What systemd expects of a service that it starts: notifications and inherited sockets; a few lines each.

Without systemd every function here does nothing. See sd_notify(3) and sd_listen_fds(3).
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
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.sendto("\n".join(assignments).encode("utf-8"), address)
        except OSError:
            return False
    return True


def notify_reloading() -> bool:
    """Announce a reload, with the instant that Type=notify-reload asks for."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def inherited_sockets() -> list[socket.socket]:
    """The listening sockets passed to this very process; the variables are taken out of the environment."""
    pid = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    return [socket.socket(fileno=fd) for fd in range(_FIRST_FD, _FIRST_FD + int(count))]
