"""Trouble on either side: the remote client gets 451 and keeps the message, which is then never delivered."""

import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.doubles.programs import eventually
from tests.pool.scraper import scrape

from .conftest import Filters
from .deliveries import arrives_once, only_the_next_message_arrives
from .postfix_instance import MaillogView, PostfixInstance, fresh_address
from .smtp_client import PLAIN, SENDER, SmtpClient, submit

POSTFIX_OWN_WORDS = b"451 4.3.0 Error: queue file write error"

# More than Postfix keeps in its buffer before it writes to the filter: the filter is in the middle of it.
MUCH = b"Subject: much\r\n\r\n" + b"one line of very many\r\n" * 50_000


def test_without_bqfilterd_the_client_gets_451_in_the_words_of_postfix(
    postfix: PostfixInstance, maillog: MaillogView, mode: str
) -> None:
    assert verdict_on_message(postfix, f"before{mode}", fresh_address()) == POSTFIX_OWN_WORDS
    maillog.wait_for(r"warning: connect to proxy filter \S+: Connection refused")


def test_a_client_that_goes_away_in_the_middle_of_the_content_has_sent_nothing(
    postfix: PostfixInstance, filters: Filters, before: str
) -> None:
    filters.start(pool={"workers": 1})
    recipient = fresh_address()
    with SmtpClient(postfix.at(before)) as client:
        client.begin(SENDER, [recipient])
        client.send(MUCH)
    only_the_next_message_arrives(postfix, before, recipient)


def test_a_client_that_resets_the_connection_has_sent_nothing(
    postfix: PostfixInstance, filters: Filters, before: str
) -> None:
    filters.start(pool={"workers": 1})
    recipient = fresh_address()
    client = SmtpClient(postfix.at(before))
    client.begin(SENDER, [recipient])
    client.send(MUCH)
    client.reset()
    only_the_next_message_arrives(postfix, before, recipient)


def test_the_quit_that_postfix_puts_behind_half_a_message_does_not_end_it(
    postfix: PostfixInstance, filters: Filters
) -> None:
    """Without the dot, the QUIT of the before-filter server is content, and what came is no message."""
    filters.start(pool={"workers": 1})
    recipient = fresh_address()
    with SmtpClient(postfix.at("before")) as client:
        client.begin(SENDER, [recipient])
        client.send(b"Subject: half a message\r\n\r\nand then\r\n")
    only_the_next_message_arrives(postfix, "before", recipient)


@pytest.mark.parametrize("upstream", [1, 100], ids=["a connection each", "kept"])
def test_an_after_filter_server_that_is_down_gives_451_in_our_words_until_it_is_back(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, before: str, upstream: int
) -> None:
    filters.start(pool={"workers": 1}, upstream={"max_messages_per_connection": upstream})
    lost, found = fresh_address(), fresh_address()
    assert submit(postfix.at(before), SENDER, [fresh_address()], PLAIN).startswith(b"250 ")
    postfix.stop_service("after")
    try:
        verdict = verdict_on_message(postfix, before, lost)
    finally:
        postfix.start_service("after")
    is_our_451(verdict)
    maillog.wait_for(
        rf"postfix/{before}/.*: proxy \S+ rejected \"(MAIL|RCPT) |proxy-reject: END-OF-MESSAGE: 451"
    )
    assert submit(postfix.at(before), SENDER, [found], PLAIN).startswith(b"250 ")
    arrives_once(postfix, found, PLAIN)
    assert not postfix.inbox.messages(lost)


@pytest.fixture
def mute(postfix: PostfixInstance) -> Iterator[None]:
    """A server that takes connections at "elsewhere" and never says a word."""
    with socket.create_server(postfix.at("elsewhere")):
        yield


# Postfix waits 6 s where it is to have an answer of ours, 3 s where it is to give up before there is one.
# The after-filter server that is slow asks for content after 5 s, the thoughtful one answers the dot after 8.
SIX_SECONDS = {"proxy_timeout": "6s", "margin": "4s", "commit_reserve": "500ms"}
LIMITS = {
    "by the limit of the greeting": {"timeouts": {"greeting": "1s"}},
    "by the budget": {"budget": SIX_SECONDS},
}


@pytest.mark.usefixtures("mute")
@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_an_after_filter_server_that_is_mute_gives_451_in_our_words(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, mode: str, limits: dict[str, Any]
) -> None:
    filters.start("elsewhere", **limits)
    is_our_451(verdict_on_message(postfix, f"hasty{mode}", fresh_address()))
    assert not maillog.matches("timeout talking to proxy")


def test_a_filter_that_knows_how_long_postfix_waits_answers_before_that(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, mode: str
) -> None:
    bqfilterd = filters.start("after-slow", budget=SIX_SECONDS)
    recipient = fresh_address()
    is_our_451(submit(postfix.at(f"hasty{mode}"), SENDER, [recipient], PLAIN))
    maillog.wait_for(r"postfix/after-slow/smtpd\S+: disconnect from")
    postfix.settle()
    assert not postfix.inbox.messages(recipient)
    assert bqfilterd.wait_for_results(1) == ["tempfailed"]
    assert not maillog.matches("timeout talking to proxy")


def test_a_message_postfix_has_given_up_is_not_delivered_later(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, mode: str
) -> None:
    """bqfilterd was told that Postfix waits 100 s, which is not true."""
    bqfilterd = filters.start("after-slow")
    recipient = fresh_address()
    assert submit(postfix.at(f"impatient{mode}"), SENDER, [recipient], PLAIN) == POSTFIX_OWN_WORDS
    maillog.wait_for(r"warning: timeout talking to proxy")
    maillog.wait_for(r"postfix/after-slow/smtpd\S+: disconnect from")
    postfix.settle()
    assert not postfix.inbox.messages(recipient)
    assert bqfilterd.wait_for_results(1) == ["client_abort"]


def test_a_message_postfix_gives_up_behind_the_dot_is_delivered_counted_and_told_of(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView
) -> None:
    """The window that is left, as wide as it gets: bqfilterd was told that Postfix waits 100 s, not 3."""
    bqfilterd = filters.start("after-thoughtful", metrics={"listen": "inet:127.0.0.1:0"})
    recipient = fresh_address()
    assert submit(postfix.at("impatient"), SENDER, [recipient], PLAIN) == POSTFIX_OWN_WORDS
    maillog.wait_for(r"warning: timeout talking to proxy")
    queue_id = bqfilterd.wait_for_log(r"possible duplicate queued_as=(\w+)")[1]
    arrives_once(postfix, recipient, PLAIN)
    assert bqfilterd.wait_for_results(1) == ["accepted"]
    assert bqfilterd.queue_ids()[0] == queue_id
    eventually(lambda: scrape(bqfilterd).value("messages_unheard_total") == 1, "one message unheard")


def test_a_reply_to_the_dot_that_does_not_come_in_time_is_451_in_our_words_counted_and_told_of(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView
) -> None:
    """The same with the right budget: the server takes 8 s for the dot, and Postfix waits 6."""
    bqfilterd = filters.start("after-thoughtful", budget=SIX_SECONDS, metrics={"listen": "inet:127.0.0.1:0"})
    recipient = fresh_address()
    is_our_451(submit(postfix.at("hasty"), SENDER, [recipient], PLAIN))
    bqfilterd.wait_for_log(r"result=outcome_unknown .*possible duplicate")
    arrives_once(postfix, recipient, PLAIN)
    assert not maillog.matches("timeout talking to proxy")
    results = {"result": "outcome_unknown"}
    eventually(lambda: scrape(bqfilterd).value("messages_total", **results) == 1, "one outcome unknown")


def test_a_worker_killed_while_it_hands_over_has_delivered_nothing(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, before: str
) -> None:
    bqfilterd = filters.start("after-slow", pool={"workers": 1})
    recipient = fresh_address()
    with SmtpClient(postfix.at(before)) as client:
        client.begin(SENDER, [recipient])
        client.send(PLAIN + b".\r\n")
        maillog.wait_for(r"postfix/after-slow/smtpd\S+: \w+: client=")
        for pid in bqfilterd.workers():
            os.kill(pid, signal.SIGKILL)
        assert client.reply() == POSTFIX_OWN_WORDS
    maillog.wait_for(r"postfix/after-slow/smtpd\S+: disconnect from")
    postfix.settle()
    assert not postfix.inbox.messages(recipient)


def test_an_after_filter_server_that_dies_with_the_message_in_hand_is_451_and_loudly_logged(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView
) -> None:
    """Whether it had the message is unknown to all but itself; this one had not."""
    bqfilterd = filters.start("after-pensive")
    recipient = fresh_address()
    with SmtpClient(postfix.at("before")) as client:
        client.begin(SENDER, [recipient])
        client.send(PLAIN + b".\r\n")
        server = maillog.wait_for(r"postfix/after-pensive/smtpd\[(\d+)\]: .*the whole message is here")
        os.kill(int(server[1]), signal.SIGKILL)
        is_our_451(client.reply())
    postfix.settle()
    assert not postfix.inbox.messages(recipient)
    assert bqfilterd.wait_for_results(1) == ["outcome_unknown"]
    assert "possible duplicate" in bqfilterd.log()


def test_a_kept_connection_the_after_filter_server_has_closed_is_replaced_unnoticed(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, before: str
) -> None:
    filters.start("after-hasty", pool={"workers": 1}, upstream={"max_messages_per_connection": 100})
    first, second = fresh_address(), fresh_address()
    assert submit(postfix.at(before), SENDER, [first], PLAIN).startswith(b"250 2.0.0 ")
    maillog.wait_for(r"postfix/after-hasty/smtpd\S+: (?:NOQUEUE: )?timeout after END-OF-MESSAGE")
    assert submit(postfix.at(before), SENDER, [second], PLAIN).startswith(b"250 2.0.0 ")
    arrives_once(postfix, first, PLAIN)
    arrives_once(postfix, second, PLAIN)


def test_of_two_messages_under_way_only_that_of_the_killed_worker_is_lost(
    postfix: PostfixInstance, filters: Filters
) -> None:
    bqfilterd = filters.start(pool={"workers": 2})
    recipients = [fresh_address(), fresh_address()]
    with SmtpClient(postfix.at("before")) as one, SmtpClient(postfix.at("before")) as two:
        for client, recipient in zip((one, two), recipients, strict=True):
            client.begin(SENDER, [recipient])
            client.send(MUCH)
        victim = min(bqfilterd.workers())
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: victim not in bqfilterd.workers(), "the worker is gone")
        verdicts = [client.end(b"the end\r\n") for client in (one, two)]
    assert sorted(verdict[:9] for verdict in verdicts) == [b"250 2.0.0", b"451 4.3.0"]
    assert POSTFIX_OWN_WORDS in verdicts
    for verdict, recipient in zip(verdicts, recipients, strict=True):
        if verdict.startswith(b"250"):
            arrives_once(postfix, recipient, MUCH + b"the end\r\n")
        else:
            only_the_next_message_arrives(postfix, "before", recipient)
    eventually(lambda: len(bqfilterd.workers()) == 2, "the pool is whole again")


def test_killed_workers_are_replaced_and_the_next_message_is_fine(
    postfix: PostfixInstance, filters: Filters, before: str
) -> None:
    bqfilterd = filters.start(pool={"workers": 2})
    first = bqfilterd.workers()
    assert submit(postfix.at(before), SENDER, [fresh_address()], PLAIN).startswith(b"250 ")
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    found = fresh_address()
    assert submit(postfix.at(before), SENDER, [found], PLAIN).startswith(b"250 ")
    arrives_once(postfix, found, PLAIN)
    eventually(lambda: len(bqfilterd.workers() - first) == 2, "the pool is whole again")


def test_sigterm_lets_a_message_under_way_be_finished_or_kept_by_its_sender(
    postfix: PostfixInstance, filters: Filters
) -> None:
    """Whichever of the two it is, what the client was told is what happened."""
    bqfilterd = filters.start(pool={"workers": 1})
    recipient = fresh_address()
    with SmtpClient(postfix.at("before")) as client:
        client.begin(SENDER, [recipient])
        client.send(MUCH)
        bqfilterd.signal(signal.SIGTERM)
        verdict = client.end(b"the end\r\n")
    assert bqfilterd.process.wait(30) == 0
    postfix.settle()
    assert verdict[:4] in (b"250 ", b"451 ")
    assert len(postfix.inbox.messages(recipient)) == (1 if verdict.startswith(b"250") else 0)


def verdict_on_message(postfix: PostfixInstance, before: str, recipient: str) -> bytes:
    """The first refusal on the way, or the verdict."""
    with SmtpClient(postfix.at(before)) as client:
        client.greet()
        client.expect(b"250", b"MAIL FROM:<a@remote.example>")
        refusal = client.command(b"RCPT TO:<%s>" % recipient.encode())
        if refusal.startswith(b"250"):
            client.expect(b"354", b"DATA")
            return client.end(PLAIN)
        return refusal


def is_our_451(reply: bytes) -> None:
    assert reply.startswith(b"451 4.")
    assert reply != POSTFIX_OWN_WORDS
