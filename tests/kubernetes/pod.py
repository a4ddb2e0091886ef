"""A pod without a cluster: the command line of the image, as the manifests have a node run it.

In namespaces of its own for processes, mounts and the network it is process 1, on a root that is read-only,
with the volumes of the manifest, an account that nobody has heard of, and no capability. The configuration is
laid out as kubelet does it: a file that is a link into a directory that is a link, which is what changes. In
place of the image there are Python and the packages that run these tests; the wheel is looked at in
tests/packages.
"""

import contextlib
import os
import re
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
from tests.doubles.programs import REPOSITORY, children_of, eventually, title_of
from tests.kubernetes.containerfile import command_line
from tests.kubernetes.manifests import Rendering, quantity

UID = 1_000_620_000  # as OpenShift gives them out; not the one of the image
POD, BEFORE_FILTER, NODE = "10.244.1.7", "10.244.2.9", "10.0.0.3"
SMTP, METRICS = (POD, 10025), (POD, 9925)
AFTER_FILTER = "postfix-after-filter"
TOOLS = {"unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux", "ip": "iproute2"}

# What pip would make of the entry point.
_PROGRAM = """\
#!{prefix}/bin/python{version} -I
import sys

sys.path[:0] = ["/opt/bqfilter/packages", "/opt/bqfilter/dependencies"]
from bqfilter.cli import main

main(prog_name="bqfilterd")
"""

# Process 1 from its first line to its last: each program becomes the next.
_START = """\
set -e
ip link set lo up
for address in {addresses}; do ip address add $address/32 dev lo; done
mount -t tmpfs -o mode=755 root {root}
cd {root}
mkdir -p proc dev etc/bqfilter run var opt tmp usr .{prefix}
ln -s usr/bin usr/lib usr/lib64 usr/sbin .
mount --bind -o ro /usr usr
mount --bind -o ro {prefix} .{prefix}
mount --bind -o ro {image}/opt opt
mount --bind -o ro {packages} opt/bqfilter/dependencies
mount -t proc proc proc
cp /etc/ld.so.cache etc
cp {image}/etc/* etc
for device in null zero full random urandom; do : > dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/shm
mount -t tmpfs -o mode=1777 shm dev/shm
{mounts}
mount -o remount,ro,bind .
exec chroot . setpriv --reuid {uid} --regid {uid} --clear-groups --no-new-privs --bounding-set -all \
    --inh-caps -all env -i PATH=/opt/bqfilter/bin:/usr/bin HOSTNAME=bqfilterd-0 {command}
"""

T = TypeVar("T")


def why_not() -> str | None:
    """Why no pod can be made here, if so."""
    if os.geteuid() != 0:
        return "only root can make namespaces"
    return next((reason for reason in (missing(*tool) for tool in TOOLS.items()) if reason), None)


class ConfigMap:
    """A volume with one file, which kubelet replaces as a whole."""

    def __init__(self, directory: Path, text: str) -> None:
        self.directory = directory
        self._count = 0
        directory.mkdir()
        self.replace(text)
        self.file.symlink_to("..data/bqfilterd.toml")

    @property
    def file(self) -> Path:
        return self.directory / "bqfilterd.toml"

    def replace(self, text: str) -> None:
        self._count += 1
        version = self.directory / f"..2026_01_01_00_00_{self._count:02}.1"
        version.mkdir()
        (version / "bqfilterd.toml").write_text(text, encoding="utf-8")
        link = self.directory / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.directory / "..data")


@dataclass(slots=True)
class Pod:
    """A running one. `leader` is its process 1, as seen from here."""

    directory: Path
    config: ConfigMap
    process: "subprocess.Popen[bytes]"
    leader: int = field(default=0)

    def log(self) -> str:
        return (self.directory / "log").read_text(encoding="utf-8", errors="replace")

    def wait_for_log(self, text: str) -> None:
        try:
            eventually(lambda: text in self.log() or self.process.poll() is not None, f"{text!r} in the log")
            assert text in self.log(), "it has ended"
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.log()}") from None

    def within_network(self, action: Callable[[], T]) -> T:
        return within_network_of(self.leader, action)

    def exec(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """As `kubectl exec` does."""
        enter = [
            "nsenter",
            "-t",
            str(self.leader),
            "-m",
            "-n",
            "-p",
            "-r",
            "-w",
            "-S",
            str(UID),
            "-G",
            str(UID),
        ]
        path = "PATH=/opt/bqfilter/bin:/usr/bin"
        return subprocess.run(
            [*enter, "/usr/bin/env", "-i", path, *command],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """As the engine does: from outside."""
        os.kill(self.leader, number)

    def zombies(self) -> list[int]:
        """Children of process 1 that have ended and that it has not reaped."""
        children = Path(f"/proc/{self.leader}/task/{self.leader}/children").read_text().split()
        return [int(pid) for pid in children if _state_of(int(pid)) == "Z"]


@contextlib.contextmanager
def started(
    directory: Path, rendering: Rendering, tamper: Callable[[ConfigMap], None] = lambda _: None
) -> Iterator[Pod]:
    """Process 1 is the program of the image; what it does is to be seen. `tamper` comes before."""
    image = _laid_out(directory / "image")
    config = ConfigMap(directory / "config", rendering.config)
    tamper(config)
    (directory / "root").mkdir()
    script = _START.format(
        addresses=f"{POD} {BEFORE_FILTER} {NODE}", root=directory / "root", image=image, uid=UID,
        prefix=sys.base_prefix, packages=sysconfig.get_paths()["purelib"],
        mounts="\n".join(_mounts(directory, rendering, config)),
        command=" ".join([*command_line()[:1], *rendering.container.get("args", command_line()[1:])]),
    )  # fmt: skip
    unshare = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*unshare, "/bin/sh", "-c", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    pod = Pod(directory, config, process)
    try:
        pod.leader = eventually(lambda: _leader(pod), "the program of the image as process 1")
        yield pod
    finally:
        # unshare's own --kill-child is undone where its child changes the account.
        if pod.leader and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pod.leader, signal.SIGKILL)
        process.kill()
        process.wait()


def _laid_out(image: Path) -> Path:
    """Files as the Containerfile leaves them, as far as they are not the system's own."""
    home = image / "opt" / "bqfilter"
    for part in ("bin", "packages", "dependencies"):
        (home / part).mkdir(parents=True)
    shutil.copytree(
        REPOSITORY / "bqfilter", home / "packages" / "bqfilter", ignore=shutil.ignore_patterns("__pycache__")
    )
    program = image / command_line()[0].lstrip("/")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    program.write_text(_PROGRAM.format(prefix=sys.base_prefix, version=version))
    program.chmod(0o755)
    (image / "etc").mkdir()
    (image / "etc" / "passwd").write_text("root:x:0:0:root:/root:/usr/sbin/nologin\n")
    (image / "etc" / "group").write_text("root:x:0:\n")
    (image / "etc" / "nsswitch.conf").write_text("hosts: files\n")
    (image / "etc" / "hosts").write_text(f"127.0.0.1 localhost {AFTER_FILTER}\n")
    return image


def _mounts(directory: Path, rendering: Rendering, config: ConfigMap) -> Iterator[str]:
    """What a node does for volumeMounts. An emptyDir is root's, and open to all."""
    for mount in rendering.container["volumeMounts"]:
        place, volume = mount["mountPath"].lstrip("/"), rendering.volume(mount["mountPath"])
        yield f"mkdir -p {place}"
        if "configMap" in volume:
            yield f"mount --bind -o ro {config.directory} {place}"
        elif volume["emptyDir"].get("medium") == "Memory":
            size = int(quantity(volume["emptyDir"]["sizeLimit"]))
            yield f"mount -t tmpfs -o mode=777,size={size} {volume['name']} {place}"
        else:
            source = directory / volume["name"]
            source.mkdir()
            source.chmod(0o777)
            yield f"mount --bind {source} {place}"


def _leader(pod: Pod) -> int | None:
    """Once it is no shell any more, and nothing else that leads to the program."""
    assert pod.process.poll() is None, pod.log()
    children = children_of(pod.process.pid)
    if not children:
        return None
    command = title_of(children[0])
    is_ours = "/opt/bqfilter/bin/bqfilterd" in command and re.match(r"\S*python", command)
    return children[0] if is_ours or command.startswith("bqfilterd:") else None


def _state_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""
