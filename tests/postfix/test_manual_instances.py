"""Several instances by docs/postfix.md: two Postfix with one bqfilterd, and two bqfilterd with one Postfix.

postmulti(1) and the units are tried in a box, by tests/systemd/test_instances.py.
"""

import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from bqfilter.config import load
from bqfilter.config.schema import Settings
from tests.doubles.components import require
from tests.doubles.dovecot_auth import authenticating
from tests.doubles.milter import ADDED, Signer, signing
from tests.doubles.programs import Bqfilterd, short_directory, start_bqfilterd

from .by_the_book import PostfixByTheBook, block, by_the_book
from .conftest import why_not
from .postfix_instance import fresh_address
from .smtp_client import PLAIN, SENDER, submit
from .test_manual import BEFORE_QUEUE, MASTER_CF
from .test_manual_submission import LETTER, MAIN, SUBMISSION, certify, send
from .test_manual_submission import PORTS as PUBLIC_PORTS

IN_FRONT, BEHIND = BEFORE_QUEUE.split("\n\n")
SIGNED = block("Several instances", MASTER_CF)
OUTBOUND = block("Several instances", "`/etc/bqfilter/outbound.toml`")
INBOUND = """\
[[listen]]
endpoint = "inet:127.0.0.1:10025"

[upstream]
endpoint = "inet:127.0.0.1:10026"
"""


@pytest.fixture(autouse=True)
def _postfix_can_be_started() -> None:
    require(why_not())


@contextmanager
def filtering(postfix: PostfixByTheBook, text: str, **tables: dict[str, Any]) -> Iterator[Bqfilterd]:
    """By the configuration of the page, in a directory of the test's own."""
    with short_directory("bqmi-") as directory:
        usual: dict[str, dict[str, Any]] = {
            "pool": {"workers": 3},
            "runtime": {"user": "nobody", "directory": str(directory / "run")},
            "quarantine": {"directory": str(directory / "quarantine")},
            **tables,
        }
        settings = tomllib.loads(postfix.moved(text))
        merged = {name: {**settings.get(name, {}), **table} for name, table in usual.items()}
        program = start_bqfilterd(directory, {**settings, **merged})
        try:
            yield program
        finally:
            assert program.stop() == 0


def test_a_border_instance_and_one_with_the_queue_share_a_filter() -> None:
    recipient = fresh_address()
    with (
        by_the_book(BEHIND) as behind,
        by_the_book(IN_FRONT, beside=behind) as border,
        filtering(behind, INBOUND),
    ):
        verdict = submit(border.at("smtp"), SENDER, [recipient], PLAIN)
        assert verdict.startswith(b"250 2.0.0 Ok: queued as ")
        (message,) = behind.inbox.wait_for(recipient)
        assert message.endswith(b"\n\nHello.\n")
        assert border.queue_is_empty()


@pytest.fixture
def signer() -> Iterator[Signer]:
    with signing() as signer:
        yield signer


def test_users_mail_is_signed_behind_a_filter_of_its_own_and_that_of_the_internet_is_not(
    signer: Signer,
) -> None:
    inbound, outbound = fresh_address(), fresh_address()
    entries = BEFORE_QUEUE + SUBMISSION + SIGNED.replace("127.0.0.1:8891", f"127.0.0.1:{signer.port}")
    with ExitStack() as stack:
        postfix = stack.enter_context(
            by_the_book(entries, MAIN, (*PUBLIC_PORTS, "after-submission"), certify)
        )
        stack.enter_context(authenticating(postfix.directory / "q" / "private" / "auth"))
        programs = [stack.enter_context(filtering(postfix, text)) for text in (INBOUND, OUTBOUND)]
        maillog = postfix.maillog_from_now()

        assert submit(postfix.at("smtp"), SENDER, [inbound], PLAIN).startswith(b"250 ")
        send(postfix, "submission", outbound, LETTER)
        (received,), (sent,) = postfix.inbox.wait_for(inbound), postfix.inbox.wait_for(outbound)
        assert (received.count(ADDED), sent.count(ADDED)) == (0, 1)
        assert [program.wait_for_results(1) for program in programs] == [["accepted"], ["accepted"]]
        assert signer.clients == ["127.0.0.1"], (
            "what the manual says that a milter behind takes for its client"
        )
        assert not maillog.trouble()


def test_what_two_of_them_cannot_share_each_has_to_itself(tmp_path: Path) -> None:
    first, second = (loaded(tmp_path, text) for text in (INBOUND, OUTBOUND))
    for own in ("listen", "runtime.directory", "quarantine.directory", "metrics.listen", "log.ident"):
        assert attrgetter(own)(first) != attrgetter(own)(second), own


def loaded(directory: Path, text: str) -> Settings:
    (directory / "bqfilterd.toml").write_text(text)
    return load(directory / "bqfilterd.toml")
