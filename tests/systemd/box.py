"""A box: a throw-away systemd, booted by systemd-nspawn on a copy-on-write view of this machine's own root.

What is installed here is installed there, what is done there is gone with it, and its network is its own, so
that port 25 is free. It boots in half a second. The host's own systemd, if it has one, is not asked: the box
gets cgroups of its own, and is reached by entering its namespaces. Only processes started here are signalled,
by their pid; whatever was mounted is unmounted, whatever happens.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.doubles.components import missing
from tests.doubles.network import within_network_of
from tests.doubles.programs import REPOSITORY, children_of, eventually, short_directory

BOOT_LIMIT = 60.0
COMMAND_LIMIT = 120.0
CGROUP = Path("/sys/fs/cgroup")
UNITS = REPOSITORY / "contrib" / "systemd"

# What pip would make; a Python that was built elsewhere looks for its library where units cannot.
PROGRAM = """\
#!/bin/sh
LD_LIBRARY_PATH=/opt/bqfilter/python/lib \\
exec /opt/bqfilter/python/bin/python{0}.{1} -I /opt/bqfilter/bin/main.py "$@"
"""
MAIN = """\
import sys

sys.path.insert(0, "/opt/bqfilter/lib/python/site-packages")
sys.path.append("/opt/bqfilter/dependencies")
from bqfilter.cli import main

main(prog_name="bqfilterd")
"""

# Python, too: it may be in somebody's home, which units do not see.
_BINDINGS = (
    f"{sysconfig.get_paths()['purelib']}:/opt/bqfilter/dependencies",
    f"{sys.base_prefix}:/opt/bqfilter/python",
)

T = TypeVar("T")

_STARTED = ("running", "degraded")


def why_not() -> str | None:
    """Why no box can be made here, if so."""
    if os.geteuid() != 0:
        return "only root can boot a systemd"
    return missing("systemd-nspawn", "systemd-container") or missing("postfix", "postfix")


@dataclass(slots=True)
class Box:
    """A booted system. `root` is its root directory, as seen from here; `leader` is its first process."""

    root: Path
    leader: int
    _cursor: str = field(default="")

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command inside, as root there."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_LIMIT,
            check=False,
        )
        if check and done.returncode != 0:
            said = f"{done.stdout}{done.stderr}\n{self.log()}"
            raise AssertionError(f"{' '.join(command)}: exit status {done.returncode}\n{said}")
        return done

    def in_network(self, *command: str) -> list[str]:
        """A command of this machine that is to see the network of the box, for Popen."""
        return ["nsenter", "-t", str(self.leader), "-n", *command]

    def within_network(self, action: Callable[[], T]) -> T:
        """What `action` gives, with the sockets it makes being of the box; they may be used from anywhere."""
        return within_network_of(self.leader, action)

    def systemctl(self, *arguments: str) -> str:
        return self.run("systemctl", *arguments).stdout

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", "--value", "--property", name, unit).strip()

    def status_text(self) -> str:
        """What the daemon says of itself."""
        return self.show("bqfilterd.service", "StatusText")

    def main_pid(self) -> int:
        """In the box's own counting."""
        return int(self.show("bqfilterd.service", "MainPID"))

    def kill(self, number: signal.Signals, pid: int) -> None:
        """A process of the box, by its number there."""
        self.run("kill", f"-{number.value}", str(pid))

    def write(self, path: str, text: str) -> None:
        """A file, with the directories that it needs."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")

    def drop_in(self, unit: str, text: str) -> None:
        """As `systemctl edit` makes one."""
        self.write(f"/etc/systemd/system/{unit}.d/test.conf", text)
        self.systemctl("daemon-reload")

    def log(self) -> str:
        """What the units have logged since `forget_log`."""
        after = [f"--after-cursor={self._cursor}"] if self._cursor else []
        command = ("journalctl", "--no-pager", "-o", "cat", "-u", "bqfilterd*", *after)
        return self.run(*command, check=False).stdout

    def forget_log(self) -> None:
        shown = self.run("journalctl", "--no-pager", "-n", "0", "--show-cursor").stdout
        self._cursor = shown.rpartition("-- cursor: ")[2].strip()

    def wait_for_log(self, text: str) -> None:
        try:
            eventually(lambda: text in self.log(), f"{text!r} in the journal")
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.log()}") from None


@contextlib.contextmanager
def booted(install: Callable[[Path], None] | None = None, below: Path = Path("/")) -> Iterator[Box]:
    """From mount to unmount. `below` is the root directory that it is a view of.

    `install` puts there what is to be tried, and is told where; without it that is bqfilterd and its units.
    """
    name = f"bqbox{os.getpid()}"
    with short_directory("bqsd-") as directory, _overlay(directory, name, below) as root:
        _prepare(root)
        (install or _install)(root)
        shown = () if install else _BINDINGS
        with _cgroups(name), _running(directory, root, name, shown) as leader:
            yield Box(root, leader)


@contextlib.contextmanager
def _overlay(directory: Path, name: str, below: Path) -> Iterator[Path]:
    layers = directory / "layers"
    layers.mkdir()
    _call("mount", "-t", "tmpfs", "-o", "size=2G,mode=755", name, str(layers))
    try:
        for part in ("up", "work", "root"):
            (layers / part).mkdir()
        root = layers / "root"
        options = f"lowerdir={below},upperdir={layers}/up,workdir={layers}/work"
        _call("mount", "-t", "overlay", "-o", options, name, str(root))
        try:
            yield root
        finally:
            _unmount(root)
    finally:
        _unmount(layers)


def _prepare(root: Path) -> None:
    """Nothing of what this machine starts is started there, and bqfilterd has never been here."""
    etc = root / "etc"
    for trace in ("etc/bqfilter", "var/spool/bqfilter", "opt/bqfilter", "var/log/journal"):
        shutil.rmtree(root / trace, ignore_errors=True)
    for wants in (etc / "systemd" / "system").glob("*.wants"):
        shutil.rmtree(wants)
    for script in etc.glob("rc?.d/S*"):
        script.unlink()
    (etc / "fstab").write_text("")
    default = etc / "systemd" / "system" / "default.target"
    default.unlink(missing_ok=True)
    default.symlink_to("/lib/systemd/system/multi-user.target")


def _install(root: Path) -> None:
    """As the manual says, but for venv and pip: Python and packages are those that run these tests."""
    home = root / "opt" / "bqfilter"
    packages = home / "lib" / "python" / "site-packages"
    packages.mkdir(parents=True)
    shutil.copytree(
        REPOSITORY / "bqfilter", packages / "bqfilter", ignore=shutil.ignore_patterns("__pycache__")
    )
    for part in ("bin", "dependencies", "python"):
        (home / part).mkdir()
    (home / "bin" / "main.py").write_text(MAIN)
    program = home / "bin" / "bqfilterd"
    program.write_text(PROGRAM.format(*sys.version_info))
    program.chmod(0o755)
    link = root / "usr" / "local" / "bin" / "bqfilterd"
    link.unlink(missing_ok=True)
    link.symlink_to("/opt/bqfilter/bin/bqfilterd")
    library = root / "usr" / "local" / "lib"
    for kind, source in (("systemd/system", ""), ("sysusers.d", "sysusers.d"), ("tmpfiles.d", "tmpfiles.d")):
        (library / kind).mkdir(parents=True, exist_ok=True)
        for file in (UNITS / source).glob("bqfilter*.*"):
            shutil.copy(file, library / kind)


@contextlib.contextmanager
def _cgroups(name: str) -> Iterator[None]:
    """Of its own, in each hierarchy that a systemd looks at; or two boxes would share the same."""
    made = [hierarchy / name for hierarchy in _hierarchies()]
    for cgroup in made:
        cgroup.mkdir(exist_ok=True)
    try:
        yield
    finally:
        for cgroup in made:
            eventually(lambda cgroup=cgroup: _is_removed(cgroup), f"no {cgroup}")  # type: ignore[misc]


def _is_removed(cgroup: Path) -> bool:
    """With all below it; who was in them last may not be gone yet."""
    try:
        for path in sorted(cgroup.rglob("*/"), key=lambda path: len(path.parts), reverse=True):
            path.rmdir()
        cgroup.rmdir()
    except FileNotFoundError:
        return not cgroup.exists()
    except OSError:  # EBUSY
        return False
    return True


def _hierarchies() -> list[Path]:
    if (CGROUP / "cgroup.procs").exists():
        return [CGROUP]
    return [CGROUP / part for part in ("systemd", "unified") if (CGROUP / part).is_dir()]


@contextlib.contextmanager
def _running(directory: Path, root: Path, name: str, shown: tuple[str, ...]) -> Iterator[int]:
    """systemd-nspawn, up to a system that has started."""
    enter = "".join(f"echo $$ > {hierarchy}/{name}/cgroup.procs && " for hierarchy in _hierarchies())
    bindings = "".join(f" --bind-ro={binding}" for binding in shown)
    nspawn = (
        f"exec systemd-nspawn -q -D {root} -M {name} --boot --register=no --keep-unit --private-network "
        f"--console=read-only{bindings}"
    )
    with (directory / "console").open("wb") as console:
        process = subprocess.Popen(
            ["/bin/sh", "-c", enter + nspawn],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
    leader = 0
    try:
        leader = eventually(lambda: _leader(process), "a first process in the box", BOOT_LIMIT)
        box = Box(root, leader)
        eventually(lambda: _state(box) in _STARTED, "a system that has started", BOOT_LIMIT)
        yield leader
    except AssertionError as failure:
        raise AssertionError(f"{failure}\n{(directory / 'console').read_text(errors='replace')}") from None
    finally:
        _end(process, leader)


def _leader(process: subprocess.Popen[bytes]) -> int | None:
    """nspawn's child; the second one, where a stub of it is still there."""
    assert process.poll() is None, "systemd-nspawn has ended"
    children = children_of(process.pid)
    try:
        is_there = children and Path(f"/proc/{children[-1]}/comm").read_text().strip() == "systemd"
    except OSError:  # the stub has ended since
        return None
    return children[-1] if is_there else None


def _state(box: Box) -> str:
    return box.run("systemctl", "is-system-running", check=False).stdout.strip()


def _end(process: subprocess.Popen[bytes], leader: int) -> None:
    """The first process first: with it everything in the box is gone, and there is nothing in it to save."""
    with contextlib.suppress(ProcessLookupError):
        if leader:
            os.kill(leader, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    process.kill()
    process.wait()


def _unmount(place: Path) -> None:
    """What used it last may not be gone yet."""
    eventually(
        lambda: subprocess.run(["umount", str(place)], capture_output=True).returncode == 0, "no mount"
    )


def _call(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
