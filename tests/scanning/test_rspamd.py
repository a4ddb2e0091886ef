"""The Rspamd scanner: reports from answers that a test makes up, and from a real Rspamd."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import dkim
import pytest

from bqfilter.config.actions import ACCEPT, DEFER, QUARANTINE, REJECT, TAG, Action, Response
from bqfilter.config.content import RspamdSettings
from bqfilter.errors import ConversationLost, PeerLost, PeerTimeout, PeerUnreachable, ScannerFailure
from bqfilter.mail.envelope import Envelope
from bqfilter.mail.fields import Header, edited
from bqfilter.mail.message import Message
from bqfilter.mail.spool import Spool
from bqfilter.net.address import Endpoint, resolve
from bqfilter.net.deadline import Deadline
from bqfilter.scanning.dialling import Dialler
from bqfilter.scanning.report import NO_CHANGES, Finding, Report
from bqfilter.scanning.rspamd import Rspamd
from bqfilter.scanning.scanner import Scanner
from bqfilter.smtp.replies import Reply
from tests.doubles.http_server import answering, http_server, saying
from tests.doubles.messages import GTUBE
from tests.doubles.programs import REPOSITORY, eventually
from tests.doubles.rspamd import PASSWORD, RspamdDaemon, running_rspamd

from .test_rspamd_reply import HAM
from .test_rspamd_request import ADDRESSES, envelope

CLOCK = time.monotonic
LONG = 60.0  # seconds that nothing here comes near to
SHORT = 0.5  # seconds that are waited for
HOSTNAME = "mx.example.net"
MESSAGE = Message.in_memory(b"Received: by us\r\nSubject: hello\r\n\r\nbody\r\n")


def scanner(*endpoints: Endpoint, **keys: Any) -> Rspamd:
    addresses = [address for endpoint in endpoints for address in resolve(endpoint)]
    return Rspamd(RspamdSettings(endpoints=endpoints, **keys), Dialler(addresses, CLOCK), HOSTNAME)


def scan(asked: Scanner, message: Message = MESSAGE, seconds: float = LONG) -> Report:
    asked.after_fork_in_worker()
    one = envelope(b"a@example.com", b"b@example.org", session="4B1")
    return asked.scan(message, one, Deadline.after(CLOCK, seconds))


def said(answer: Any, status: str = "200 OK", **keys: Any) -> Report:
    """The report on MESSAGE where the server answers so."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    with http_server(answering(body, status, "Content-Type: application/json")) as server:
        host, port = server.address.sockaddr[:2]
        return scan(scanner(Endpoint("inet", str(host), int(port)), **keys))


def test_the_content_is_posted_with_its_facts() -> None:
    with http_server(answering(json.dumps(HAM).encode())) as server:
        scan(scanner(Endpoint("inet", "127.0.0.1", int(server.address.sockaddr[1])), password="secret"))
    head, _, body = server.requests[0].partition(b"\r\n\r\n")

    assert head.startswith(b"POST /checkv2 HTTP/1.1\r\n")
    assert {b"Password: secret", b"Rcpt: <b@example.org>", b"MTA-Name: mx.example.net"} <= set(
        head.split(b"\r\n")
    )
    assert body == b"".join(MESSAGE.content())


def test_a_clean_message_is_clean_and_still_changed() -> None:
    report = said({**HAM, "milter": {"add_headers": {"X-Spam-Status": "No"}}})
    assert (report.finding, report.detail, report.score) == (Finding.CLEAN, "no action 0.00/15.00", 0.0)
    assert (report.response, report.reply) == (None, None)
    assert edited(MESSAGE.header, report.changes.edits).endswith(b"\r\nX-Spam-Status: No\r\n")


@pytest.mark.parametrize(
    ("action", "key", "default"),
    [
        ("reject", "on_reject", REJECT),
        ("add header", "on_add_header", TAG),
        ("rewrite subject", "on_rewrite_subject", TAG),
        ("greylist", "on_greylist", ACCEPT),
        ("soft reject", "on_soft_reject", DEFER),
        ("quarantine", "on_quarantine", QUARANTINE),
        ("discard", "on_discard", Response(Action.DISCARD)),
        ("an action of the site", "on_other", TAG),
        ("No Action", "on_other", TAG),
        ("", "on_other", TAG),
    ],
)
def test_each_action_has_its_setting(action: str, key: str, default: Response) -> None:
    other = Response(Action.ACCEPT, keeps_copy=True)
    for response, keys in ((default, {}), (other, {key: other})):
        report = said({**HAM, "action": action}, **keys)
        assert (report.finding, report.response) == (Finding.HIT, response)


def test_the_manual_has_every_action_with_its_setting_and_its_default() -> None:
    manual = (REPOSITORY / "docs" / "rspamd.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (?:`([a-z ]+)`|any other) \| `(on_\w+)` \| `(\w+)` \|$", manual, re.MULTILINE)
    settings = scanner().settings

    assert {key: default for _, key, default in rows} == {
        key: str(value) for key, value in settings.responses()
    }
    for action, key, _ in rows:
        report = said({**HAM, "action": action or "other"}, **{key: Response(Action.DEFER, True)})
        assert report.response == Response(Action.DEFER, True)


def test_an_action_that_rspamd_wants_not_applied_is_passed_on() -> None:
    report = said({**HAM, "action": "reject", "milter": {"no_action": True}})
    assert (report.finding, report.response, report.reply) == (Finding.HIT, ACCEPT, None)
    assert report.detail == "reject 0.00/15.00, not to be applied"


def test_the_detail_names_the_symbols_that_weigh_most_on_one_printable_line() -> None:
    scores = {"A": 1.0, "B": -7.5, "C": 0.0, "D": 3.25, "E\r\nF: \x1b[1m\u2028é": 2.0, "G" * 99: 5, "H": 0.5}
    symbols = {name: {"name": name, "score": score} for name, score in scores.items()}
    report = said({**HAM, "action": "add\nheader", "score": 4.5, "is_skipped": True, "symbols": symbols})

    assert report.detail == (
        f"add?header 4.50/15.00, skipped, B(-7.50), {'G' * 64}(5.00), D(3.25), E??F: ?[1m??(2.00), A(1.00)"
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("Gtube pattern", b"5.7.1 Gtube pattern", id="plain"),
        pytest.param("550 5.7.1 Go away", b"5.7.1 Go away", id="both codes"),
        pytest.param("554-Go away", b"5.7.1 Go away", id="code and dash"),
        pytest.param("451 4.7.1 later", b"5.7.1 later", id="codes of another class"),
        pytest.param(" 5.7.26 DMARC", b"5.7.1 DMARC", id="enhanced code"),
        pytest.param("5000 links, 550 bad", b"5.7.1 5000 links, 550 bad", id="other numbers"),
        pytest.param("192.0.2.7 is listed", b"5.7.1 192.0.2.7 is listed", id="an address"),
        pytest.param("no\r\n250 ok\r\n", b"5.7.1 no 250 ok", id="line ends"),
        pytest.param("n\x00\x1b[1mé\u2028x", b"5.7.1 n??[1m? x", id="controls and others"),
        pytest.param("x" * 5000, b"5.7.1 " + b"x" * 500, id="long"),
    ],
)
def test_the_text_for_the_client_is_one_short_line_behind_our_codes(text: str, line: bytes) -> None:
    report = said({**HAM, "action": "reject", "messages": {"smtp_message": text}})
    assert report.reply == Reply(554, (line,))
    assert len(report.reply.wire) <= 512


@pytest.mark.parametrize(
    ("response", "text", "reply"),
    [
        pytest.param(REJECT, "spam", Reply(554, (b"5.7.1 spam",)), id="reject"),
        pytest.param(DEFER, "spam", Reply(451, (b"4.7.1 spam",)), id="defer"),
        pytest.param(DEFER, "550 5.7.1 spam", Reply(451, (b"4.7.1 spam",)), id="defer instead of reject"),
        pytest.param(DEFER, "", Reply(451, (b"4.7.1 Try again later",)), id="defer without text"),
        pytest.param(DEFER, "550", Reply(451, (b"4.7.1 Try again later",)), id="defer with a bare code"),
        pytest.param(REJECT, "", None, id="reject without text"),
        pytest.param(TAG, "spam", None, id="tag"),
        pytest.param(Response(Action.REJECT, True), "x", Reply(554, (b"5.7.1 x",)), id="reject with a copy"),
    ],
)
def test_the_class_of_the_reply_is_that_of_what_is_done(
    response: Response, text: str, reply: Reply | None
) -> None:
    answer = {**HAM, "action": "soft reject", "messages": {"smtp_message": text} if text else {}}
    assert said(answer, on_soft_reject=response).reply == reply


def test_nothing_is_changed_where_the_settings_say_so() -> None:
    wanted = {"add_headers": {"X Y": "not a name"}, "del_rcpt": ["b@example.org"]}
    answer = {**HAM, "action": "rewrite subject", "subject": "x", "dkim-signature": "v=1", "milter": wanted}
    assert said(answer, milter_headers=False).changes == NO_CHANGES
    with pytest.raises(ScannerFailure, match="cannot be followed"):
        said(answer)


def test_an_answer_about_no_message_is_a_failure() -> None:
    about_nothing = {key: value for key, value in HAM.items() if key != "message-id"}
    with pytest.raises(ScannerFailure, match="without the message"):
        said(about_nothing)


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        ("401 Unauthorized", b'{"error":"Unauthorized"}', "answered 401 Unauthorized"),
        ("500 Internal", b'{"error":"invalid command"}', "answered 500 invalid command"),
        ("503 Busy\x1b[1m", b"<html>", "answered 503"),
        ("404 Not Found", json.dumps(HAM).encode(), "answered 404 Not Found"),
        ("204 No Content", b"", "answered 204 No Content"),
        ("302 Found", json.dumps(HAM).encode(), "answered 302 Found"),
        ("403 No", b'{"error":"a\\r\\nb\xff"}', r"answered 403 a\?\?b\?"),
    ],
)
def test_another_status_is_a_failure_that_says_why(status: str, body: bytes, cause: str) -> None:
    with pytest.raises((ScannerFailure, ConversationLost)) as caught:
        said(body, status)
    assert "\x1b" not in str(caught.value)
    if "\x1b" not in status:
        assert caught.match(f"^inet:127.0.0.1:[0-9]+: {cause}$")


@pytest.mark.parametrize("body", [b"", b"{}", b"pong\r\n", json.dumps(HAM).encode()[:-1]])
def test_half_an_answer_is_a_failure(body: bytes) -> None:
    with pytest.raises(ScannerFailure, match="its answer"):
        said(body)


def test_ping_tells_the_version_where_the_server_does() -> None:
    with http_server(answering(b"pong\r\n", "200 OK", "Server: rspamd/3.4")) as server:
        asked = scanner(Endpoint("inet", "127.0.0.1", int(server.address.sockaddr[1])))
        assert asked.ping(Deadline.after(CLOCK, LONG)) == f"{server.address}: rspamd/3.4"
    assert server.requests[0].startswith(b"GET /ping HTTP/1.1\r\n")


def test_ping_of_a_server_that_hides_its_name() -> None:
    with http_server(answering(b"pong\r\n")) as server:
        asked = scanner(Endpoint("inet", "127.0.0.1", int(server.address.sockaddr[1])))
        assert asked.ping(Deadline.after(CLOCK, LONG)) == f"{server.address}: pong"


@pytest.mark.parametrize("action", [answering(b"hello"), answering(b"pong", "500 No"), saying(b"+PONG\r\n")])
def test_ping_of_something_else_is_a_failure(action: Any) -> None:
    with http_server(action) as server, pytest.raises((ScannerFailure, ConversationLost)):
        scanner(Endpoint("inet", "127.0.0.1", int(server.address.sockaddr[1]))).ping(
            Deadline.after(CLOCK, LONG)
        )


# From here on, a real one.

real = pytest.mark.rspamd


@pytest.fixture(scope="module")
def rspamd() -> Iterator[RspamdDaemon]:
    with running_rspamd() as daemon:
        yield daemon


def mail(*fields: str, body: bytes = b"hello\r\n") -> Message:
    head = "".join(f"{one}\r\n" for one in ("Received: by us", "Subject: hello", *fields))
    return Message.in_memory(head.encode() + b"\r\n" + body)


def header_of(message: Message, report: Report) -> bytes:
    return edited(message.header, report.changes.edits)


@real
@pytest.mark.parametrize("way", ["inet", "unix"])
def test_rspamd_finds_nothing_in_a_clean_message(rspamd: RspamdDaemon, way: str) -> None:
    report = scan(scanner(getattr(rspamd, way)), mail())

    assert (report.finding, report.detail) == (Finding.CLEAN, "no action 0.00/15.00")
    assert b"\r\nX-Spam-Status: No, score=0.00\r\n" in header_of(mail(), report)


@real
@pytest.mark.parametrize("way", ["inet", "unix"])
def test_rspamd_rejects_the_test_message(rspamd: RspamdDaemon, way: str) -> None:
    report = scan(scanner(getattr(rspamd, way)), mail(body=GTUBE + b"\r\n"))

    assert (report.finding, report.response, report.score) == (Finding.HIT, REJECT, 15.0)
    assert report.reply == Reply(554, (b"5.7.1 Gtube pattern",))
    assert report.detail == "reject 15.00/15.00, skipped, GTUBE(0.00)"


@real
@pytest.mark.parametrize(
    ("score", "action", "response"),
    [
        ("3", "no action", None),
        ("5", "greylist", ACCEPT),
        ("7", "add header", TAG),
        ("9", "rewrite subject", TAG),
        ("16", "reject", REJECT),
    ],
)
def test_what_rspamd_does_at_a_score(
    rspamd: RspamdDaemon, score: str, action: str, response: Response | None
) -> None:
    message = mail(f"X-BQ-Score: {score}")
    report = scan(scanner(rspamd.inet), message)

    assert (report.response, report.score) == (response, float(score))
    assert report.detail == f"{action} {score}.00/15.00, BQ_SCORE({score}.00)"
    assert b";\r\n\tBQ_SCORE(%s.00)[opt1,opt2]\r\n" % score.encode() in header_of(message, report)
    assert (b"\r\nSubject: ***SPAM*** hello\r\n" in header_of(message, report)) == (score == "9")


@real
@pytest.mark.parametrize(
    ("action", "response", "reply"),
    [
        ("soft reject", DEFER, Reply(451, (b"4.7.1 later, please",))),
        ("reject", REJECT, Reply(554, (b"5.7.1 later, please",))),
        ("quarantine", QUARANTINE, None),
        ("discard", Response(Action.DISCARD), None),
    ],
)
def test_what_rspamd_decides_before_its_rules(
    rspamd: RspamdDaemon, action: str, response: Response, reply: Reply | None
) -> None:
    report = scan(scanner(rspamd.inet), mail(f"X-BQ-Action: {action}", "X-BQ-Message: 4.7.1 later, please"))
    assert (report.finding, report.response, report.reply) == (Finding.HIT, response, reply)


@real
def test_rspamd_edits_a_header_as_a_milter(rspamd: RspamdDaemon) -> None:
    wanted = {
        "add_headers": {
            "X-Top": {"value": "t", "order": 0}, "X-Below": {"value": "b", "order": 1}, "X-Flag": "YES",
        },
        "remove_headers": {"X-Old": 2, "X-All": 0, "X-End": -1},
        "change_from": "<new@example.org>", "add_rcpt": ["more@example.net"], "del_rcpt": ["b@example.org"],
    }  # fmt: skip
    fields = ["X-Old: 1", "X-ALL: 1", "X-old: 2", "X-End: 1", "X-All: 2", "X-End: 2", "X-Spam-Status: forged"]
    message = mail(*fields, f"X-BQ-Milter: {json.dumps(wanted)}")
    report = scan(scanner(rspamd.inet), message)
    after = header_of(message, report).split(b"\r\n")

    assert after[:6] == [
        b"X-Top: t",
        b"Received: by us",
        b"X-Below: b",
        b"Subject: hello",
        b"X-Old: 1",
        b"X-End: 1",
    ]
    assert b"X-Flag: YES" in after
    assert [line for line in after if line.startswith(b"X-Spam-Status")] == [b"X-Spam-Status: No, score=0.00"]
    assert report.changes.recipients == (b"more@example.net",)


@real
@pytest.mark.parametrize(("how", "count"), [("1", 1), ("2", 2), ("field", 1)])
def test_a_signature_that_rspamd_makes_holds_on_the_message_that_is_passed_on(
    rspamd: RspamdDaemon, how: str, count: int
) -> None:
    message = mail("From: a@signing.example", f"X-BQ-Sign: {how}")
    report = scan(scanner(rspamd.unix), message)
    content = header_of(message, report) + b"\r\n" + b"".join(message.body())

    assert content.count(b"DKIM-Signature: v=1;") == count
    for number in range(count):
        assert signature_holds(content, number, rspamd.signing_key())
        assert not signature_holds(content + b"more\r\n", number, rspamd.signing_key())


def signature_holds(content: bytes, number: int, key: bytes) -> bool:
    """By another program's judgement."""
    try:
        return bool(dkim.DKIM(content).verify(number, dnsfunc=lambda _name, **_options: key))
    except dkim.ValidationError:
        return False


@real
def test_a_milter_reply_of_rspamd_that_abstains_or_discards(rspamd: RspamdDaemon) -> None:
    for wanted, response in (
        ({"no_action": True}, ACCEPT),
        ({"reject": "discard"}, Response(Action.DISCARD)),
    ):
        report = scan(scanner(rspamd.inet), mail("X-BQ-Score: 16", f"X-BQ-Milter: {json.dumps(wanted)}"))
        assert report.response == response


def facts(rspamd: RspamdDaemon, one: Envelope, message: Message | None = None) -> dict[str, Any]:
    """What Rspamd says it was told; it says so in a field, which is cut where it is very long."""
    message = message or mail("X-BQ-Facts: yes")
    report = scanner(rspamd.inet).scan(message, one, Deadline.after(CLOCK, LONG))
    field = Header(header_of(message, report)).all(b"X-BQ-Facts-Seen")[0]
    seen: dict[str, Any] = json.loads(field.raw.partition(b":")[2].replace(b"\r\n ", b""))
    return seen


@real
def test_rspamd_knows_the_envelope_and_the_remote_client(rspamd: RspamdDaemon) -> None:
    one = envelope(
        b"a@example.com", b"b@example.org", session="4B1",
        NAME=b"mail.example.com", ADDR=b"IPv6:2001:db8::7", HELO=b"mail.example.com",
    )  # fmt: skip
    assert facts(rspamd, one) == {
        "from": "a@example.com",
        "rcpt": "b@example.org",
        "deliver": "b@example.org",
        "ip": "2001:db8::7",
        "helo": "mail.example.com",
        "hostname": "mail.example.com",
        "queue": "4B1",
        "mta": HOSTNAME,
        "size": mail("X-BQ-Facts: yes").size,
    }


@real
def test_rspamd_reads_every_address_that_it_is_told_and_is_told_every_one_that_it_reads(
    rspamd: RspamdDaemon,
) -> None:
    sendable = [address for address, is_told in ADDRESSES if is_told]
    for address in sendable:
        assert facts(rspamd, envelope(address))["from"].endswith(
            address.rpartition(b"@")[2].decode().rstrip(".")
        )
    some = facts(rspamd, envelope(b"", *sendable))["rcpt"]
    assert len(some.split("|")) == len(sendable)


@real
def test_rspamd_takes_a_message_for_thousands(rspamd: RspamdDaemon) -> None:
    people = [b"recipient-%d@some.where.example.org" % number for number in range(5000)]
    seen = facts(rspamd, envelope(b"", *people))["rcpt"].split("|")
    assert len(seen) > 1000
    assert seen == [address.decode() for address in people[: len(seen)]]


@real
def test_a_large_message_reaches_rspamd_whole_from_the_spool(rspamd: RspamdDaemon) -> None:
    content = b"X-BQ-Facts: yes\r\n\r\n" + (b"x" * 76 + b"\r\n") * 40000
    spool = Spool("/tmp", 65536, 0)
    spool.append(content + b".\r\n")
    spool.is_clean = True
    try:
        assert facts(rspamd, envelope(), Message.spooled(spool))["size"] == len(content)
    finally:
        spool.close()


@real
def test_an_empty_message_is_no_failure(rspamd: RspamdDaemon) -> None:
    assert scan(scanner(rspamd.inet), Message.in_memory(b"")).finding is Finding.CLEAN


@real
def test_bytes_of_an_author_that_are_no_text_do_not_stop_the_scan(rspamd: RspamdDaemon) -> None:
    message = Message.in_memory(b"X-BQ-Score: 9\r\nSubject: \xff\x01\xc3(\r\n\r\n\xff\r\n")
    report = scan(scanner(rspamd.inet), message)
    assert report.response == TAG
    assert header_of(message, report).isascii()


@real
def test_a_message_beyond_rspamds_own_limit_is_a_lost_conversation(rspamd: RspamdDaemon) -> None:
    with pytest.raises(PeerLost):
        scan(scanner(rspamd.inet), mail(body=b"x" * 6_000_000))


@real
@pytest.mark.parametrize("password", ["", "wrong"])
def test_the_controller_wants_its_password(rspamd: RspamdDaemon, password: str) -> None:
    with pytest.raises(ScannerFailure, match="answered 401 Unauthorized"):
        scan(scanner(rspamd.controller, password=password))
    assert scan(scanner(rspamd.controller, password=PASSWORD)).finding is Finding.CLEAN


@real
def test_rspamd_tells_its_version(rspamd: RspamdDaemon) -> None:
    endpoints = rspamd.inet, rspamd.unix, rspamd.controller
    told = scanner(*endpoints).ping(Deadline.after(CLOCK, LONG)).split("; ")

    for endpoint, answer in zip(endpoints, told, strict=True):
        assert answer.startswith(f"{endpoint}: rspamd/")


@real
def test_the_next_endpoint_is_asked_where_nobody_listens_at_the_first(rspamd: RspamdDaemon) -> None:
    nobody = Endpoint("unix", path=str(rspamd.directory / "nobody"))
    asked = scanner(nobody, rspamd.unix)
    assert scan(asked).finding is Finding.CLEAN
    assert "nobody: No such file" in asked.ping(Deadline.after(CLOCK, LONG))
    with pytest.raises(PeerUnreachable, match="nobody: No such file"):
        scan(scanner(nobody))


@real
def test_a_stopped_worker_does_not_outlive_the_deadline(rspamd: RspamdDaemon) -> None:
    worker = rspamd.worker()
    os.kill(worker, signal.SIGSTOP)
    try:
        with pytest.raises(PeerTimeout):
            scan(scanner(rspamd.inet), seconds=SHORT)
    finally:
        os.kill(worker, signal.SIGCONT)
    rspamd.wait_until_ready()


@real
def test_a_slow_answer_does_not_outlive_the_deadline(rspamd: RspamdDaemon) -> None:
    with pytest.raises(PeerTimeout):
        scan(scanner(rspamd.unix), mail("X-BQ-Slow: yes"), seconds=SHORT)


@real
def test_a_time_out_of_rspamds_own_is_a_soft_reject() -> None:
    with running_rspamd(task_timeout=1) as daemon:
        report = scan(scanner(daemon.inet), mail("X-BQ-Slow: yes"))

    assert (report.finding, report.response) == (Finding.HIT, DEFER)
    assert report.reply == Reply(451, (b"4.7.1 timeout processing message",))


@real
def test_a_worker_killed_over_a_message_is_a_lost_conversation(rspamd: RspamdDaemon) -> None:
    worker, losses = rspamd.worker(), []

    def ask() -> None:
        try:
            scan(scanner(rspamd.inet), mail("X-BQ-Slow: killed"))
        except ConversationLost as loss:
            losses.append(loss)

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: "waiting: killed" in rspamd.log(), "the worker has the message")
    os.kill(worker, signal.SIGKILL)
    asking.join(LONG)

    assert [type(loss) for loss in losses] == [PeerLost]
    rspamd.wait_until_ready()
