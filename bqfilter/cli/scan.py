"""`bqfilterd scan`: the present policy on messages in files."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bqfilter.cli.options import config_option, configuration_errors
from bqfilter.config import load

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
    as_json: bool,
) -> None:
    """Say what would be done with messages, without doing it.

    FILES hold one message each. Every scanner that the policies name is asked as it would be for mail. Exit
    status 0: all would be passed on without a finding; 1: something was found, or could not be looked at; 78:
    the configuration cannot be used.
    """
    from bqfilter.log import open_log
    from bqfilter.pool.startup import hostname_of
    from bqfilter.scanning.making import make_scanners
    from bqfilter.trial import envelope_of, read_message, try_out

    with configuration_errors():
        settings = load(path)
        hostname = hostname_of(settings)
        scanners = make_scanners(settings, hostname)
        log = open_log("stderr", "text")
    facts = {"ADDR": client, "NAME": name, "HELO": helo, "SOURCE": source.upper()}
    envelope = envelope_of(sender, recipients, {key: value for key, value in facts.items() if value})
    is_clean = True
    for file in files:
        try:
            message = read_message(file, settings.headers.size_limit)
            began = time.perf_counter()
            trial = try_out(settings, scanners, hostname.decode("ascii"), message, envelope, log)
        except OSError as error:
            raise click.ClickException(f"{file}: {error.strerror or error}") from error
        seconds = time.perf_counter() - began
        is_clean = is_clean and not trial.has_findings
        lines = [json.dumps(_as_object(file, trial))] if as_json else _as_text(file, trial, seconds)
        for line in lines:
            click.echo(line)
    raise click.exceptions.Exit(_NO_FINDING if is_clean else _FOUND_SOMETHING)


def _as_text(file: Path, trial: "Trial", seconds: float) -> Iterator[str]:
    yield f"{file}: {trial.reply} ({seconds * 1000:.0f} ms)"
    for opinion in trial.opinions:
        yield from _opinion_lines(opinion)


def _opinion_lines(opinion: "Opinion") -> Iterator[str]:
    verdict, group = opinion.judged.verdict, opinion.judged.group
    addresses = ", ".join(rcpt.address.decode("utf-8", "backslashreplace") for rcpt in group.recipients)
    reason = f" ({_shown(verdict.reason)})" if verdict.reason else ""
    copy = ", and a copy is kept" if verdict.keeps_copy else ""
    yield f"  policy {group.policy.name} for {addresses}: {verdict.action}{copy}{reason}"
    yield from (f"    {line}" for line in map(_report_line, verdict.reports))
    if verdict.recipients is not None:
        yield f"    goes to {', '.join(_shown(one.decode()) for one in verdict.recipients)} instead"
    if verdict.copies:
        yield f"    goes to {', '.join(_shown(one.decode()) for one in verdict.copies)} as well"
    yield from (f"    {_shown(line)}" for line in opinion.changes)
    if opinion.has_new_body:
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
