"""What the master does before it forks, and each sentence with which it refuses to."""

import grp
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bqfilter.config.loader import parse
from bqfilter.config.schema import Settings
from bqfilter.errors import ConfigError
from bqfilter.net.address import SocketAddress
from bqfilter.net.listeners import Listener
from bqfilter.pool.startup import (
    Identity,
    bound_address,
    find_identity,
    make_runtime_directory,
    open_listeners,
    refuse_loop,
    upstream_addresses,
)
from tests.doubles.programs import toml
from tests.pool.daemon import needs_root

ELSEWHERE = "inet:127.0.0.1:1"


def settings_of(*listen: dict[str, object], upstream: object = ELSEWHERE) -> Settings:
    endpoints = upstream if isinstance(upstream, list) else [upstream]
    return parse(toml({"listen": list(listen), "upstream": {"endpoints": endpoints}}), "test.toml")


@pytest.fixture
def opened() -> Iterator[list[Listener]]:
    """Put listeners here to have them closed."""
    listeners: list[Listener] = []
    yield listeners
    for listener in listeners:
        listener.socket.close()


def bound(host: str = "127.0.0.1", family: int = socket.AF_INET) -> socket.socket:
    sock = socket.socket(family)
    sock.bind((host, 0))
    return sock


class TestIdentity:
    def test_without_root_there_is_nothing_to_drop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert find_identity("no-such-user") is None

    def test_root_becomes_the_configured_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        identity = find_identity("nobody")
        assert identity is not None
        assert identity.name == "nobody"
        assert identity.uid != 0
        assert identity.gid != 0
        assert identity.groups == (identity.gid,)

    def test_an_unknown_user_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        with pytest.raises(ConfigError, match=r'runtime\.user: there is no user "no-such-user"'):
            find_identity("no-such-user")

    def test_workers_do_not_run_as_root(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        with pytest.raises(ConfigError, match=r'runtime\.user: "root" is root'):
            find_identity("root")


class TestRuntimeDirectory:
    def test_it_is_made_with_its_parents(self, tmp_path: Path) -> None:
        make_runtime_directory(str(tmp_path / "a" / "b"), None)
        assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) & 0o022 == 0

    def test_one_that_is_there_is_taken(self, tmp_path: Path) -> None:
        make_runtime_directory(str(tmp_path), None)

    @needs_root
    def test_it_belongs_to_the_user(self, tmp_path: Path) -> None:
        make_runtime_directory(str(tmp_path / "run"), Identity("nobody", 65534, 65534, (65534,)))
        assert (tmp_path / "run").stat().st_uid == 65534

    def test_where_it_cannot_be_made_the_system_says_why(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OSError, match="Not a directory"):
            make_runtime_directory(str(tmp_path / "file" / "run"), None)


class TestUpstreamAddresses:
    def test_they_keep_the_order_of_preference_and_come_once(self) -> None:
        settings = settings_of(
            {"endpoint": "inet:127.0.0.1:0"},
            upstream=["inet:127.0.0.1:2", "unix:/nowhere", "inet:localhost:2"],
        )
        found = [str(address) for address in upstream_addresses(settings)]
        assert found[:2] == ["inet:127.0.0.1:2", "unix:/nowhere"]
        assert len(found) == len(set(found))

    def test_a_name_that_cannot_be_resolved_is_named_with_its_key(self) -> None:
        settings = settings_of({"endpoint": "inet:127.0.0.1:0"}, upstream="inet:host.invalid:25")
        with pytest.raises(ConfigError, match=r"^upstream\.endpoint: inet:host\.invalid:25: "):
            upstream_addresses(settings)


class TestListeners:
    def test_each_address_gets_a_socket_that_listens(self, opened: list[Listener]) -> None:
        opened += open_listeners(settings_of({"endpoint": "inet:127.0.0.1:0"}), [])
        with closing(socket.create_connection(opened[0].socket.getsockname(), 10)):
            assert opened[0].socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)

    def test_a_port_that_is_taken_is_refused(self) -> None:
        with closing(bound()) as other:
            other.listen()
            endpoint = f"inet:127.0.0.1:{other.getsockname()[1]}"
            with pytest.raises(ConfigError, match=f"cannot listen on {endpoint}: Address already in use"):
                open_listeners(settings_of({"endpoint": endpoint}), [])

    def test_an_inherited_socket_is_used_where_its_address_is_configured(
        self, opened: list[Listener]
    ) -> None:
        inherited = bound()
        endpoint = f"inet:127.0.0.1:{inherited.getsockname()[1]}"
        opened += open_listeners(settings_of({"endpoint": endpoint}), [inherited])
        assert [listener.socket for listener in opened] == [inherited]
        assert not inherited.getblocking()
        assert not inherited.get_inheritable()
        assert inherited.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    def test_what_is_not_inherited_is_bound_here(self, opened: list[Listener]) -> None:
        inherited = bound()
        endpoint = f"inet:127.0.0.1:{inherited.getsockname()[1]}"
        settings = settings_of({"endpoint": endpoint}, {"endpoint": "inet:127.0.0.1:0"})
        opened += open_listeners(settings, [inherited])
        assert opened[0].socket is inherited
        assert opened[1].socket.getsockname() != inherited.getsockname()

    def test_an_inherited_socket_that_no_table_knows_is_an_error(self) -> None:
        with closing(bound()) as known, closing(bound()) as stranger:
            settings = settings_of({"endpoint": f"inet:127.0.0.1:{known.getsockname()[1]}"})
            port = stranger.getsockname()[1]
            with pytest.raises(ConfigError, match=f"no .*listen.* inherited socket inet:127.0.0.1:{port}"):
                open_listeners(settings, [known, stranger])

    def test_a_unix_socket_has_its_mode_and_group(self, tmp_path: Path, opened: list[Listener]) -> None:
        group = grp.getgrgid(os.getgid()).gr_name
        path = tmp_path / "s"
        opened += open_listeners(
            settings_of({"endpoint": f"unix:{path}", "mode": "0620", "group": group}), []
        )
        assert stat.S_IMODE(path.stat().st_mode) == 0o620
        assert path.stat().st_gid == os.getgid()

    def test_a_group_that_is_not_there_is_refused_and_leaves_no_socket(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with pytest.raises(ConfigError, match=f"cannot listen on unix:{path}: .*no-such-group"):
            open_listeners(settings_of({"endpoint": f"unix:{path}", "group": "no-such-group"}), [])
        assert not path.exists()

    def test_a_unix_socket_left_by_a_dead_program_is_replaced(
        self, tmp_path: Path, opened: list[Listener]
    ) -> None:
        path = tmp_path / "s"
        with closing(socket.socket(socket.AF_UNIX)) as dead:
            dead.bind(str(path))
        opened += open_listeners(settings_of({"endpoint": f"unix:{path}"}), [])
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(str(path))

    def test_a_unix_socket_on_which_somebody_listens_is_left_to_him(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        with closing(socket.socket(socket.AF_UNIX)) as other:
            other.bind(str(path))
            other.listen()
            with pytest.raises(ConfigError, match="another program listens there"):
                open_listeners(settings_of({"endpoint": f"unix:{path}"}), [])
        assert path.exists()

    def test_a_file_that_is_no_socket_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "s"
        path.write_text("precious")
        with pytest.raises(ConfigError, match="is not a socket"):
            open_listeners(settings_of({"endpoint": f"unix:{path}"}), [])
        assert path.read_text() == "precious"


def inet(host: str, port: int) -> SocketAddress:
    if ":" in host:
        return SocketAddress(socket.AF_INET6, (host, port, 0, 0))
    return SocketAddress(socket.AF_INET, (host, port))


def unix(path: str) -> SocketAddress:
    return SocketAddress(socket.AF_UNIX, path)


class TestLoops:
    @pytest.mark.parametrize(
        ("own", "upstream"),
        [
            pytest.param(inet("127.0.0.1", 10025), inet("127.0.0.1", 10025), id="the same address"),
            pytest.param(inet("::1", 10025), inet("::1", 10025), id="the same IPv6 address"),
            pytest.param(inet("0.0.0.0", 10025), inet("127.0.0.1", 10025), id="wildcard"),
            pytest.param(inet("0.0.0.0", 10025), inet("127.0.0.9", 10025), id="wildcard, any local address"),
            pytest.param(inet("::", 10025), inet("::1", 10025), id="IPv6 wildcard"),
            pytest.param(
                inet("127.0.0.1", 10025), inet("0.0.0.0", 10025), id="0.0.0.0 leads to this machine"
            ),
            pytest.param(inet("::1", 10025), inet("::", 10025), id=":: leads to this machine"),
            pytest.param(unix("/run/s"), unix("/run/s"), id="the same unix socket"),
        ],
    )
    def test_our_own_listener_is_refused_as_upstream(
        self, own: SocketAddress, upstream: SocketAddress
    ) -> None:
        with pytest.raises(ConfigError, match="our own"):
            refuse_loop([own], [inet("127.0.0.1", 10026), upstream])

    @pytest.mark.parametrize(
        ("own", "upstream"),
        [
            pytest.param(inet("127.0.0.1", 10025), inet("127.0.0.1", 10026), id="another port"),
            pytest.param(inet("127.0.0.1", 10025), inet("127.0.0.2", 10025), id="another address"),
            pytest.param(inet("0.0.0.0", 10025), inet("192.0.2.1", 10025), id="wildcard, another machine"),
            pytest.param(unix("/run/s"), unix("/run/t"), id="another unix socket"),
            pytest.param(unix("/run/s"), inet("127.0.0.1", 10025), id="unix and inet"),
        ],
    )
    def test_any_other_server_is_fine(self, own: SocketAddress, upstream: SocketAddress) -> None:
        refuse_loop([own], [upstream])

    def test_where_a_listener_really_listens_is_known_after_binding(self, opened: list[Listener]) -> None:
        opened += open_listeners(settings_of({"endpoint": "inet:127.0.0.1:0"}), [])
        assert bound_address(opened[0]) == inet("127.0.0.1", opened[0].socket.getsockname()[1])
