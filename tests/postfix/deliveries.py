"""What became of a message, judged by the mailbox: it arrived once and whole, or it never will."""

import re

from .postfix_instance import PostfixInstance, fresh_address
from .smtp_client import PLAIN, SENDER, submit

# Prepended by smtpd, cleanup and virtual(8); everything below the last of them is the message as it was sent.
TRACE_FIELDS = {b"return-path", b"x-original-to", b"delivered-to", b"received"}


def arrives_once(postfix: PostfixInstance, recipient: str, content: bytes) -> None:
    """Byte for byte, but for the trace fields that both Postfixes put above it."""
    postfix.inbox.wait_for(recipient)
    postfix.settle()
    (message,) = postfix.inbox.messages(recipient)
    local = content.replace(b"\r\n", b"\n")
    assert message[-len(local) :] == local
    assert _field_names(message[: -len(local)]) <= TRACE_FIELDS


def arrives_with(postfix: PostfixInstance, recipient: str, content: bytes) -> dict[bytes, bytes]:
    """It arrives once, with `content` at its end; other fields on top, unfolded, by name in lower case."""
    postfix.inbox.wait_for(recipient)
    postfix.settle()
    (message,) = postfix.inbox.messages(recipient)
    local = content.replace(b"\r\n", b"\n")
    assert message[-len(local) :] == local
    fields = [re.sub(rb"\n[ \t]+", b" ", line) for line in re.split(rb"\n(?![ \t])", message[: -len(local)])]
    pairs = [line.partition(b":")[::2] for line in fields if line]
    return {name.lower(): value.strip() for name, value in pairs if name.lower() not in TRACE_FIELDS}


def only_the_next_message_arrives(postfix: PostfixInstance, before: str, recipient: str) -> None:
    """Assert that what was sent to `recipient` is not delivered, by a filter that is working again.

    The filter must have a single worker: that it takes the next message shows that it is done with the last.
    """
    marker = fresh_address("marker")
    assert submit(postfix.at(before), SENDER, [marker], PLAIN).startswith(b"250 2.0.0 ")
    arrives_once(postfix, marker, PLAIN)
    assert not postfix.inbox.messages(recipient)


def _field_names(top: bytes) -> set[bytes]:
    return {line.partition(b":")[0].lower() for line in re.split(rb"\n(?![ \t])", top) if line}
