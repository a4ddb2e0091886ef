"""One message in, one message out: no line ending makes the after-filter server see a second message.

Postfix as an after-filter server ends content at more than CRLF.CRLF when its client is exempt, as the filter
always is. A filter that copies bytes lets a remote client put a message of its own behind such an ending.
"""

import base64
import itertools
import os
import re
from collections.abc import Iterator, Sequence

import pytest

from .conftest import Filters
from .postfix_instance import PostfixInstance, fresh_address
from .smtp_client import SENDER, SmtpClient

ENDINGS = [
    b"\n.\n",
    b"\r\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r.\n",
    b"\r\n.\r\r\n",
    b"\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n.\r\r\r\n",
    b"\r\n\r.\r\n",
    b"\r\n.\x00\r\n",
    b"\r\n\x00.\r\n",
    b"\n\n.\n\n",
]

AFTER = ["after-trusting", "after-exempting"]

# All there is of CR, LF and NUL, up to three of them, on either side of a dot or two.
SIDES = [bytes(side) for length in range(4) for side in itertools.product(b"\r\n\0", repeat=length)]
END = b"\r\n.\r\n"


def combinations(dots: bytes) -> list[bytes]:
    """All but those that are the end of data."""
    found = (left + dots + right for left, right in itertools.product(SIDES, SIDES))
    return [ending for ending in found if END not in ending]


# Each of them in a message of its own takes many minutes: on request.
if "BQFILTER_LONG_TESTS" in os.environ:
    ENDINGS += [*combinations(b"."), *combinations(b"..")]


class Attack:
    """A message, an ending, and what would be a transaction if the ending were one."""

    def __init__(self, ending: bytes) -> None:
        self.ending = ending
        self.outer = fresh_address("outer")
        self.hidden = fresh_address("hidden")

    def content(self) -> bytes:
        hidden = b"MAIL FROM:<boss@remote.example>\r\nRCPT TO:<%s>\r\nDATA\r\n" % self.hidden.encode()
        return b"Subject: outer\r\n\r\nbefore" + self.ending + hidden + b"Subject: hidden\r\n\r\ngotcha\r\n"

    def run(self, server: tuple[str, int]) -> bytes:
        """The whole attack in one piece; all the replies to it."""
        with SmtpClient(server) as client:
            client.begin(SENDER, [self.outer])
            client.send(self.content() + b".\r\nQUIT\r\n")
            return client.received_until_closed()


@pytest.mark.parametrize("after", AFTER)
def test_the_after_filter_server_alone_is_fooled(postfix: PostfixInstance, after: str) -> None:
    """Otherwise the tests below would show nothing."""
    attacks = [Attack(b"\n.\n"), Attack(b"\r\n.\r\r\n")]
    for attack in attacks:
        attack.run(postfix.at(after))
    postfix.settle()
    assert [len(postfix.inbox.messages(attack.hidden)) for attack in attacks] == [1, 1]


@pytest.mark.parametrize("upstream", [1, 100], ids=["a connection each", "kept"])
@pytest.mark.parametrize("after", AFTER)
def test_nothing_is_smuggled_through_bqfilterd(
    postfix: PostfixInstance, filters: Filters, after: str, upstream: int
) -> None:
    filters.start(after, upstream={"max_messages_per_connection": upstream})
    one_message_each(postfix, "filter", ENDINGS)


@pytest.mark.parametrize("after", AFTER)
def test_nothing_is_smuggled_from_a_remote_client(
    postfix: PostfixInstance, filters: Filters, mode: str, after: str
) -> None:
    """A before-filter server that insists on CRLF.CRLF hands the other endings on as content."""
    filters.start(after, upstream={"max_messages_per_connection": 100})
    one_message_each(postfix, f"strict{mode}", ENDINGS)


def one_message_each(postfix: PostfixInstance, server: str, endings: list[bytes]) -> None:
    attacks = [Attack(ending) for ending in endings]
    replies = {a.ending: a.run(postfix.at(server)) for a in attacks}
    postfix.settle()
    assert {a.ending for a in attacks if postfix.inbox.messages(a.hidden)} == set()
    accepted = {ending: reply.count(b"250 2.0.0 Ok: queued as") for ending, reply in replies.items()}
    assert accepted == dict.fromkeys(endings, 1)
    assert {a.ending: len(postfix.inbox.messages(a.outer)) for a in attacks} == dict.fromkeys(endings, 1)


def test_the_true_end_is_seen_however_it_is_cut(postfix: PostfixInstance, filters: Filters) -> None:
    bqfilterd = filters.start(pool={"workers": 1})
    with SmtpClient(postfix.at("filter")) as client:
        for number in range(6):
            client.begin(SENDER, [fresh_address()])
            ending = b"\r\n.\r\n"
            rest = [bytes([byte]) for byte in ending[number:]]
            client.send(b"Subject: cut\r\n\r\nx" + ending[:number], *rest)
            assert client.reply().startswith(b"250 2.0.0 ")
    assert bqfilterd.wait_for_results(6) == ["accepted"] * 6


def delivered(plain: bytes) -> bytes:
    """Content freed of strays, as a file has it."""
    return re.sub(rb"\r(?!\n)", b" ", re.sub(rb"(?<!\r)\n", b"\r\n", plain)).replace(b"\r\n", b"\n")


class ManyAttacks:
    """One message with many endings, and behind each of them what would be a transaction of its own."""

    def __init__(self, endings: Sequence[bytes]) -> None:
        self.outer = fresh_address("outer")
        self.hidden = {fresh_address("hidden"): ending for ending in endings}
        self.content = b"Subject: outer\r\n\r\n" + b"".join(self._parts())

    def _parts(self) -> Iterator[bytes]:
        for address, ending in self.hidden.items():
            yield (
                b"before" + ending + b"MAIL FROM:<boss@remote.example>\r\nRCPT TO:<%b>\r\n" % address.encode()
            )
            yield b"DATA\r\nSubject: hidden\r\n\r\ngotcha\r\n"

    def run(self, server: tuple[str, int]) -> bytes:
        """All in one piece; all the replies to it."""
        with SmtpClient(server) as client:
            client.begin(SENDER, [self.outer])
            client.send(self.content + b".\r\nQUIT\r\n")
            return client.received_until_closed()

    def smuggled(self, postfix: PostfixInstance) -> list[bytes]:
        """The endings that were taken for one."""
        return [self.hidden[address] for address in self.hidden.keys() & postfix.inbox.recipients()]

    @property
    def expected(self) -> bytes:
        """One message of all that, to its last byte."""
        return delivered(re.sub(rb"(\A|\r\n)\.", rb"\1", self.content))


def test_the_after_filter_server_alone_is_fooled_by_some_combinations(postfix: PostfixInstance) -> None:
    attacks = ManyAttacks(combinations(b"."))
    attacks.run(postfix.at("after-exempting"))
    postfix.settle()
    assert attacks.smuggled(postfix)


@pytest.mark.parametrize("dots", [b".", b".."], ids=["a dot", "two dots"])
@pytest.mark.parametrize("after", AFTER)
def test_no_combination_of_line_ends_around_dots_makes_two_messages_of_one(
    postfix: PostfixInstance, filters: Filters, after: str, dots: bytes
) -> None:
    filters.start(after, upstream={"max_messages_per_connection": 100})
    attacks = ManyAttacks(combinations(dots))
    assert len(attacks.hidden) > 1400

    replies = attacks.run(postfix.at("filter"))

    postfix.settle()
    assert attacks.smuggled(postfix) == []
    assert replies.count(b"250 2.0.0 Ok: queued as") == 1
    (message,) = postfix.inbox.messages(attacks.outer)
    assert message.endswith(attacks.expected)


DECODING = """\
import base64
from bqfilter.api import accept


def decoded(message, envelope):
    body = base64.b64decode(b"".join(message.body()))
    return accept().add_header("X-Decoded", body[:20000].decode("latin-1")).replace_body([body])
"""


def test_what_a_filter_decodes_cannot_end_the_data_either(
    postfix: PostfixInstance, filters: Filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in a body nor in a header; there the end of data itself is content, too."""
    (filters.directory / "decoding.py").write_text(DECODING)
    monkeypatch.setenv("PYTHONPATH", str(filters.directory))
    filters.start("after-exempting", python=[{"filter": "decoding:decoded"}], policy=[{"name": "all"}])
    attacks = ManyAttacks([END, *combinations(b"."), b"\r\n" + END])
    body = attacks.content.partition(b"\r\n\r\n")[2]
    outer = b"Subject: outer\r\n\r\n" + base64.encodebytes(body).replace(b"\n", b"\r\n")

    with SmtpClient(postfix.at("filter")) as client:
        client.begin(SENDER, [attacks.outer])
        assert client.end(outer).startswith(b"250 2.0.0 Ok: queued as")

    postfix.settle()
    assert attacks.smuggled(postfix) == []
    (message,) = postfix.inbox.messages(attacks.outer)
    assert message.endswith(b"\n\n" + delivered(body))
    assert message.count(b"\nX-Decoded: ") == 1
