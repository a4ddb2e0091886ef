"""A private clamd with a database of four signatures, which knows EICAR's test file.

It loads in milliseconds. Nothing outside its directory is read or written; no freshclam, no network.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

from bqfilter.net.address import Endpoint
from tests.daemons.process import Daemon, start
from tests.doubles.components import program
from tests.doubles.messages import EICAR
from tests.doubles.programs import short_directory
from tests.postfix.postfix_instance import free_ports, own_loopback_address

PATTERN = b"BQ-TEST-PATTERN-7f3a"
STREAM_MAX_BYTES = 1 << 20

CONFIG = """\
Foreground yes
DatabaseDirectory {directory}/db
LocalSocket {directory}/clamd.sock
LocalSocketMode 666
FixStaleSocket yes
TCPAddr {inet.host}
TCPSocket {inet.port}
LogFile {directory}/clamd.log
PidFile {directory}/clamd.pid
TemporaryDirectory {directory}
StreamMaxLength {stream_max}
MaxThreads 4
SelfCheck 0
"""


@contextlib.contextmanager
def private_clamd(**options: str) -> Iterator[Daemon]:
    """Started and, at the end, stopped; `options` are further lines of clamd.conf."""
    path = program("clamd", "clamav-daemon")
    with short_directory("bqcl-") as directory:
        daemon = start_clamd(path, directory, options)
        try:
            yield daemon
        finally:
            daemon.stop()


def start_clamd(path: str, directory: Path, options: dict[str, str]) -> Daemon:
    """In a directory that is empty."""
    address = own_loopback_address()
    inet = Endpoint("inet", address, free_ports(address, ["clamd"])["clamd"])
    unix = Endpoint("unix", path=f"{directory}/clamd.sock")
    config = CONFIG.format(directory=directory, inet=inet, stream_max=STREAM_MAX_BYTES)
    config += "".join(f"{key} {value}\n" for key, value in options.items())
    (directory / "clamd.conf").write_text(config)
    (directory / "db").mkdir()
    write_database(directory / "db")
    command = [path, "-c", f"{directory}/clamd.conf"]
    return start(directory, command, unix, inet, b"zPING\0", b"PONG")


def write_database(directory: Path) -> None:
    """By hash of a whole file, by pattern (which clamd looks at first), and by two patterns together."""
    digest = hashlib.md5(EICAR, usedforsecurity=False).hexdigest()
    (directory / "local.hdb").write_text(f"{digest}:{len(EICAR)}:Local.Eicar.Hash\n")
    (directory / "local.ndb").write_text(f"Local.Eicar:0:*:{EICAR.hex()}\nLocal.BqTest:0:*:{PATTERN.hex()}\n")
    halves = b"BQ-LEFT-HALF".hex(), b"BQ-RIGHT-HALF".hex()
    (directory / "local.ldb").write_text("Local.BqLogic;Engine:51-255,Target:0;0&1;{};{}\n".format(*halves))


def add_signature(daemon: Daemon, name: str, pattern: bytes) -> None:
    """It counts from the next reload on."""
    with (daemon.directory / "db" / "local.ndb").open("a") as database:
        database.write(f"{name}:0:*:{pattern.hex()}\n")
