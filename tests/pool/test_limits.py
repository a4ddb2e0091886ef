"""Limits that are too low are found before they hurt, each with what to do."""

import resource
from collections.abc import Mapping
from pathlib import Path

import pytest

from bqfilter.config import Settings
from bqfilter.config.loader import parse
from bqfilter.pool.limits import Host, shortages

PLENTY = {resource.RLIMIT_NOFILE: 1024, resource.RLIMIT_NPROC: -1}
MEMINFO = "MemTotal: 8000000 kB\nMemAvailable: {} kB\n"


def settings(more: str = "") -> Settings:
    text = '[[listen]]\nendpoint = "inet:127.0.0.1:0"\n[upstream]\nendpoint = "inet:127.0.0.1:1"\n'
    return parse(text + more, "test")


def host(root: Path, limits: Mapping[int, int] | None = None, **files: str) -> Host:
    """A machine that has just these files; an underscore pair stands for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(root, lambda kind: {**PLENTY, **(limits or {})}[kind])


def test_where_nothing_can_be_read_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert list(shortages(settings(), host(tmp_path))) == []


def test_this_machine_can_be_read() -> None:
    assert Host().number("proc/sys/net/core/somaxconn")
    assert Host().memory_left()


@pytest.mark.parametrize(
    ("limits", "files", "more", "limit", "found", "remedy"),
    [
        pytest.param(
            {resource.RLIMIT_NOFILE: 32}, {}, "", "number of open files", "32",
            "LimitNOFILE=33, or ulimit -n 33", id="descriptors",
        ),
        pytest.param(
            {resource.RLIMIT_NOFILE: 36}, {}, '[[clamd]]\nendpoint = "unix:/x"\n', "number of open files",
            "36", "LimitNOFILE=37, or ulimit -n 37", id="descriptors of a scanner",
        ),
        pytest.param(
            {resource.RLIMIT_NPROC: 47}, {}, "", "number of processes of the account", "47",
            "LimitNPROC=48, or ulimit -u 48", id="processes",
        ),
        pytest.param(
            {resource.RLIMIT_NPROC: 48}, {}, '[[command]]\nargv = ["/bin/true"]\n',
            "number of processes of the account", "48", "LimitNPROC=68, or ulimit -u 68", id="programs",
        ),
        pytest.param(
            {}, {"proc__self__cgroup": "0::/a/b\n", "sys__fs__cgroup__a__b__pids_DOT_max": "max\n",
                 "sys__fs__cgroup__a__pids_DOT_max": "40\n"},
            "", "number of tasks of the control group", "40", "TasksMax=48", id="tasks of a group around",
        ),
        pytest.param(
            {}, {"proc__sys__net__core__somaxconn": "128\n"}, "", "net.core.somaxconn", "128",
            "sysctl -w net.core.somaxconn=256", id="backlog",
        ),
        pytest.param(
            {}, {"proc__meminfo": MEMINFO.format(20 * 1024)}, "", "memory that is left", "20 MiB",
            "MemoryMax= where that is set, or fewer pool.workers, or less spool.memory", id="memory",
        ),
        pytest.param(
            {}, {"proc__meminfo": MEMINFO.format(4000000), "proc__self__cgroup": "0::/a\n",
                 "sys__fs__cgroup__a__memory_DOT_max": str(200 << 20),
                 "sys__fs__cgroup__a__memory_DOT_current": str(150 << 20)},
            "", "memory that is left", "50 MiB",
            "MemoryMax= where that is set, or fewer pool.workers, or less spool.memory",
            id="memory of a group",
        ),
    ],
)  # fmt: skip
def test_what_is_too_low_is_found_with_its_remedy(
    tmp_path: Path,
    limits: Mapping[int, int],
    files: Mapping[str, str],
    more: str,
    limit: str,
    found: str,
    remedy: str,
) -> None:
    (shortage,) = shortages(settings(more), host(tmp_path, limits, **files))
    assert (shortage.limit, shortage.found, shortage.remedy) == (limit, found, remedy)
    assert str(shortage) == f"{limit} is {found}, and {shortage.needed} may be needed: {remedy}"


def test_just_enough_is_enough(tmp_path: Path) -> None:
    limits = {resource.RLIMIT_NOFILE: 33, resource.RLIMIT_NPROC: 48}
    enough = host(
        tmp_path, limits, proc__sys__net__core__somaxconn="256", proc__meminfo=MEMINFO.format(165 * 1024)
    )
    assert list(shortages(settings(), enough)) == []


def test_a_spool_without_room_for_every_workers_largest_message_is_found(tmp_path: Path) -> None:
    more = f'[spool]\ndirectory = "{tmp_path}"\n[limits]\nmessage_size = "1TiB"\n'
    (shortage,) = shortages(settings(more), host(tmp_path))
    assert shortage.limit == f"room in {tmp_path}"
    assert "20 messages of 1048576 MiB" in shortage.needed


def test_messages_that_stay_in_memory_need_no_spool(tmp_path: Path) -> None:
    more = f'[spool]\ndirectory = "{tmp_path}/none"\nmemory = "1MiB"\n[limits]\nmessage_size = "1MiB"\n'
    assert list(shortages(settings(more), host(tmp_path))) == []
