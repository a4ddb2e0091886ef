"""Hosts on a network of their own: namespaces at one bridge, of which the rest of the machine sees nothing.

No namespace has a name. Each lasts as long as a process in it: a `cat` that ends when the other end of its
pipe is closed, which it is when this process ends, however it does. With the namespace its devices go, so
there is nothing to clean up that could be left behind, and no name that two runs could both want. What still
runs on the hosts in the end is killed.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.doubles.components import missing

PREFIX = "192.0.2"
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_HOLD = ["unshare", "--net", "sh", "-c", "echo; exec cat"]
_LIMIT = 30.0


def why_not() -> str | None:
    """Why no hosts can be made here, if so."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    return missing("ip", "iproute2")


@dataclass(frozen=True, slots=True)
class Host:
    """`keeper` is the process that keeps it; all else that runs there was started by who entered it."""

    address: str
    keeper: int

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread, and what it starts meanwhile, threads and processes, has the host's network."""
        with Path("/proc/thread-self/ns/net").open("rb") as outside:
            with Path(f"/proc/{self.keeper}/ns/net").open("rb") as inside:
                _enter(inside.fileno())
            try:
                yield
            finally:
                _enter(outside.fileno())

    def processes(self) -> set[int]:
        """All that run here, but for the keeper."""
        return residents(self.network()) - {self.keeper}

    def network(self) -> str:
        """What the kernel calls the namespace."""
        return str(Path(f"/proc/{self.keeper}/ns/net").readlink())

    def kill_everything(self) -> None:
        """As when the power fails, but that the kernel still closes connections."""
        while left := self.processes():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def residents(network: str) -> set[int]:
    """The processes with this network; those that have ended have none."""
    return {int(path.name) for path in Path("/proc").iterdir() if _network_of(path) == network}


def _network_of(process: Path) -> str | None:
    if not process.name.isdecimal():
        return None
    try:
        return str((process / "ns" / "net").readlink())
    except OSError:
        return None


@contextlib.contextmanager
def network(*numbers: int) -> Iterator[dict[int, Host]]:
    """Hosts whose addresses end in these numbers, which all reach each other."""
    with contextlib.ExitStack() as stack:
        switch = stack.enter_context(_kept())
        hosts = {number: Host(f"{PREFIX}.{number}", stack.enter_context(_kept())) for number in numbers}
        _ip(switch, "link add switch type bridge", "link set switch up")
        for number, host in hosts.items():
            _ip(
                switch,
                f"link add port{number} type veth peer name eth0 netns {host.keeper}",
                f"link set port{number} master switch up",
            )
            _ip(
                host.keeper,
                "link set lo up",
                f"addr add {host.address}/24 dev eth0",
                "link set eth0 up",
            )
        try:
            yield hosts
        finally:
            for host in hosts.values():
                host.kill_everything()


@contextlib.contextmanager
def _kept() -> Iterator[int]:
    """A namespace, by the process that keeps it."""
    with subprocess.Popen(_HOLD, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
        try:
            assert keeper.stdout is not None
            assert keeper.stdout.readline() == b"\n", "no network namespace can be made"
            yield keeper.pid
        finally:
            keeper.kill()


def _ip(pid: int, *commands: str) -> None:
    """Commands of ip(8) in the namespace of a process."""
    done = subprocess.run(
        ["nsenter", "--target", str(pid), "--net", "ip", "-batch", "-"],
        input="\n".join(commands), capture_output=True, text=True, timeout=_LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
