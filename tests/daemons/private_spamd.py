"""A private spamd: the rules that the package ships, those that need no network, and three of our own.

BQ_LOCAL gives 7.5 points for a phrase, and BQ_SLEEP waits as many seconds as X-BQ-Sleep says, so that a
message decides itself how long its check takes. Started by root it runs as nobody, else as whoever starts it.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bqfilter.net.address import Endpoint
from tests.daemons.process import Daemon, start
from tests.doubles.components import program
from tests.doubles.programs import short_directory
from tests.postfix.postfix_instance import free_ports, own_loopback_address

PATTERN = b"BQ-SPAM-PATTERN-7f3a"

PLUGINS = "Check HeaderEval BodyEval HTMLEval MIMEEval URIEval RelayEval WLBLEval"

LOCAL_CF = """\
use_bayes 0
use_auto_whitelist 0
dns_available no
skip_rbl_checks 1
required_score 5
report_safe 0
rewrite_header Subject [SPAM]
body  BQ_LOCAL /BQ-SPAM-PATTERN-7f3a/
score BQ_LOCAL 7.5
header BQ_SLEEP eval:bq_sleep()
"""

SLEEP_PM = r"""
package BQSleep;
use strict; use warnings; use Mail::SpamAssassin::Plugin;
our @ISA = qw(Mail::SpamAssassin::Plugin);
sub new {
    my ($class, $main) = @_;
    my $self = $class->SUPER::new($main);
    bless $self, $class;
    $self->register_eval_rule("bq_sleep");
    return $self;
}
sub bq_sleep {
    my ($self, $pms) = @_;
    select(undef, undef, undef, $1) if $pms->get('X-BQ-Sleep', '') =~ /^\s*([\d.]+)/;
    return 0;
}
1;
"""


@contextlib.contextmanager
def private_spamd(*options: str, local_cf: str = "") -> Iterator[Daemon]:
    """Started and, at the end, stopped; `options` are spamd's, `local_cf` are further lines of its rules."""
    path = program("spamd", "spamd")
    with short_directory("bqsp-") as directory:
        daemon = start_spamd(path, directory, options, local_cf)
        try:
            yield daemon
        finally:
            daemon.stop()


def start_spamd(path: str, directory: Path, options: tuple[str, ...], local_cf: str) -> Daemon:
    """In a directory that is empty."""
    address = own_loopback_address()
    inet = Endpoint("inet", address, free_ports(address, ["spamd"])["spamd"])
    unix = Endpoint("unix", path=f"{directory}/spamd.sock")
    write_site(directory / "site", local_cf)
    (directory / "home").mkdir()
    command = [
        path, "-L", "-x", f"--siteconfigpath={directory}/site", "-H", f"{directory}/home",
        "-i", f"{inet.host}:{inet.port}", f"--socketpath={unix.path}", "--socketmode=0666",
        "--min-children=1", "--max-children=3", "--min-spare=1", "--max-spare=2",
        "-s", "stderr", "-r", f"{directory}/spamd.pid", *as_nobody(directory / "home"), *options,
    ]  # fmt: skip
    return start(directory, command, unix, inet, b"PING SPAMC/1.5\r\n\r\n", b"PONG")


def write_site(site: Path, local_cf: str) -> None:
    site.mkdir()
    plugins = "".join(f"loadplugin Mail::SpamAssassin::Plugin::{name}\n" for name in PLUGINS.split())
    (site / "local.pre").write_text(f"{plugins}loadplugin BQSleep {site}/BQSleep.pm\n")
    (site / "local.cf").write_text(LOCAL_CF + local_cf)
    (site / "BQSleep.pm").write_text(SLEEP_PM)


def as_nobody(home: Path) -> list[str]:
    if os.geteuid() != 0:
        return []
    shutil.chown(home, "nobody")
    return ["-u", "nobody"]
