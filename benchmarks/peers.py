"""The peers: other programs that stand where bqfilterd stands.

A recipe for each, with nothing switched on that bqfilterd has not in the same load: no scanner unless the
load is about that scanner, as many messages at once as bqfilterd has workers. Where a program has no such
setting, or a manner of its own, a comment says so.
"""

from dataclasses import replace
from pathlib import Path

from benchmarks.recipes import Recipe

# Threads, one a connection, with no pool to set the size of: MaxConnections only says when to refuse, and is
# above anything that the loads ask for. Both listen with a backlog of five, which cannot be set.
_THREADS = """\
Listen: {host}:{port}
OutAddress: {host}:{upstream_port}
MaxConnections: 512
TempDirectory: {home}
"""

PROXSMTPD = Recipe(  # without a FilterCommand it stores the message and passes it on
    name="proxsmtpd",
    source="Debian: proxsmtp",
    argv=("proxsmtpd", "-d", "1", "-f", "{directory}/proxsmtpd.conf"),
    files={"proxsmtpd.conf": _THREADS},
    as_root="User: {user}\n",
)

CLAMSMTPD = Recipe(  # it cannot do without clamd
    name="clamsmtpd",
    source="Debian: clamsmtp",
    argv=("clamsmtpd", "-d", "1", "-f", "{directory}/clamsmtpd.conf"),
    files={"clamsmtpd.conf": _THREADS + "ClamAddress: {host}:{scanner_port}\n"},
    as_root="User: {user}\n",
)

SPAMPD = Recipe(  # a message of --maxsize KiB or more is passed on unseen, so 0 switches SpamAssassin off
    name="spampd, nothing scanned",
    source="Debian: spampd",
    argv=(
        "spampd", "--nodetach", "--logsock=inet", "--host={host}:{port}",
        "--relayhost={host}:{upstream_port}", "--children={children}", "--maxrequests=1000",
        "--user={user}", "--group={group}",
        "--pid={home}/spampd.pid", "--L", "--maxsize=0",
    ),
    syslog=True,
)  # fmt: skip

SPAMPD_SCANNING = replace(
    SPAMPD,
    name="spampd",
    argv=(*SPAMPD.argv[:-1], "--maxsize=10240", "--saconfig={scanner_directory}/site/local.cf"),
)

_AMAVISD_CONF = """\
use strict;
$daemon_user = '{user}'; $daemon_group = '{group}';
$MYHOME = '{home}'; $TEMPBASE = $MYHOME; $db_home = $MYHOME; $helpers_home = $MYHOME; $QUARANTINEDIR = undef;
$lock_file = "$MYHOME/amavisd.lock"; $pid_file = "$MYHOME/amavisd.pid";
$myhostname = 'mx.example.net'; $mydomain = 'example.net'; @local_domains_maps = (['.example.net']);
$enable_db = 0; $enable_zmq = 0; $enable_global_cache = 0;
$max_servers = {children}; $max_requests = 1000;
$do_syslog = 0; $log_level = 0;
@inet_acl = qw(127.0.0.1); $unix_socketname = undef;
$inet_socket_bind = '{host}'; $inet_socket_port = [{port}];
$forward_method = 'smtp:[{host}]:{upstream_port}'; $notify_method = $forward_method;
@bypass_spam_checks_maps = (1); @bypass_banned_checks_maps = (1); @bypass_header_checks_maps = (1);
$final_virus_destiny = D_REJECT; $final_spam_destiny = D_PASS;
$final_banned_destiny = D_PASS; $final_bad_header_destiny = D_PASS;
$enable_dkim_verification = 0; $enable_dkim_signing = 0; @av_scanners_backup = (); $X_HEADER_LINE = undef;
$virus_quarantine_to = $spam_quarantine_to = $banned_quarantine_to = $bad_header_quarantine_to = undef;
"""

_AMAVISD_IDLE = """\
@bypass_virus_checks_maps = (1); $bypass_decode_parts = 1; @av_scanners = ();
1;
"""

# The entry for clamd that Debian's package ships; it takes the message apart first, as it always does.
_AMAVISD_CLAMD = r"""
@av_scanners = (['ClamAV-clamd', \&ask_daemon, ["CONTSCAN {{}}\n", '{host}:{scanner_port}'],
  qr/\bOK$/m, qr/\bFOUND$/m, qr/^.*?: (?!Infected Archive)(.*) FOUND$/m]);
1;
"""

AMAVISD = Recipe(  # receives a message, and sends it as a client of its own
    name="amavisd-new, no checks",
    source="Debian: amavisd-new",
    argv=("amavisd", "-c", "{directory}/amavisd.conf", "foreground"),
    files={"amavisd.conf": _AMAVISD_CONF + _AMAVISD_IDLE},
)

AMAVISD_CLAMD = replace(
    AMAVISD, name="amavisd-new, clamd", files={"amavisd.conf": _AMAVISD_CONF + _AMAVISD_CLAMD}
)

AIOSMTPD = Recipe(  # one process, one event loop, any number of connections; see the program's own words
    name="aiosmtpd's Proxy",
    source="PyPI: aiosmtpd",
    argv=("{python}", "-m", "benchmarks.aiosmtpd_proxy", "{host}", "{port}", "{upstream_port}"),
    module="aiosmtpd",
)

SMTPPROX = Recipe(
    name="smtpprox",
    source="github.com/jnorell/smtpprox, then --smtpprox PATH",
    argv=("smtpprox", "--children={children}", "--minperchild=1000", "--maxperchild=2000",
          "{host}:{port}", "{host}:{upstream_port}"),
)  # fmt: skip

LOCKSTEP = Recipe(  # no filter at all, but what one in Python cannot be cheaper than
    name="bare proxy in Python",
    source="benchmarks/lockstep_proxy.py",
    argv=("{python}", "-m", "benchmarks.lockstep_proxy", "{host}", "{port}", "{upstream_port}", "{children}",
          "one"),
)  # fmt: skip

LOCKSTEP_KEPT = replace(
    LOCKSTEP, name=f"{LOCKSTEP.name}, kept connections", argv=(*LOCKSTEP.argv[:-1], "kept")
)

PASSING = (PROXSMTPD, SPAMPD, AMAVISD, AIOSMTPD, LOCKSTEP, LOCKSTEP_KEPT)
SCANNING = {"clamd": (CLAMSMTPD, AMAVISD_CLAMD), "spamd": (SPAMPD_SCANNING,)}


def smtpprox(path: Path | None) -> Recipe:
    """Of the copy at hand: no package has it, and it looks for its modules where it is started."""
    if path is None:
        return SMTPPROX
    argv = ("perl", "-I", str(path.resolve().parent), str(path.resolve()), *SMTPPROX.argv[1:])
    return replace(SMTPPROX, argv=argv)
