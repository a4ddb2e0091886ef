"""What the after-filter server refuses, the remote client is told in its words, and nothing is queued."""

import pytest

from .conftest import Filters
from .deliveries import arrives_once, only_the_next_message_arrives
from .postfix_instance import MaillogView, PostfixInstance, fresh_address
from .smtp_client import PLAIN, SENDER, SmtpClient, submit


def stranger_refusal(address: str) -> bytes:
    return f"550 5.1.1 <{address}>: Recipient address rejected: nobody here of that name".encode()


def test_a_refused_recipient_is_refused_at_rcpt_and_the_others_get_the_mail(
    postfix: PostfixInstance, filters: Filters
) -> None:
    filters.start()
    stranger, first, second = fresh_address("stranger"), fresh_address(), fresh_address()
    with SmtpClient(postfix.at("before")) as client:
        client.greet()
        client.expect(b"250", b"MAIL FROM:<a@remote.example>")
        client.expect(b"250", b"RCPT TO:<%s>" % first.encode())
        assert client.command(b"RCPT TO:<%s>" % stranger.encode()) == stranger_refusal(stranger)
        client.expect(b"250", b"RCPT TO:<%s>" % second.encode())
        client.expect(b"354", b"DATA")
        assert client.end(PLAIN).startswith(b"250 2.0.0 ")
    arrives_once(postfix, first, PLAIN)
    arrives_once(postfix, second, PLAIN)
    postfix.settle()
    assert not postfix.inbox.messages(stranger)


def test_a_first_recipient_that_is_refused_does_not_spoil_the_next(
    postfix: PostfixInstance, filters: Filters
) -> None:
    filters.start()
    stranger, good = fresh_address("stranger"), fresh_address()
    with SmtpClient(postfix.at("before")) as client:
        client.greet()
        client.expect(b"250", b"MAIL FROM:<a@remote.example>")
        assert client.command(b"RCPT TO:<%s>" % stranger.encode()) == stranger_refusal(stranger)
        client.expect(b"250", b"RCPT TO:<%s>" % good.encode())
        client.expect(b"354", b"DATA")
        assert client.end(PLAIN).startswith(b"250 2.0.0 ")
    arrives_once(postfix, good, PLAIN)


def test_with_speed_adjust_a_refused_recipient_is_the_verdict_on_the_message(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView
) -> None:
    filters.start(pool={"workers": 1})
    good, stranger = fresh_address(), fresh_address("stranger")
    refusal = stranger_refusal(stranger)
    assert submit(postfix.at("before-speed"), SENDER, [good, stranger], PLAIN) == refusal
    maillog.wait_for(r"postfix/before-speed/.*proxy-reject: END-OF-MESSAGE: 550 5\.1\.1 ")
    only_the_next_message_arrives(postfix, "before-speed", good)


def test_a_recipient_that_is_deferred_is_deferred_in_the_same_words(
    postfix: PostfixInstance, filters: Filters
) -> None:
    filters.start()
    later = fresh_address("later")
    with SmtpClient(postfix.at("before")) as client:
        client.greet()
        client.expect(b"250", b"MAIL FROM:<a@remote.example>")
        reply = client.command(b"RCPT TO:<%s>" % later.encode())
    assert reply == f"450 4.2.0 <{later}>: Recipient address rejected: come back later".encode()


def test_an_after_filter_server_that_hangs_up_does_not_hang_up_the_remote_client(
    postfix: PostfixInstance, filters: Filters
) -> None:
    filters.start()
    good = fresh_address()
    with SmtpClient(postfix.at("before")) as client:
        client.greet()
        client.expect(b"250", b"MAIL FROM:<a@remote.example>")
        assert client.command(b"RCPT TO:<%s>" % fresh_address("hangup").encode()).startswith(b"451 4.")
        client.expect(b"250", b"RSET")
        client.begin(SENDER, [good])
        assert client.end(PLAIN).startswith(b"250 2.0.0 ")
    arrives_once(postfix, good, PLAIN)


def test_hanging_up_at_the_end_of_a_replay_does_not_hang_up_the_remote_client_either(
    postfix: PostfixInstance, filters: Filters
) -> None:
    filters.start()
    with SmtpClient(postfix.at("before-speed")) as client:
        client.begin(SENDER, [fresh_address("hangup")])
        assert client.end(PLAIN).startswith(b"451 4.")
        client.begin(SENDER, [fresh_address()])
        assert client.end(PLAIN).startswith(b"250 2.0.0 ")


def test_a_message_without_one_good_recipient_does_not_occupy_a_worker_for_ever(
    postfix: PostfixInstance, filters: Filters
) -> None:
    filters.start(pool={"workers": 1})
    with SmtpClient(postfix.at("before")) as client:
        client.greet()
        client.expect(b"250", b"MAIL FROM:<a@remote.example>")
        client.expect(b"550", b"RCPT TO:<%s>" % fresh_address("stranger").encode())
        client.expect(b"554", b"DATA")
        client.expect(b"221", b"QUIT")
    assert submit(postfix.at("before"), SENDER, [fresh_address()], PLAIN).startswith(b"250 ")


@pytest.mark.parametrize("upstream", [1, 100], ids=["a connection each", "kept"])
def test_a_message_too_big_for_the_after_filter_server_is_refused_in_its_words(
    postfix: PostfixInstance, filters: Filters, before: str, upstream: int
) -> None:
    filters.start("after-small", pool={"workers": 1}, upstream={"max_messages_per_connection": upstream})
    recipient = fresh_address()
    verdict = submit(postfix.at(before), SENDER, [recipient], PLAIN + b"0123456789\r\n" * 20_000)
    assert verdict == b"552 5.3.4 Error: message file too big"
    only_the_next_message_arrives(postfix, before, recipient)


def test_a_size_that_is_announced_is_refused_before_the_content_is_sent(
    postfix: PostfixInstance, filters: Filters
) -> None:
    filters.start("after-small")
    with SmtpClient(postfix.at("before")) as client:
        client.greet()
        client.expect(b"250", b"MAIL FROM:<a@remote.example> SIZE=200000")
        reply = client.command(b"RCPT TO:<%s>" % fresh_address().encode())
    assert reply == b"552 5.3.4 Message size exceeds fixed limit"


@pytest.mark.parametrize("upstream", [1, 100], ids=["a connection each", "kept"])
def test_content_the_after_filter_server_refuses_is_refused_in_its_words(
    postfix: PostfixInstance, filters: Filters, maillog: MaillogView, before: str, upstream: int
) -> None:
    filters.start(pool={"workers": 1}, upstream={"max_messages_per_connection": upstream})
    recipient = fresh_address()
    content = b"X-Unwanted: yes\r\n" + PLAIN
    assert submit(postfix.at(before), SENDER, [recipient], content) == b"550 5.7.1 not wanted here"
    maillog.wait_for(rf"postfix/{before}/.*proxy-reject: END-OF-MESSAGE: 550 5\.7\.1 not wanted here;")
    only_the_next_message_arrives(postfix, before, recipient)


@pytest.mark.parametrize("upstream", [1, 100], ids=["a connection each", "kept"])
@pytest.mark.parametrize("action", ["reject", "discard"])
def test_what_a_policy_does_not_pass_on_leaves_nothing_open_behind_the_filter(
    postfix: PostfixInstance, filters: Filters, before: str, upstream: int, action: str
) -> None:
    unwanted = {"name": "unwanted", "senders": ["@unwanted.example"], "action": action}
    filters.start(pool={"workers": 1}, upstream={"max_messages_per_connection": upstream}, policy=[unwanted])
    recipient = fresh_address()
    verdict = submit(postfix.at(before), "a@unwanted.example", [recipient], PLAIN)
    assert verdict.startswith(b"550 5.7.1 " if action == "reject" else b"250 2.0.0 ")
    postfix.settle()
    only_the_next_message_arrives(postfix, before, recipient)
