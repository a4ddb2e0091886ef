"""`bqfilterd quarantine` as its user sees it: what is printed, what becomes of the files, and exit status."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bqfilter.cli import main
from bqfilter.mail.message import Message
from bqfilter.mail.outgoing import Edited
from bqfilter.quarantine import Quarantine, State
from bqfilter.quarantine.history import What
from bqfilter.quarantine.letter import edits
from bqfilter.quarantine.names import new_id
from tests.doubles.kept import CONTENT, keep, mail, record
from tests.doubles.programs import COMMAND, REPOSITORY, short_directory
from tests.doubles.sink import Sink

DAY = 86400.0
NOBODY = 65534


@pytest.fixture
def store(tmp_path: Path) -> Quarantine:
    return Quarantine(tmp_path / "quarantine")


def configure(store: Quarantine, upstream: str = "inet:127.0.0.1:1", more: str = "") -> str:
    path = store.directory.parent / "bqfilterd.toml"
    path.write_text(
        f'[[listen]]\nendpoint = "inet:127.0.0.1:10025"\n[upstream]\nendpoint = "{upstream}"\n'
        f'[runtime]\nhostname = "filter.example"\n[quarantine]\ndirectory = "{store.directory}"\n{more}'
    )
    return str(path)


def run(store: Quarantine, command: str, *arguments: str, upstream: str = "", more: str = "") -> Result:
    path = configure(store, upstream or "inet:127.0.0.1:1", more)
    return CliRunner().invoke(main, ["quarantine", command, "--config", path, *arguments])


def aged(store: Quarantine, days: float, state: State = State.HELD) -> str:
    return keep(Quarantine(store.directory, lambda: time.time() - days * DAY), state=state).id


def states(store: Quarantine) -> dict[str, State]:
    return {name.id: name.state for name in store.names()}


def test_an_empty_quarantine_has_an_empty_list(store: Quarantine) -> None:
    result = run(store, "list")
    assert (result.exit_code, result.output) == (0, "")


def test_a_list_has_a_line_for_each_message_the_oldest_first(store: Quarantine) -> None:
    identifiers = [aged(store, days) for days in (0, 3, 2)]
    result = run(store, "list")
    assert result.exit_code == 0
    found = [line.split()[0] for line in result.stdout.splitlines()]
    assert found == sorted(identifiers)
    assert '<a@remote.example> -> <b@example.org>  clamd: Eicar-Signature  "Invoice"' in result.stdout


def test_a_list_in_json_has_an_object_a_line(store: Quarantine) -> None:
    keep(store, b"caf\xe9@example.org")
    keep(store)
    values = [json.loads(line) for line in run(store, "list", "--json").stdout.splitlines()]
    assert [value["recipients"] for value in values] == [["caf\\xe9@example.org"], ["b@example.org"]]
    assert {value["policy"] for value in values} == {"inbound"}


@pytest.mark.parametrize(
    ("options", "count"),
    [
        pytest.param(["--sender", "<>"], 1, id="the null sender"),
        pytest.param(["--recipient", "@example.org"], 3, id="a domain"),
        pytest.param(["--recipient", "x@example.org", "--recipient", "b@example.org"], 3, id="either of two"),
        pytest.param(["--client", "192.0.2.0/24"], 3, id="a network"),
        pytest.param(["--client", "198.51.100.1"], 0, id="another client"),
        pytest.param(["--reason", "phish"], 1, id="a reason"),
        pytest.param(["--scanner", "clamd"], 3, id="a scanner"),
        pytest.param(["--policy", "outbound"], 0, id="a policy"),
        pytest.param(["--state", "pending"], 1, id="a state"),
        pytest.param(["--state", "pending", "--state", "held"], 3, id="two states"),
        pytest.param(["--older-than", "5d"], 1, id="an age"),
        pytest.param(["--since", "2020-01-01"], 3, id="a day"),
        pytest.param(["--before", "2020-01-01T12:00:00+02:00"], 0, id="an hour"),
        pytest.param(
            ["--older-than", "5d", "--state", "pending"], 0, id="two things, of which one is not so"
        ),
    ],
)
def test_a_list_is_shortened_by_what_is_asked(store: Quarantine, options: list[str], count: int) -> None:
    aged(store, 10)
    keep(store, state=State.PENDING)
    keep(store, sender=mail(b"MAIL FROM:<>"), reason="clamd: Phishing")
    result = run(store, "list", *options)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == count


@pytest.mark.parametrize(
    "options",
    [
        ["--since", "yesterday"],
        ["--older-than", "5"],
        ["--sender", "example.org"],
        ["--client", "192.0.2.1/24"],
        ["--state", "lost"],
    ],
)
def test_what_cannot_be_read_is_a_usage_error(store: Quarantine, options: list[str]) -> None:
    assert run(store, "list", *options).exit_code == 2


def test_a_bad_configuration_ends_with_status_78(store: Quarantine) -> None:
    result = run(store, "list", more="max_agee = 3\n")
    assert result.exit_code == os.EX_CONFIG
    assert "quarantine.max_agee" in result.stderr


def test_a_damaged_file_is_listed_and_ends_with_status_1(store: Quarantine) -> None:
    Path(keep(store).path).write_bytes(b"")
    result = run(store, "list")
    assert result.exit_code == 1
    assert "cannot be read" in result.stdout


def test_a_directory_that_is_none_is_told(store: Quarantine) -> None:
    store.directory.write_text("not a directory")
    result = run(store, "list")
    assert result.exit_code == 1
    assert "Not a directory" in result.stderr


def test_a_message_is_shown(store: Quarantine) -> None:
    kept = keep(store)
    result = run(store, "show", kept.id[:-2])
    assert result.exit_code == 0
    assert f"id          {kept.id}" in result.stdout
    assert "rcpt 1      RCPT TO:<b@example.org>" in result.stdout
    assert "\nSubject: Invoice\n" in result.stdout
    assert json.loads(run(store, "show", kept.id, "--json").stdout)["mail_line"].startswith("MAIL FROM:<a@")


def test_raw_is_the_message_byte_for_byte(store: Quarantine) -> None:
    content = CONTENT + b"\x00\x1b\xff\r\n"
    kept = store.keep(record(), [content])
    assert run(store, "show", "--raw", kept.id).stdout_bytes == content


def test_raw_is_not_written_to_a_terminal(store: Quarantine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)
    result = run(store, "show", "--raw", keep(store).id)
    assert result.exit_code == 2
    assert "for a file or a pipe" in result.stderr
    assert "Hello" not in result.output


def test_raw_of_a_damaged_message_ends_with_status_1(store: Quarantine) -> None:
    path = Path(keep(store).path)
    path.write_bytes(path.read_bytes()[:-1])
    result = run(store, "show", "--raw", path.stem)
    assert result.exit_code == 1
    assert "damaged" in result.stderr


@pytest.mark.parametrize("identifier", ["2019", "../../etc/passwd", "\x1b[2J"])
def test_what_is_not_there_is_told_and_ends_with_status_1(store: Quarantine, identifier: str) -> None:
    for command in (["show", identifier], ["release", identifier], ["delete", identifier]):
        result = run(store, *command)
        assert result.exit_code == 1
        assert result.stderr.strip().isprintable()


def test_a_message_is_released_once(store: Quarantine) -> None:
    kept = keep(store)
    with Sink() as sink:
        first = run(store, "release", kept.id, upstream=sink.endpoint)
        second = run(store, "release", kept.id, upstream=sink.endpoint)
    assert (first.exit_code, first.stdout) == (0, f"{kept.id}: released as 3E9 to <b@example.org>\n")
    assert second.exit_code == 0
    assert second.stdout.startswith(f"{kept.id}: delivered already as 3E9, by a release at 20")
    (message,) = sink.messages
    assert message.content == CONTENT
    assert message.sender == b"MAIL FROM:<a@remote.example> SIZE=70 BODY=8BITMIME"
    assert message.recipients == [b"RCPT TO:<b@example.org>"]
    assert b"ADDR=192.0.2.7" in b" ".join(message.xforward)
    assert states(store) == {kept.id: State.RELEASED}


def test_several_are_released_and_each_has_its_line(store: Quarantine) -> None:
    kept = [keep(store).id for _ in range(3)]
    with Sink() as sink:
        result = run(store, "release", *kept, "2019", upstream=sink.endpoint)
    assert result.exit_code == 1
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == kept
    assert "2019: there is no such message" in result.stderr
    assert len(sink.messages) == 3


def test_a_message_goes_to_whom_it_is_told(store: Quarantine) -> None:
    kept = keep(store, b"b@example.org", b"c@example.org")
    with Sink() as sink:
        run(store, "release", kept.id, "--to", "abuse@example.org", upstream=sink.endpoint)
        run(store, "release", kept.id, "--recipient", "c@example.org", upstream=sink.endpoint)
        again = run(store, "release", kept.id, "--again", upstream=sink.endpoint)
    assert [message.recipients for message in sink.messages] == [
        [b"RCPT TO:<abuse@example.org>"],
        [b"RCPT TO:<c@example.org>"],
        [b"RCPT TO:<b@example.org>", b"RCPT TO:<c@example.org>"],
    ]
    assert again.exit_code == 0


@pytest.mark.parametrize(
    "options", [["--to", "a b@c"], ["--to", "a@b>"], ["--to", "a@b", "--recipient", "b@example.org"]]
)
def test_recipients_that_make_no_sense_are_usage_errors(store: Quarantine, options: list[str]) -> None:
    assert run(store, "release", "2019", *options).exit_code == 2


def test_a_server_that_is_not_there_leaves_it_held_and_says_why(store: Quarantine) -> None:
    kept = keep(store)
    result = run(store, "release", kept.id)
    assert result.exit_code == 1
    assert result.stdout == f"{kept.id}: not released: inet:127.0.0.1:1: Connection refused\n"
    assert states(store) == {kept.id: State.HELD}


def test_a_refusal_is_told_in_the_servers_words(store: Quarantine) -> None:
    kept = keep(store)
    with Sink() as sink:
        sink.refuse("RCPT", b"550 5.1.1 \x1b[2Jno such user")
        result = run(store, "release", kept.id, upstream=sink.endpoint)
    assert result.exit_code == 1
    assert r"not released: <b@example.org> 550 5.1.1 \x1b[2Jno such user" in result.stdout
    assert states(store) == {kept.id: State.HELD}


def test_an_outcome_that_nobody_knows_is_told_as_such(store: Quarantine) -> None:
    kept = keep(store)
    with Sink() as sink:
        sink.hang_up(".")
        lost = run(store, "release", kept.id, upstream=sink.endpoint)
        again = run(store, "release", kept.id, upstream=sink.endpoint)
    assert (lost.exit_code, again.exit_code) == (1, 1)
    assert "outcome unknown" in lost.stdout
    assert "in doubt" in again.stdout
    assert len(sink.messages) == 1
    assert states(store) == {kept.id: State.UNKNOWN}


def test_who_released_is_on_the_page(store: Quarantine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "alice\x1b[m")
    kept = keep(store)
    with Sink() as sink:
        run(store, "release", kept.id, upstream=sink.endpoint)
    with store.open(kept.id) as file:
        released = [event for event in file.events() if event.what is What.RELEASED]
    assert released[0].by.startswith("alice [m as ")
    assert " released by alice [m as " in run(store, "show", kept.id).stdout


def letter(store: Quarantine, *recipients: bytes, name: str = "mail.eml") -> Path:
    """A file out of the mailbox to which another host has sent what it kept."""
    message = Message.in_memory(CONTENT)
    added = edits(message, record(*recipients), new_id(time.time()))
    sent = b"".join(Edited(message, added, None, is_small=True).cleaned())
    store.directory.mkdir(exist_ok=True)
    path = store.directory.parent / name
    path.write_bytes(b"Return-Path: <>\nReceived: from x\n" + sent.replace(b"\r\n", b"\n"))
    return path


def test_a_message_in_a_file_is_shown_and_not_released_without_yes(store: Quarantine) -> None:
    file = letter(store, b"b@y", b"c@y")
    with Sink() as sink:
        result = run(store, "release", "--from-file", str(file), upstream=sink.endpoint)
        assert sink.connection_count == 0
    assert result.exit_code == 1
    assert "mail        MAIL FROM:<a@remote.example> SIZE=70 BODY=8BITMIME" in result.stdout
    assert "rcpt 2      RCPT TO:<c@y>" in result.stdout
    assert "client      remote.example[192.0.2.7]" in result.stdout
    assert "Subject: Invoice" in result.stdout
    assert "anybody can write such a file: add --yes" in result.stderr
    assert states(store) == {}


def test_a_message_in_a_file_is_released_as_it_came_and_once(store: Quarantine) -> None:
    file = letter(store, b"b@y", b"c@y")
    with Sink() as sink:
        first = run(store, "release", "--yes", "--from-file", str(file), upstream=sink.endpoint)
        assert first.exit_code == 0, first.output
        again = letter(store, b"b@y", b"c@y", name="other.eml")  # another message, if it looks the same
        (sent,) = sink.messages
        assert (sent.content, sent.recipients) == (CONTENT, [b"RCPT TO:<b@y>", b"RCPT TO:<c@y>"])
        assert sent.sender == b"MAIL FROM:<a@remote.example> SIZE=70 BODY=8BITMIME"
        second = run(store, "release", "--yes", "--from-file", str(file), upstream=sink.endpoint)
        assert second.exit_code == 0
        assert ": delivered already as " in second.stdout
        assert len(sink.messages) == 1
        assert (
            run(store, "release", "--yes", "--from-file", str(again), upstream=sink.endpoint).exit_code == 0
        )
        assert len(sink.messages) == 2
    assert set(states(store).values()) == {State.RELEASED}


def test_a_message_in_a_file_goes_to_one_of_its_recipients_and_later_to_the_others(store: Quarantine) -> None:
    file = letter(store, b"b@y", b"c@y")
    with Sink() as sink:
        release = ("release", "--yes", "--from-file", str(file))
        assert run(store, *release, "--recipient", "b@y", upstream=sink.endpoint).exit_code == 0
        assert run(store, *release, upstream=sink.endpoint).exit_code == 0
        assert [one.recipients for one in sink.messages] == [[b"RCPT TO:<b@y>"], [b"RCPT TO:<c@y>"]]


def test_files_that_are_no_such_messages_are_told_and_the_others_released(store: Quarantine) -> None:
    good, bad, changed = letter(store), store.directory.parent / "bad.eml", letter(store, name="changed.eml")
    bad.write_bytes(b"Subject: x\n\n\x1b[2Jtext\n")
    changed.write_bytes(changed.read_bytes().replace(b"Hello", b"Hullo"))
    with Sink() as sink:
        files = [word for file in (bad, changed, good) for word in ("--from-file", str(file))]
        result = run(store, "release", "--yes", *files, upstream=sink.endpoint)
        assert len(sink.messages) == 1
    assert result.exit_code == 1
    assert f"{bad}: it has no X-Bqfilter-Record" in result.stderr
    assert f"{changed}: its body is not what was kept" in result.stderr
    assert len(states(store)) == 1


def test_files_and_identifiers_are_not_mixed(store: Quarantine) -> None:
    assert run(store, "release").exit_code == 2
    assert run(store, "release", "--from-file", str(letter(store)), keep(store).id).exit_code == 2


def test_messages_are_deleted_by_name(store: Quarantine) -> None:
    first, second = keep(store).id, keep(store).id
    result = run(store, "delete", first)
    assert (result.exit_code, result.stdout) == (0, f"{first}: deleted\n")
    assert set(states(store)) == {second}


def test_messages_are_deleted_by_filters_only_with_yes(store: Quarantine) -> None:
    old, young = aged(store, 10), keep(store).id
    asked = run(store, "delete", "--older-than", "5d")
    assert asked.exit_code == 1
    assert "1 message would be deleted: add --yes" in asked.stderr
    assert old in asked.stdout
    assert set(states(store)) == {old, young}
    assert run(store, "delete", "--older-than", "5d", "--yes").exit_code == 0
    assert set(states(store)) == {young}
    assert run(store, "delete", "--older-than", "5d").exit_code == 0


@pytest.mark.parametrize("arguments", [[], ["--yes"], ["2019", "--policy", "inbound"]])
def test_delete_wants_names_or_filters(store: Quarantine, arguments: list[str]) -> None:
    assert run(store, "delete", *arguments).exit_code == 2


@pytest.mark.parametrize("state", [State.PENDING, State.RELEASING, State.UNKNOWN])
def test_what_is_not_settled_is_deleted_by_force_only(store: Quarantine, state: State) -> None:
    kept = keep(store)
    with store.claim(kept.id) as claim:
        claim.turn(state)
    refused = run(store, "delete", kept.id)
    assert refused.exit_code == 1
    assert f"is {state}" in refused.stderr
    assert run(store, "delete", kept.id, "--force").exit_code == 0
    assert states(store) == {}


def test_expire_goes_by_the_configuration(store: Quarantine) -> None:
    aged(store, 31)
    pending, young = aged(store, 40, State.PENDING), aged(store, 29)
    result = run(store, "expire")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].startswith("deleted 1 message, ")
    assert result.stdout.splitlines()[1].startswith("kept 2 messages, ")
    assert "1 pending: see `bqfilterd quarantine list --state pending`" in result.stdout
    assert set(states(store)) == {pending, young}


def test_expire_can_be_told_other_limits(store: Quarantine) -> None:
    aged(store, 31)
    assert "would delete 0 messages" in run(store, "expire", "--dry-run", "--max-age", "0s").stdout
    assert "would delete 1 message," in run(store, "expire", "--dry-run").stdout
    assert "deleted 1 message," in run(store, "expire", "--max-age", "0s", "--max-size", "1B").stdout


def test_expire_tells_what_it_could_not_delete(store: Quarantine) -> None:
    with store.claim(aged(store, 31)):
        result = run(store, "expire")
    assert result.exit_code == 1
    assert "not deleted: " in result.stderr


def test_expire_where_nothing_was_ever_kept_is_well(store: Quarantine) -> None:
    assert run(store, "expire").exit_code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_root_does_there_is_done_as_the_owner() -> None:
    """Files of root's would be out of the filter's reach, and links put there would lead root astray."""
    with short_directory("bqq-") as directory, Sink() as sink:
        store = Quarantine(directory / "quarantine")
        kept = keep(store)
        for path in (store.directory, *store.directory.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        config = configure(store, sink.endpoint)
        Path(config).chmod(0o600)
        command = [*COMMAND, "quarantine", "release", "--config", config, kept.id]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        (path,) = store.directory.rglob("*.released")
        assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)


def test_a_reader_that_has_enough_is_no_failure(store: Quarantine) -> None:
    for _ in range(3):
        keep(store)
    config = configure(store)
    command = f"{' '.join(COMMAND)} quarantine list --config {config} | head -n 1"
    done = subprocess.run(command, shell=True, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
