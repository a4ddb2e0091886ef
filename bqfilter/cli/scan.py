"""`bqfilterd scan`: the present policy on messages in files.

Messages are hostile, and whoever looks at them is better nobody: all files are opened first, and started by
root it goes on as `runtime.user`, as a worker does.
"""

import contextlib
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from bqfilter.cli.options import TerminalSink, config_option, configuration_errors
from bqfilter.config import load
from bqfilter.log import Log
from bqfilter.net.address import Endpoint

if TYPE_CHECKING:
    from bqfilter.scanning.report import Report
    from bqfilter.trial import Opinion, Signature, Trial

_NO_FINDING = 0
_FOUND_SOMETHING = 1
_OUTCOMES = {True: "verifies", False: "FAILS", None: "unknown"}


@click.command()
@config_option
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--sender", default="", metavar="ADDRESS", help="The envelope sender; none is the null sender.")
@click.option(
    "--recipient",
    "recipients",
    multiple=True,
    default=("postmaster@localhost",),
    metavar="ADDRESS",
    show_default=True,
    help="An envelope recipient; repeat it for several.",
)
@click.option("--client", default="", metavar="ADDRESS", help="The remote client's IP address.")
@click.option("--name", default="", metavar="HOST", help="Its verified host name.")
@click.option("--helo", default="", metavar="HOST", help="What it calls itself.")
@click.option("--source", type=click.Choice(["local", "remote"]), default="remote", show_default=True)
@click.option(
    "--listener",
    default="",
    metavar="ENDPOINT",
    help="The [[listen]] endpoint by which they come in, the first one by default.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line and file.")
def scan(
    path: Path,
    files: tuple[Path, ...],
    sender: str,
    recipients: tuple[str, ...],
    client: str,
    name: str,
    helo: str,
    source: str,
    listener: str,
    as_json: bool,
) -> None:
    """Say what would be done with messages, without doing it.

    FILES hold one message each. Every scanner that the policies name is asked as it would be for mail, and by
    the same account: started by root, this command goes on as `runtime.user`. Exit status 0: all would be
    passed on without a finding; 1: something was found, or could not be looked at; 78: the configuration
    cannot be used.
    """
    from bqfilter.mail.charsets import load_codecs
    from bqfilter.pool.startup import drop_privileges, find_identity, hostname_of
    from bqfilter.scanning.making import make_scanners
    from bqfilter.trial import envelope_of, read_message, try_out

    with configuration_errors():
        settings = load(path)
        hostname = hostname_of(settings)
        scanners = make_scanners(settings, hostname)
        identity = find_identity(settings.runtime.user)
    facts = {"ADDR": client, "NAME": name, "HELO": helo, "SOURCE": source.upper()}
    log = Log(TerminalSink(), is_json=False)
    told = {key: value for key, value in facts.items() if value}
    envelope = envelope_of(
        sender, recipients, told, _listener(listener, [one.endpoint for one in settings.listen])
    )

    def is_well(file: Path, stream: BinaryIO) -> bool:
        began = time.perf_counter()
        try:
            message = read_message(stream, settings.headers.size_limit)
            trial = try_out(settings, scanners, hostname.decode("ascii"), message, envelope, log)
        except OSError as error:
            return _tell_unreadable(file, error)
        seconds = time.perf_counter() - began
        for line in [json.dumps(_as_object(file, trial))] if as_json else _as_text(file, trial, seconds):
            click.echo(line)
        return not trial.has_findings

    _allow_many_files()
    with contextlib.ExitStack() as stack:
        opened = [(file, stream) for file in files if (stream := _opened(file, stack))]
        load_codecs()  # now: the account may not be able to read where Python is installed
        drop_privileges(identity)
        results = [is_well(*one) for one in opened]
    is_clean = all(results) and len(results) == len(files)
    raise click.exceptions.Exit(_NO_FINDING if is_clean else _FOUND_SOMETHING)


def _listener(text: str, known: list[Endpoint]) -> Endpoint:
    if not text:
        return known[0]
    found = next((one for one in known if str(one) == text), None)
    if found is None:
        raise click.UsageError(f"--listener {text}: there are {', '.join(map(str, known))}")
    return found


def _opened(file: Path, stack: contextlib.ExitStack) -> BinaryIO | None:
    """The file, open until the end of the stack; None, and a line about it, where it cannot be opened."""
    try:
        return stack.enter_context(file.open("rb"))
    except OSError as error:
        _tell_unreadable(file, error)
        return None


def _tell_unreadable(file: Path, error: OSError) -> bool:
    click.echo(f"bqfilterd: {_shown(str(file))}: {error.strerror or error}", err=True)
    return False


def _allow_many_files() -> None:
    """As many as there may be; all are open at once."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _as_text(file: Path, trial: "Trial", seconds: float) -> Iterator[str]:
    yield f"{_shown(str(file))}: {_shown(str(trial.reply))} ({seconds * 1000:.0f} ms)"
    for opinion in trial.opinions:
        yield from _opinion_lines(opinion)


def _opinion_lines(opinion: "Opinion") -> Iterator[str]:
    verdict, group = opinion.judged.verdict, opinion.judged.group
    addresses = _shown(", ".join(_text(rcpt.address) for rcpt in group.recipients))
    reason = f" ({_shown(verdict.reason)})" if verdict.reason else ""
    copy = ", and a copy is kept" if verdict.keeps_copy else ""
    yield f"  policy {group.policy.name} for {addresses}: {verdict.action}{copy}{reason}"
    yield from (f"    {line}" for line in map(_report_line, verdict.reports))
    if verdict.recipients is not None:
        yield f"    goes to {', '.join(_shown(_text(one)) for one in verdict.recipients)} instead"
    if verdict.copies:
        yield f"    goes to {', '.join(_shown(_text(one)) for one in verdict.copies)} as well"
    yield from (f"    {_shown(line)}" for line in opinion.changes)
    if opinion.body_changes:
        yield "    the body is edited:"
        yield from (f"    {_shown(line)}" for line in opinion.body_changes)
    elif opinion.has_new_body:
        yield "    the body is replaced"
    yield from (f"    {_signature_line(one)}" for one in opinion.signatures)


def _report_line(report: "Report") -> str:
    score = "" if report.score is None else f"score {report.score:g}  "
    took = f"{report.seconds * 1000:8.1f} ms"
    return f"{report.scanner:<14} {report.finding:<9} {took}  {score}{_shown(report.detail)}".rstrip()


def _signature_line(one: "Signature") -> str:
    before, after = _OUTCOMES[one.before], _OUTCOMES[one.after]
    return f"DKIM d={_shown(one.domain)} s={_shown(one.selector)}: {before} before, {after} after"


def _as_object(file: Path, trial: "Trial") -> dict[str, Any]:
    return {
        "file": str(file),
        "reply": str(trial.reply),
        "policies": [_opinion_object(opinion) for opinion in trial.opinions],
    }


def _opinion_object(opinion: "Opinion") -> dict[str, Any]:
    verdict, group = opinion.judged.verdict, opinion.judged.group
    return {
        "policy": group.policy.name,
        "recipients": [_text(rcpt.address) for rcpt in group.recipients],
        "action": str(verdict.action),
        "keeps_copy": verdict.keeps_copy,
        "reason": verdict.reason,
        "reports": [
            {
                "scanner": report.scanner,
                "finding": str(report.finding),
                "detail": report.detail,
                "score": report.score,
                "seconds": round(report.seconds, 6),
            }
            for report in verdict.reports
        ],
        "redirected_to": None if verdict.recipients is None else [_text(one) for one in verdict.recipients],
        "copied_to": [_text(one) for one in verdict.copies],
        "header_changes": list(opinion.changes),
        "has_new_body": opinion.has_new_body,
        "body_changes": list(opinion.body_changes),
        "dkim": [
            {"domain": one.domain, "selector": one.selector, "before": one.before, "after": one.after}
            for one in opinion.signatures
        ],
    }


def _text(address: bytes) -> str:
    return address.decode("utf-8", "backslashreplace")


def _shown(text: str) -> str:
    """What a terminal may be shown: the message and the scanners are not ours."""
    return "".join(char if char.isprintable() or char == " " else "?" for char in text.replace("\t", " "))
