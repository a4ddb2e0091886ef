"""The scanning daemons: private ones, which look at a message without asking the network.

clamd has a database of one signature, so its time is that of taking a message apart and not of matching eight
million signatures; spamd has the rules that Debian ships, without those that need a network; Rspamd likewise.
All have as many processes or threads as filters have workers; Rspamd has one a processor, as it wants it.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import clients, samples
from benchmarks.errors import BenchmarkError
from benchmarks.programs import Program, free_port, running
from benchmarks.recipes import Recipe, literal, prepare

# The test file of the antivirus industry, in two halves, or this file would be taken for it.
_EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"

_CLAMD_CONF = """\
Foreground yes
DatabaseDirectory {directory}/db
TCPAddr {host}
TCPSocket {port}
TemporaryDirectory {home}
StreamMaxLength 100M
MaxThreads {children}
MaxQueue 400
SelfCheck 0
"""

_CLAMD = Recipe(
    name="clamd",
    source="Debian: clamav-daemon",
    argv=("clamd", "-c", "{directory}/clamd.conf"),
    files={
        "clamd.conf": _CLAMD_CONF,
        "db/local.ndb": f"Local.Eicar:0:*:{_EICAR.hex()}\n",
    },
    as_root="User {user}\n",
)

_EVALS = ("HeaderEval", "BodyEval", "HTMLEval", "MIMEEval", "URIEval", "RelayEval", "WLBLEval")
_SPAMD_PLUGINS = "".join(f"loadplugin Mail::SpamAssassin::Plugin::{name}\n" for name in ("Check", *_EVALS))
_SPAMD_RULES = """\
use_bayes 0
use_auto_whitelist 0
dns_available no
skip_rbl_checks 1
report_safe 0
"""

_SPAMD = Recipe(
    name="spamd",
    source="Debian: spamd",
    argv=(
        "spamd", "-L", "-x", "--siteconfigpath={directory}/site", "-H", "{home}", "-u", "{user}",
        "-i", "{host}:{port}", "-s", "stderr", "-r", "{directory}/spamd.pid", "--min-children={children}",
        "--max-children={children}", "--max-spare={children}", "--max-conn-per-child=1000",
    ),
    files={"site/local.pre": _SPAMD_PLUGINS, "site/local.cf": _SPAMD_RULES},
)  # fmt: skip

_RSPAMD_OPTIONS = """\
url_tld = "{directory}/tld.dat";
control_socket = "{home}/control.sock mode=0600";
pidfile = "{home}/rspamd.pid";
dns {{ nameserver = ["{host}:9"]; timeout = 0.1s; retransmits = 1; }}
"""
_OFF = "enabled = false;\n"
_ASKING_DNS = ("rbl", "spf", "dkim", "dmarc", "arc", "asn", "hfilter", "phishing", "fuzzy_check", "surbl")

_RSPAMD = Recipe(
    name="rspamd",
    source="Debian: rspamd",
    argv=(
        "rspamd", "-f", "-c", "/etc/rspamd/rspamd.conf", "-u", "{user}", "-g", "{group}",
        *(f"--var={name}={{home}}" for name in ("DBDIR", "RUNDIR", "LOGDIR")),
        "--var=LOCAL_CONFDIR={directory}",
    ),
    files={
        "override.d/options.inc": _RSPAMD_OPTIONS,
        "override.d/logging.inc": 'type = "console"; level = "warning";\n',
        "override.d/worker-normal.inc": 'bind_socket = ["{host}:{port}"]; count = {processors};\n',
        "override.d/worker-controller.inc": _OFF,
        "override.d/worker-proxy.inc": _OFF,
        **{f"override.d/{module}.conf": _OFF for module in _ASKING_DNS},
        "tld.dat": "com\nnet\norg\nexample\n",
    },
    user="_rspamd",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """A scanner as it is measured: its daemon, a client for it, and how bqfilterd is told of it."""

    name: str
    table: str  # of bqfilterd's configuration
    daemon: Recipe | None = None  # none for rules, which bqfilterd has in itself
    ask: clients.Ask = clients.ask_nobody
    files: Mapping[str, str] = field(default_factory=dict)  # that the table names


@dataclass(frozen=True, slots=True)
class Scanner:
    port: int
    directory: Path
    program: Program


_ENDPOINT = '[[{0}]]\nendpoint = "inet:{{host}}:{{scanner_port}}"\n'

KINDS = (
    Kind(
        "rules",
        "[[rules]]\n"
        'header_checks = ["{directory}/header_checks"]\n'
        'body_checks = ["{directory}/body_checks"]\n',
        files={
            "header_checks": literal(samples.HEADER_CHECKS),
            "body_checks": literal(samples.BODY_CHECKS),
        },
    ),
    Kind("clamd", _ENDPOINT.format("clamd"), _CLAMD, clients.ask_clamd),
    Kind("spamd", _ENDPOINT.format("spamd"), _SPAMD, clients.ask_spamd),
    Kind("rspamd", _ENDPOINT.format("rspamd"), _RSPAMD, clients.ask_rspamd),
)


@contextmanager
def started(kind: Kind, directory: Path, children: int) -> Iterator[Scanner | None]:
    """The daemon of a kind, that has answered; none where the kind has none."""
    if kind.daemon is None:
        yield None
        return
    port, own = free_port(), directory / f"scanner-{kind.name}"
    values = {"port": port, "children": children, "processors": os.cpu_count()}
    argv = prepare(kind.daemon, own, values)
    with running(f"scanner-{kind.name}", argv, directory) as program:
        program.wait_until(lambda: _answers(kind, port))
        yield Scanner(port, own, program)


def _answers(kind: Kind, port: int) -> bool:
    try:
        kind.ask(port, samples.as_sent(samples.letter(1024)))
    except (OSError, BenchmarkError):
        return False
    return True
