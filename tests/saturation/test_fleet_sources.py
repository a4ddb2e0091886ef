"""Hosts from what they gave: pages, JSON, a Prometheus; and what is neither is said to be."""

import json
import re
import time
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import CollectorRegistry

from bqfilter.saturation.collector import BoardCollector
from bqfilter.saturation.fleet_sources import SERIES, host_from_text, hosts_from_prometheus
from bqfilter.saturation.prometheus import Prometheus
from bqfilter.saturation.reader import Board
from bqfilter.saturation.report import as_value
from bqfilter.saturation.sizing import Measured
from bqfilter.scoreboard import Header, MasterWord, Scoreboard
from tests.contrib.shipped import exported
from tests.saturation.boards import TCP

# As a page of bqfilterd has it, cut down to what matters here.
PAGE = """\
# TYPE bqfilterd_workers_limit gauge
bqfilterd_workers_limit 20
bqfilterd_start_time_seconds 1000
bqfilterd_master_heartbeat_timestamp_seconds 2000
bqfilterd_connections_accepted_total{listener="inet:192.0.2.1:10025"} 3000
bqfilterd_connections_accepted_total{listener="unix:/run/bqfilter/smtp"} 2000
bqfilterd_connections_probes_total{listener="inet:192.0.2.1:10025"} 1000
bqfilterd_connections_queued_total{listener="inet:192.0.2.1:10025"} 50
bqfilterd_session_duration_seconds_sum 8000
bqfilterd_session_duration_seconds_count 4000
bqfilterd_session_duration_squares_total 80000
bqfilterd_session_phase_seconds_sum{phase="data"} 400
bqfilterd_session_phase_seconds_sum{phase="filter"} 6000
bqfilterd_listen_queue_wait_seconds_sum{listener="inet:192.0.2.1:10025"} 30
bqfilterd_listen_queue_wait_seconds_count{listener="inet:192.0.2.1:10025"} 3000
bqfilterd_session_budget_seconds 100
bqfilterd_session_deadline_seconds 30
bqfilterd_worker_memory_bytes{stat="mean"} 40000000
bqfilterd_worker_memory_bytes{stat="max"} 45000000
bqfilterd_postfix_process_limit{service="smtp/inet",role="before"} 60
bqfilterd_postfix_process_limit{service="submission/inet",role="before"} 40
bqfilterd_postfix_process_limit{service="127.0.0.1:10026/inet",role="after"} 70
bqfilterd_postfix_speed_adjust{service="smtp/inet"} 1
bqfilterd_postfix_speed_adjust{service="submission/inet"} 0
"""


def board(directory: str, sessions: int) -> Scoreboard:
    made = Scoreboard.in_file(directory, 4, [TCP])
    made.header[MasterWord.WORKERS] = 4
    made.header.set_seconds(MasterWord.SESSION_LIMIT, 30.0)
    made.header.set_seconds(MasterWord.PROXY_TIMEOUT, 100.0)
    made.header.set_seconds(Header.CREATED, time.monotonic() - 1000.0)
    made.header.set_seconds(Header.CREATED_WALL, time.time() - 1000.0)
    made.header.set_seconds(MasterWord.HEARTBEAT, time.monotonic())
    made.slots[0].was_given(1)
    for _ in range(sessions):
        made.tallies(0)[0].accept(0.0, is_queued=False)
        made.tallies(0)[0].end(2.0, 0.02, [0.0] * 8)
    return made


class TestAPage:
    def test_has_all_that_a_host_is(self) -> None:
        found = host_from_text("mx1", PAGE)
        assert (found.name, found.workers, found.session, found.proxy_timeout) == ("mx1", 20, 30.0, 100.0)
        assert (found.before_maxproc, found.after_maxproc, found.speed_adjust) == (100, 70, False)
        measured = found.measured
        assert measured == Measured(
            rate=4.0,  # without the health checks
            service_time=2.0,
            service_cv2=4.0,
            p_wait=pytest.approx(0.01),
            mean_wait=pytest.approx(0.01),
            upload_time=pytest.approx(0.1),
            worker_memory=45_000_000,
            sessions=4000,
            window=1000.0,
        )

    def test_without_a_session_limit_has_none(self) -> None:
        assert host_from_text("mx", PAGE.replace("session_deadline", "something_else")).session == 0.0

    def test_of_a_pool_that_had_few_sessions_tells_its_workers_alone(self) -> None:
        found = host_from_text("mx", PAGE.replace("_seconds_count 4000", "_seconds_count 99"))
        assert found.workers == 20
        assert found.measured == Measured(sessions=99, window=1000.0)

    def test_that_does_not_say_since_when_it_counts_tells_no_rates(self) -> None:
        assert host_from_text("mx", PAGE.replace("start_time", "other_time")).measured == Measured()

    @pytest.mark.parametrize("generate", [generate_latest, generate_openmetrics])
    def test_of_a_real_pool_says_what_its_json_says(self, generate: Any, tmp_path: Any) -> None:
        board(str(tmp_path), 200)
        opened = Board.open(str(tmp_path))
        registry = CollectorRegistry()
        registry.register(BoardCollector(opened))
        text = generate(registry).decode()
        value = json.dumps(as_value(opened.snapshot(), []))
        from_page, from_json = host_from_text("mx", text), host_from_text("mx", value)
        assert (from_page.workers, from_page.session, from_page.proxy_timeout) == (4, 30.0, 100.0)
        assert (from_json.workers, from_json.session, from_json.proxy_timeout) == (4, 30.0, 100.0)
        assert from_page.measured.service_time == from_json.measured.service_time == 2.0
        assert from_page.measured.sessions == from_json.measured.sessions == 200


class TestJson:
    def test_of_tune_has_what_was_measured(self) -> None:
        value = {
            "figures": {
                "workers": {"value": 20, "source": "configuration"},
                "session": {"value": 30.0, "source": "configuration"},
                "proxy_timeout": {"value": 100.0, "source": "default"},
                "speed_adjust": {"value": True, "source": "master.cf"},
                "before_maxproc": {"value": 60, "source": "master.cf"},
                "after_maxproc": {"value": 100, "source": "default"},
                "rate": {"value": 5.2, "source": "measured"},
            },
            "measured": {"rate": 4.0, "service_time": 2.0, "sessions": 4000},
        }
        found = host_from_text("mx", json.dumps(value))
        assert (found.workers, found.session, found.speed_adjust) == (20, 30.0, True)
        assert found.measured.rate == 4.0  # without the room for more that tune puts on it
        assert (found.before_maxproc, found.after_maxproc) == (60, None)  # a default is not known
        value["measured"] = None
        assert host_from_text("mx", json.dumps(value)).measured.rate == 5.2

    def test_of_status_with_few_sessions_tells_its_workers_alone(self) -> None:
        value = {"pool": {"workers": 4}, "measured": {"rate": 0.1, "service_time": 9.0, "sessions": 3}}
        found = host_from_text("mx", json.dumps(value))
        assert (found.workers, found.session, found.measured) == (4, None, Measured(sessions=3))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "hello world",
        '{"pool": {}}',
        '{"pool": {"workers": 0}}',
        '{"pool": {"workers": true}}',
        '{"pool": {"workers": 1e9}}',
        '{"pool": {"workers": 4, "session_limit": -1}}',
        '{"pool": {"workers": 4, "session_limit": "30s"}}',
        '{"pool": {"workers": 4}, "measured": {"rate": "fast"}}',
        '{"pool": {"workers": 4}, "measured": 3}',
        '{"pool": {"workers": 4}, "measured": {"rate": 1, "service_time": 0}}',
        '{"pool": {"workers": 4}, "measured": {"rate": 1, "service_time": 1e300}}',
        '{"pool": {"workers": 4, "proxy_timeout": 1e300}}',
        '{"pool": {"workers": 4, "session_limit": 1e27}}',
        '{"figures": {"workers": 3}}',
        '{"figures": [], "measured": {}}',
        '{"a":' * 100_000,
        PAGE.replace("limit 20", "limit NaN"),
        PAGE.replace("limit 20", "limit -3"),
        PAGE.replace("limit 20", "limit"),
        PAGE.replace('role="before"} 60', 'role="before"} 1e300'),
        "node_load1 0.5\n",
    ],
)
def test_what_is_something_else_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        host_from_text("mx", text)


def test_a_name_is_printed_without_control_characters() -> None:
    assert host_from_text("m\x1b[2Jx", PAGE).name == "m?[2Jx"


def test_every_series_that_is_asked_for_is_there() -> None:
    assert set(SERIES) <= exported()


class _Recorded(Prometheus):
    """One that knows two hosts, of which the second is half of the first, and keeps the queries."""

    def __init__(self, values: Mapping[str, float]) -> None:
        super().__init__("http://prometheus.example:9090")
        self.queries: list[str] = []
        self._values = values

    def query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        self.queries.append(expression)
        if expression.startswith("max_over_time"):
            return [({}, 21.0)]
        (name,) = re.findall(r"bqfilterd_(\w+)\{", expression)
        value = self._values.get(name)
        return [] if value is None else [({"instance": "b:9925"}, value / 2), ({"instance": "a:9925"}, value)]


class TestAPrometheus:
    VALUES: Mapping[str, float] = {
        "workers_limit": 20, "session_deadline_seconds": 30, "connections_accepted_total": 5,
        "connections_probes_total": 1, "session_duration_seconds_sum": 8, "session_duration_seconds_count": 4,
    }  # fmt: skip

    def test_tells_each_instance_and_the_highest_rate_of_all(self) -> None:
        server = _Recorded(self.VALUES)
        hosts, peak = hosts_from_prometheus(server, 3600.0, 'job="mx"')
        assert [(host.name, host.workers, host.measured.rate) for host in hosts] == [
            ("a:9925", 20, 4.0),
            ("b:9925", 10, 2.0),
        ]
        assert hosts[0].measured.service_time == 2.0
        assert hosts[0].measured.sessions == 4 * 3600
        assert peak == 21.0
        assert (
            'sum by (instance) (rate(bqfilterd_connections_accepted_total{job="mx"}[3600s]))'
            in server.queries
        )
        assert 'max by (instance) (bqfilterd_worker_memory_bytes{stat="max",job="mx"})' in server.queries

    def test_that_watches_none_of_us_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="it knows no bqfilterd"):
            hosts_from_prometheus(_Recorded({}), 3600.0, "")
