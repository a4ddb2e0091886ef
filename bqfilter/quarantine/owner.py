"""Who the quarantine belongs to: root gives it to the filter, and works in it as the filter.

What root keeps there belongs to the filter, and the filter could not read a file of root's. It also means
that root opens nothing there which the filter could not open itself: whatever a worker that has been broken
into leaves behind, it leads nowhere. For anybody else, and where root owns the directory, nothing changes.
"""

import os
import pwd
from pathlib import Path


def make_directory(directory: Path, uid: int, gid: int) -> None:
    """Make it if need be and give it to the workers' account, -1 for ours. In the master. Raises OSError."""
    directory.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    os.chown(directory, uid, gid, follow_symlinks=False)


def become_owner(directory: Path) -> None:
    """Give up root's rights for those of the directory's owner, if there is one. Raises OSError."""
    if os.geteuid() != 0:
        return
    try:
        status = directory.stat()
    except FileNotFoundError:
        return
    if status.st_uid != 0:
        _become(status.st_uid, status.st_gid)


def _become(uid: int, gid: int) -> None:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # an account that is gone, or of another host
        os.setgroups([gid])
    else:
        gid = entry.pw_gid
        os.initgroups(entry.pw_name, gid)
    os.setgid(gid)
    os.setuid(uid)
