"""What is in the Debian package. How it is installed, upgraded and removed is tried by scripts/test-deb."""

import re
import subprocess
from pathlib import Path

from tests.packages.conftest import run


def test_the_package_holds_every_file_of_an_installation(packages: tuple[Path, Path]) -> None:
    listed = run(["dpkg-deb", "--contents", str(packages[0])])
    files = set(re.findall(r" \./(\S*[^/\s])(?= -> |$)", listed, re.MULTILINE))
    assert {
        "etc/bqfilter/bqfilterd.toml",
        "etc/bqfilter/rules/header_checks.regexp",
        "usr/lib/bqfilter/bin/bqfilterd",
        "usr/lib/systemd/system/bqfilterd.service",
        "usr/lib/systemd/system/bqfilterd.socket",
        "usr/lib/systemd/system/bqfilterd-unix.socket",
        "usr/lib/systemd/system/bqfilterd-quarantine-expire.service",
        "usr/lib/systemd/system/bqfilterd-quarantine-expire.timer",
        "usr/lib/systemd/system/bqfilterd@.service",
        "usr/lib/systemd/system/bqfilterd@.socket",
        "usr/lib/systemd/system/bqfilterd-quarantine-expire@.service",
        "usr/lib/systemd/system/bqfilterd-quarantine-expire@.timer",
        "usr/lib/sysusers.d/bqfilter.conf",
        "usr/lib/tmpfiles.d/bqfilter.conf",
        "usr/sbin/bqfilterd",
        "usr/share/bash-completion/completions/bqfilterd",
        "usr/share/bqfilter/examples/clamav.toml",
        "usr/share/doc/bqfilter/copyright",
        "usr/share/fish/vendor_completions.d/bqfilterd.fish",
        "usr/share/man/man5/bqfilter-rules.5.gz",
        "usr/share/man/man5/bqfilterd.toml.5.gz",
        "usr/share/man/man8/bqfilterd.8.gz",
        "usr/share/zsh/vendor-completions/_bqfilterd",
    } <= files
    assert all(" root/root " in line for line in listed.splitlines())


def test_no_path_of_the_machine_that_built_it_is_in_the_package(
    packages: tuple[Path, Path], tmp_path: Path
) -> None:
    run(["dpkg-deb", "--extract", str(packages[0]), str(tmp_path)])
    # Its working directory was one that mktemp made.
    found = subprocess.run(
        ["grep", "-rlE", "/tmp/tmp[.]", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.stdout == ""
