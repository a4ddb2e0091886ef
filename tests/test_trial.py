"""Trials: what is told is what would be done, and whether signatures live through it."""

import os
from pathlib import Path
from typing import Any

import pytest

from bqfilter.config.content import PolicySettings
from bqfilter.config.content_kinds import AddressPattern
from bqfilter.errors import PeerUnreachable
from bqfilter.log import Log
from bqfilter.mail.body_edits import Splice
from bqfilter.mail.fields import TOP, Insert, Remove, Replace
from bqfilter.mail.message import Message
from bqfilter.net.address import Endpoint
from bqfilter.scanning.line_edits import EditedBody, Splices
from bqfilter.scanning.output import Workspace
from bqfilter.scanning.report import Changes, Finding, Report
from bqfilter.trial import Trial, envelope_of, read_message, try_out
from tests.doubles.recorder import RecordingSink
from tests.doubles.scanners import FakeScanner, hit, scanner, with_scanners
from tests.doubles.settings import HOSTNAME, settings
from tests.doubles.signatures import find_key, signed

LIMIT = 65536
CONTENT = b"From: a@sender.example\r\nTo: b@here.example\r\nSubject: hello\r\n\r\nHello.\r\n"


def tried(
    content: bytes,
    *scanners: FakeScanner,
    policies: tuple[PolicySettings, ...] = (),
    keys: tuple[str, ...] = (),
    listener: str = "",
    find: Any = find_key,
) -> Trial:
    chosen = with_scanners(settings(*keys), scanners, *policies)
    envelope = envelope_of(
        "s@sender.example",
        ["one@here.example", "two@there.example"],
        {"ADDR": "192.0.2.1"},
        Endpoint.parse(listener) if listener else None,
    )
    log = Log(RecordingSink(), is_json=False)
    message = Message.in_memory(content, LIMIT)
    return try_out(chosen, scanners, HOSTNAME.decode(), message, envelope, log, find)


def changed(*edits: Any, **more: Any) -> Report:
    return Report(Finding.CLEAN, changes=Changes(edits=edits, **more))


def test_a_clean_message_would_be_passed_on_as_it_is() -> None:
    trial = tried(CONTENT, scanner("one"))
    (opinion,) = trial.opinions

    assert (str(trial.reply), trial.has_findings) == ("250 2.0.0 Ok", False)
    assert (opinion.changes, opinion.has_new_body, opinion.signatures) == ((), False, ())
    assert opinion.body_changes == ()
    assert opinion.judged.group.policy.name == "default"
    assert [report.scanner for report in opinion.judged.verdict.reports] == ["one"]


@pytest.mark.parametrize(
    ("step", "keys", "reply", "has_findings"),
    [
        pytest.param(hit("bad"), {}, "550 5.7.1 Message refused: bad", True, id="refused"),
        pytest.param(hit("bad", "accept"), {}, "250 2.0.0 Ok", True, id="found and passed on"),
        pytest.param(hit("bad", "discard"), {}, "250 2.0.0 Ok", True, id="dropped"),
        pytest.param(hit("bad", "quarantine"), {}, "250 2.0.0 Ok", True, id="kept"),
        pytest.param(
            PeerUnreachable("gone"), {}, "451 4.3.0 Error: content scanner unavailable", True, id="down"
        ),
        pytest.param(PeerUnreachable("gone"), {"on_error": "pass"}, "250 2.0.0 Ok", True, id="unlooked at"),
        pytest.param(Report(Finding.CLEAN), {"size_limit": 10}, "250 2.0.0 Ok", True, id="too large for it"),
    ],
)
def test_what_the_client_would_hear_and_whether_something_was_found(
    step: Report | Exception, keys: dict[str, Any], reply: str, has_findings: bool
) -> None:
    trial = tried(CONTENT, scanner("one", step, **keys))

    assert (str(trial.reply), trial.has_findings) == (reply, has_findings)


def test_each_policy_has_its_opinion_and_the_reply_is_the_one_that_there_would_be() -> None:
    strict = PolicySettings(
        name="strict", recipients=(AddressPattern.parse("@there.example"),), scanners=("one",)
    )
    trial = tried(CONTENT, scanner("one", hit("bad")), policies=(strict,))

    assert [one.judged.group.policy.name for one in trial.opinions] == ["default", "strict"]
    assert str(trial.reply).startswith("550 ")

    lax = PolicySettings(name="lax", recipients=(AddressPattern.parse("@there.example"),), scanners=())
    assert str(tried(CONTENT, scanner("one", hit("bad")), policies=(lax,)).reply) == "250 2.0.0 Ok"


def test_a_policy_for_a_listener_counts_where_the_message_comes_in_by_it() -> None:
    listener = "inet:127.0.0.1:10025"
    inbound = PolicySettings(name="inbound", listeners=(Endpoint.parse(listener),), scanners=())

    for given, name in ((listener, "inbound"), ("inet:127.0.0.1:10027", "default"), ("", "default")):
        (opinion,) = tried(CONTENT, policies=(inbound,), listener=given).opinions
        assert opinion.judged.group.policy.name == name


@pytest.mark.parametrize(
    ("edits", "changes"),
    [
        pytest.param((Insert(TOP, b"X-A: 1\r\n\t2\r\n"),), ("+X-A: 1", "+\t2"), id="added"),
        pytest.param((Remove(2),), ("-Subject: hello",), id="removed"),
        pytest.param((Replace(2, b"Subject: new\r\n"),), ("-Subject: hello", "+Subject: new"), id="replaced"),
        pytest.param((Replace(2, b"Subject: hello\r\n"),), (), id="replaced by itself"),
        pytest.param((Insert(3, b"X: \x0c\xff\r\n"),), ("+X: \x0c\\xff",), id="odd bytes stay in their line"),
    ],
)
def test_changes_of_the_header_are_told_line_by_line(
    edits: tuple[Any, ...], changes: tuple[str, ...]
) -> None:
    (opinion,) = tried(CONTENT, scanner("one", changed(*edits))).opinions

    assert opinion.changes == changes


def test_only_what_differs_is_told_of_a_header_with_many_fields_that_are_the_same() -> None:
    content = b"A: b\r\n" * 900 + CONTENT
    (opinion,) = tried(content, scanner("one", changed(Remove(450)))).opinions

    assert opinion.changes == ("-A: b",)


def edits_of(content: bytes, *splices: Splice) -> EditedBody:
    kept = Splices(Workspace("/nowhere", 1 << 20))
    for splice in splices:
        kept.add(splice)
    kept.settle()
    return EditedBody(Message.in_memory(content), (kept,))


def test_edits_of_the_body_are_told_line_by_line() -> None:
    body = edits_of(CONTENT, Splice(0, 0, b"one\r\ntwo\r\n"), Splice(0, 6, b"Gr\xfc\xdfe"))
    (opinion,) = tried(CONTENT, scanner("one", changed(body=body))).opinions

    assert (opinion.changes, opinion.has_new_body) == ((), True)
    assert opinion.body_changes == ("+one", "+two", "-Hello.", "+Gr\\xfc\\xdfe")


def test_of_many_edits_the_first_are_told() -> None:
    body = edits_of(CONTENT, *[Splice(0, 0, b"x" * 5000 + b"\r\n")] * 200)
    (opinion,) = tried(CONTENT, scanner("one", changed(body=body))).opinions

    assert opinion.body_changes == (*["+" + "x" * 999] * 100, "...")


def test_of_another_body_nothing_but_that_is_told() -> None:
    (opinion,) = tried(CONTENT, scanner("one", changed(body=lambda: iter([b"x\r\n"])))).opinions

    assert (opinion.has_new_body, opinion.body_changes) == (True, ())


# Signed, what is done with it, and whether the signature holds before and after.
SIGNED = signed(CONTENT)


@pytest.mark.parametrize(
    ("content", "change", "keys", "outcomes"),
    [
        pytest.param(SIGNED, changed(), (), [(True, True)], id="untouched"),
        pytest.param(SIGNED, changed(Insert(TOP, b"X-A: 1\r\n")), (), [(True, True)], id="field added"),
        pytest.param(SIGNED, changed(Remove(3)), (), [(True, True)], id="signed field spared"),
        pytest.param(
            SIGNED, changed(Remove(3)), ("headers.change_signed = true",), [(True, False)], id="and not"
        ),
        pytest.param(SIGNED, changed(body=lambda: iter([b"x\r\n"])), (), [(True, False)], id="body replaced"),
        pytest.param(SIGNED + b"more\r\n", changed(), (), [(False, False)], id="broken already"),
        pytest.param(
            b"DKIM-Signature: v=1; d=sender.example; s=odd\r\n" + SIGNED,
            changed(),
            (),
            [(False, False), (True, True)],
            id="one that is none, and a good one",
        ),
    ],
)
def test_signatures_are_verified_before_and_after(
    content: bytes, change: Report, keys: tuple[str, ...], outcomes: list[tuple[bool, bool]]
) -> None:
    (opinion,) = tried(content, scanner("one", change), keys=keys).opinions

    assert [(one.before, one.after) for one in opinion.signatures] == outcomes
    assert {one.domain for one in opinion.signatures} == {"sender.example"}


def test_a_signature_whose_key_cannot_be_had_is_unknown() -> None:
    def find_nothing(_name: bytes, **_options: object) -> bytes | None:
        raise TimeoutError

    (opinion,) = tried(SIGNED, find=find_nothing).opinions
    (signature,) = opinion.signatures

    assert (signature.selector, signature.before, signature.after) == ("test", None, None)


def test_a_message_cannot_make_us_ask_for_any_number_of_keys() -> None:
    asked = []

    def find(name: bytes, **_options: object) -> bytes:
        asked.append(name)
        return find_key(name)

    header = SIGNED[: -len(CONTENT)]
    (opinion,) = tried(header * 21 + CONTENT, find=find).opinions

    assert not asked
    assert [one.before for one in opinion.signatures] == [None] * 21


def test_what_would_not_even_be_looked_at_is_refused_in_the_same_words() -> None:
    large = CONTENT + b"x" * 20000 + b"\r\n"
    assert str(tried(large, keys=("limits.message_size = '16KiB'",)).reply).startswith("552 5.3.4 ")
    assert str(tried(b"A: b\r\n" * 20000 + CONTENT).reply).startswith("552 5.3.4 ")
    assert tried(large, keys=("limits.message_size = '16KiB'",)).has_findings


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        pytest.param(b"A: b\nC: d\n\nbody\n", b"A: b\r\nC: d\r\n\r\nbody\r\n", id="LF"),
        pytest.param(b"A: b\r\n\r\nbody\r\n", b"A: b\r\n\r\nbody\r\n", id="CRLF"),
        pytest.param(b"From a@b Mon Jan  1\nA: b\n\nbody\n", b"A: b\r\n\r\nbody\r\n", id="mbox"),
        pytest.param(b"From a@b Mon\r\nA: b\r\n", b"A: b\r\n", id="mbox with CRLF"),
        pytest.param(b"From: a@b\nA: b\n", b"From: a@b\r\nA: b\r\n", id="a From field"),
        pytest.param(b"A: b\n\nFrom here\n", b"A: b\r\n\r\nFrom here\r\n", id="From in the body"),
        pytest.param(b"A: b\n\nno line end", b"A: b\r\n\r\nno line end", id="no line end"),
        pytest.param(b"", b"", id="empty"),
        pytest.param(
            b"A: b\r\n\r\n" + b"x" * 65528 + b"\n" + b"From x\n",
            b"A: b\r\n\r\n" + b"x" * 65528 + b"\r\nFrom x\r\n",
            id="From at a later piece",
        ),
    ],
)
def test_a_file_is_a_message_whatever_its_line_ends(tmp_path: Path, content: bytes, seen: bytes) -> None:
    path = tmp_path / "message"
    path.write_bytes(content)
    with path.open("rb") as file:
        message = read_message(file, LIMIT)
        path.unlink()

        assert b"".join(message.content()) == seen
        halves = [message.content(), message.content()]
        assert [next(half, b"") for half in halves] == [seen[: len(next(message.content(), b""))]] * 2


def test_a_file_that_cannot_be_read_raises() -> None:
    with Path("/proc/self/mem").open("rb") as file, pytest.raises(OSError, match=os.strerror(5)):
        list(read_message(file, LIMIT).content())
