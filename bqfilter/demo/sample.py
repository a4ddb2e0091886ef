"""The sample configuration of the demo: bqfilterd.toml and the tables of rules that it names.

All of it lies in the demo's directory, the quarantine too. Where the demo runs as root, bqfilterd's workers
become "nobody", since they never run as root. That account has to pass through the directory and all above
it, and `write` says so where it cannot.
"""

import os
import stat
import tempfile
from pathlib import Path

from bqfilter.config.kinds import quote
from bqfilter.errors import ConfigError
from bqfilter.net.address import SocketAddress

_CONFIGURATION = """\
# What the demo runs with. A real installation needs [[listen]] and [upstream]; docs/postfix.md says which
# values of master.cf and main.cf go with them. The rest is what a site might want done.

[[listen]]
endpoint = "inet:127.0.0.1:0"  # any free port; 10025 is usual

[upstream]
endpoint = "{upstream}"

[pool]
workers = 2

[[rules]]
header_checks = [{header_checks}]
body_checks = [{body_checks}]
recipient_checks = [{recipient_checks}]

[[attachments]]  # names of programs are refused, inside zip archives too

[[policy]]
name = "abuse-desk"  # gets what people complain about, whatever scanners would say
recipients = ["abuse@demo.example"]
scanners = []

[[policy]]
name = "contracts"
recipients = ["contracts@demo.example"]
copy_to = ["archive@demo.example"]

[quarantine]
directory = {quarantine}

[metrics]
listen = "inet:127.0.0.1:0"  # any free port; 9925 is usual

[runtime]
directory = {runtime}
drain_timeout = "5s"
hostname = "filter.demo.example"
{user}
[spool]
directory = {spool}
"""

# The syntax is that of header_checks(5).
_TABLES = {
    "header_checks": """\
# The message is kept instead of being delivered; the client is told that all is well.
/^Subject:.*you have won/       QUARANTINE Nobody has won anything

# The message passes with a field more, in front of the one that was found.
/^Subject:.*newsletter/         PREPEND X-Demo-Class: bulk
""",
    "body_checks": """\
# A part of the text with which virus scanners are tried out; it is found in base64, too.
/EICAR-STANDARD-ANTIVIRUS-TEST-FILE/    REJECT 5.7.1 This is the EICAR test file
""",
    "recipient_checks": """\
# Who has left has a successor.
/^former@demo\\.example$/        REDIRECT successor@demo.example
""",
}


def write(directory: Path, upstream: SocketAddress) -> Path:
    """Write configuration and tables; returns the path of the configuration. Raises ConfigError."""
    is_root = os.geteuid() == 0
    if is_root:
        _open_to_others(directory)
    tables = {
        name: quote(str(_written(directory / f"{name}.regexp", text))) for name, text in _TABLES.items()
    }
    text = _CONFIGURATION.format(
        upstream=upstream,
        quarantine=quote(str(directory / "quarantine")),
        runtime=quote(str(directory / "run")),
        spool=quote(tempfile.gettempdir()),
        user='user = "nobody"\n' if is_root else "",
        **tables,
    )
    return _written(directory / "bqfilterd.toml", text)


def policy(configuration: Path) -> str:
    """What a configuration written here says about content: its tables for that, and the rules."""
    text = configuration.read_text(encoding="utf-8")
    settings = text[text.index("[[rules]]") : text.index("[quarantine]")].rstrip()
    rules = [_rules(configuration.with_name(f"{name}.regexp")) for name in _TABLES]
    return "\n\n".join([settings, *rules])


def _rules(table: Path) -> str:
    """A table without its comments, under its name."""
    lines = [line for line in table.read_text(encoding="utf-8").splitlines() if line.startswith("/")]
    return "\n".join([f"{table.name}:", *lines])


def _written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _open_to_others(directory: Path) -> None:
    """Let other accounts pass through the directory, without a look around. Raises ConfigError."""
    directory.chmod(0o711)
    for above in directory.resolve().parents:
        if not above.stat().st_mode & stat.S_IXOTH:
            raise ConfigError(
                f"workers become nobody where the demo runs as root, and nobody cannot pass through {above}: "
                "choose another --directory"
            )
