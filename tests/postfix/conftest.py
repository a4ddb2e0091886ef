"""One Postfix for the whole run, one bqfilterd for each test, and the two modes of the before-filter server.

Postfix and the right to start it as root are needed. All before-filter services and the after-queue transport
hand their mail to one port, "filter"; each test decides what listens there. The port "elsewhere" belongs to
nobody.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.components import missing, require
from tests.doubles.programs import Bqfilterd, Settings, short_directory, start_bqfilterd

from .postfix_instance import MaillogView, PostfixInstance, Service, free_ports, own_loopback_address


def strict_about_newlines(but_not_from: str) -> dict[str, str]:
    return {"smtpd_forbid_bare_newline": "normalize", "smtpd_forbid_bare_newline_exclusions": but_not_from}


def before_filter_services(filter_address: str) -> list[Service]:
    """They hand over to the filter. `strict` cleans up line endings as Postfix 3.9 does by default."""
    usual = {"smtpd_proxy_filter": filter_address, "smtpd_authorized_xclient_hosts": "127.0.0.0/8"}
    speed = {"smtpd_proxy_options": "speed_adjust"}
    impatient, hasty = {"smtpd_proxy_timeout": "3s"}, {"smtpd_proxy_timeout": "6s"}
    strict = strict_about_newlines(but_not_from="")
    return [
        Service("before", usual, processes="40"),
        Service("before-speed", usual | speed, processes="40"),
        Service("impatient", usual | impatient),
        Service("impatient-speed", usual | impatient | speed),
        Service("hasty", usual | hasty),
        Service("hasty-speed", usual | hasty | speed),
        Service("generous", usual | {"smtpd_recipient_limit": "2000", "smtpd_error_sleep_time": "0"}),
        Service("strict", usual | strict),
        Service("strict-speed", usual | strict | speed),
    ]


def after_filter_services() -> list[Service]:
    """They take mail back from the filter. `after-exempting` cleans up line endings, but not the filter's.

    `after-trusting` cleans up none, as Postfix did before 3.9; both take commands that come too early.
    `after-editing` is for a site without a filter, whose Postfix edits bodies by itself.
    """
    usual = {
        "smtpd_authorized_xforward_hosts": "127.0.0.0/8",
        "smtpd_recipient_restrictions": "check_recipient_access regexp:$config_directory/recipient_access",
    }
    announce_the_dot = "check_client_access regexp:$config_directory/announce"
    early = {"smtpd_forbid_unauth_pipelining": "no"}
    trusting = early | {"smtpd_forbid_bare_newline": "no"}
    exempting = early | strict_about_newlines(but_not_from="127.0.0.0/8")
    return [
        Service("after", usual),
        Service("after-small", usual | {"message_size_limit": "100000"}),
        Service("after-slow", usual | {"smtpd_data_restrictions": "sleep 5"}),
        Service("after-pensive", usual | {"smtpd_end_of_data_restrictions": announce_the_dot + ", sleep 60"}),
        Service("after-thoughtful", usual | {"smtpd_end_of_data_restrictions": "sleep 8"}),
        Service("after-hasty", usual | {"smtpd_timeout": "1s"}),
        Service("after-verbose", usual, program="smtpd -v"),
        Service("after-trusting", usual | trusting),
        Service("after-exempting", usual | exempting),
        Service("after-editing", {"cleanup_service_name": "cleanup-editing"}),
    ]


def after_queue_services(filter_address: str) -> list[Service]:
    """A queue that sends everything through the filter by smtp(8), over connections that it keeps."""
    host, _, port = filter_address.rpartition(":")
    next_hop = f"[{host}]:{port}"
    scan = {
        "smtp_send_xforward_command": "yes",
        "smtp_connection_cache_destinations": next_hop,
        "disable_mime_output_conversion": "yes",
    }
    return [
        Service("queue", {"content_filter": f"scan:{next_hop}"}, processes="40"),
        Service("scan", scan, processes="8", program="smtp"),
    ]


LISTENERS = (
    *("filter", "elsewhere", "queue"),
    *(service.name for service in before_filter_services("")),
    *(service.name for service in after_filter_services()),
)


def why_not() -> str | None:
    nobody = None if os.geteuid() == 0 else "only root can start a Postfix"
    return missing("postfix", "postfix") or nobody


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.postfix)


@pytest.fixture(scope="session")
def postfix() -> Iterator[PostfixInstance]:
    require(why_not())
    address = own_loopback_address()
    ports = free_ports(address, LISTENERS)
    filter_address = f"{address}:{ports['filter']}"
    services = [
        *before_filter_services(filter_address),
        *after_filter_services(),
        *after_queue_services(filter_address),
    ]
    with short_directory("bqpf-") as directory:
        instance = PostfixInstance(directory, address, ports, services)
        try:
            instance.start()
            yield instance
        finally:
            instance.stop()


@pytest.fixture
def maillog(postfix: PostfixInstance) -> MaillogView:
    """What Postfix logs from the start of this test on."""
    return postfix.maillog_from_now()


@pytest.fixture(params=["", "-speed"], ids=["without speed_adjust", "with speed_adjust"])
def mode(request: pytest.FixtureRequest) -> str:
    """What the names of before-filter services end in, for the two ways they have to talk to the filter."""
    suffix: str = request.param
    return suffix


@pytest.fixture
def before(mode: str) -> str:
    return f"before{mode}"


class Filters:
    """Starts bqfilterd on the port where the before-filter services look for it."""

    def __init__(self, directory: Path, postfix: PostfixInstance) -> None:
        self.directory = directory
        self._postfix = postfix
        self._started: list[Bqfilterd] = []

    def settings(self, after: str = "after", **tables: Any) -> Settings:
        """The usual settings with `after` behind it; the keys of a keyword's table go over the usual ones.

        A keyword that is a list is an array of tables.
        """
        usual: dict[str, dict[str, Any]] = {
            "pool": {"workers": 4},
            "upstream": {"endpoint": self._endpoint(after)},
            "runtime": {"user": "nobody", "directory": str(self.directory / "run"), "drain_timeout": "10s"},
            "quarantine": {"directory": str(self.directory / "quarantine")},
        }
        arrays = {name: table for name, table in tables.items() if isinstance(table, list)}
        single = {name: table for name, table in tables.items() if name not in arrays}
        merged = {name: usual.get(name, {}) | single.get(name, {}) for name in {**usual, **single}}
        return {"listen": [{"endpoint": self._endpoint("filter"), "backlog": 256}], **merged, **arrays}

    def start(self, after: str = "after", **tables: Any) -> Bqfilterd:
        return self.start_with(self.settings(after, **tables))

    def start_with(self, settings: Settings) -> Bqfilterd:
        program = start_bqfilterd(self.directory, settings)
        self._started.append(program)
        return program

    def stop(self) -> None:
        """Whatever a test did to it, a bqfilterd that still runs ends well on SIGTERM."""
        running = [program for program in self._started if program.process.poll() is None]
        assert [program.stop() for program in running] == [0] * len(running)

    def _endpoint(self, name: str) -> str:
        return "inet:{}:{}".format(*self._postfix.at(name))


@contextlib.contextmanager
def ended_well(postfix: PostfixInstance) -> Iterator[Filters]:
    with short_directory("bqfd-") as directory:
        started = Filters(directory, postfix)
        try:
            yield started
        finally:
            started.stop()


@pytest.fixture
def filters(postfix: PostfixInstance) -> Iterator[Filters]:
    with ended_well(postfix) as filters:
        yield filters


@pytest.fixture(scope="module")
def lasting_filters(postfix: PostfixInstance) -> Iterator[Filters]:
    """For a module whose tests all have the same one; it cannot be mixed with `filters`, the port is one."""
    with ended_well(postfix) as filters:
        yield filters
