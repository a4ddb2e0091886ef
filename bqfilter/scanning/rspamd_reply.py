"""What Rspamd answered, read from its JSON into values of known types.

All that is read is checked: a reply that lacks what every reply has, or has it in another type, raises
ScannerFailure, so that neither half an answer nor an empty one is taken for a clean message. What nobody here
asks for is not looked at. Texts stay as they are, those of the message's author among them: whoever uses one
cleans it. Bytes that are no UTF-8 are replaced and control characters let through, since an author can put
both there, and must not be able to stop the scan of his message.

The shapes are those of Rspamd 3.4 and of rspamd_milter_process_milter_block() in its milter.c.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from bqfilter.errors import ScannerFailure

APPEND = -1  # the order of a header field that goes behind all others
ALL = 0  # the place of "every field of that name" in what is to be removed
MAX_HEADER_CHANGES = 500  # a site has a dozen; each costs time with every field of a long header
_NAME_OF_SPAM_HEADER = "X-Spam"  # what Rspamd's own milter calls it where its configuration says nothing
_INSTEAD_OF_REJECT = ("discard", "quarantine")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Symbol:
    """A rule that had something to say."""

    name: str
    score: float


@dataclass(frozen=True, slots=True)
class AddedHeader:
    """`order` 0 and more count places from the top, -1 and less from the end."""

    name: str
    value: str
    order: int = APPEND


@dataclass(frozen=True, slots=True)
class RemovedHeader:
    """`nth` of that name, from 1; negative from the end; ALL."""

    name: str
    nth: int = ALL


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. `text` is for the client; `required` is None where nothing is ever rejected by score.

    Rspamd judges an empty request as well, and finds nothing in it: without `has_message` there was none.
    """

    action: str
    score: float
    required: float | None
    is_skipped: bool
    has_message: bool
    symbols: tuple[Symbol, ...] = ()
    text: str = ""
    subject: str | None = None
    signatures: tuple[str, ...] = ()
    removed: tuple[RemovedHeader, ...] = ()
    added: tuple[AddedHeader, ...] = ()
    added_recipients: tuple[str, ...] = ()
    deleted_recipients: tuple[str, ...] = ()
    is_not_to_be_applied: bool = False


def parse_answer(body: bytes) -> Answer:
    """The answer to /checkv2. Raises ScannerFailure."""
    top = _parse(body)
    milter = _table(top, "milter")
    action = _text(top, "action")
    changes = (tuple(_removed(milter, action)), tuple(_added(milter, action)))
    if sum(map(len, changes)) > MAX_HEADER_CHANGES:
        _fail("too many header changes")
    return Answer(
        action=_instead(milter, action),
        score=_number(top, "score"),
        required=_number(top, "required_score") if top.get("required_score") is not None else None,
        is_skipped=_flag(top, "is_skipped"),
        has_message="message-id" in top,
        symbols=tuple(_symbols(top)),
        text=_text_for_client(top),
        subject=_text(top, "subject") if "subject" in top else None,
        signatures=_texts(top, "dkim-signature"),
        removed=changes[0],
        added=changes[1],
        added_recipients=_texts(milter, "add_rcpt"),
        deleted_recipients=_texts(milter, "del_rcpt"),
        is_not_to_be_applied="no_action" in milter and _flag(milter, "no_action"),
    )


def parse_error(body: bytes) -> str:
    """What an error response says, empty where that cannot be read."""
    try:
        return _text(_parse(body), "error")
    except ScannerFailure:
        return ""


def _parse(body: bytes) -> Json:
    try:
        top = json.loads(body.decode("utf-8", "replace"), parse_constant=_fail, strict=False)
    except (ValueError, RecursionError) as error:
        raise ScannerFailure(f"its answer is not JSON: {error}") from error
    return top if isinstance(top, dict) else _fail("no object")


def _instead(milter: Json, action: str) -> str:
    """A milter reply may say what is done instead of a reject."""
    instead = milter.get("reject")
    return instead if action == "reject" and instead in _INSTEAD_OF_REJECT else action


def _symbols(top: Json) -> Iterator[Symbol]:
    if "symbols" not in top:
        _fail("symbols are missing")
    for name, value in _table(top, "symbols").items():
        yield Symbol(name, _number(_as_table(value, "symbols"), "score"))


def _text_for_client(top: Json) -> str:
    messages = top.get("messages", {})
    if isinstance(messages, list):  # `compat_messages`: which of them is meant for the client is not told
        return ""
    return next(iter(_texts(_as_table(messages, "messages"), "smtp_message")), "")


def _removed(milter: Json, action: str) -> Iterator[RemovedHeader]:
    for name, value in _table(milter, "remove_headers").items():
        for nth in value if isinstance(value, list) else [value]:
            yield RemovedHeader(name, _as_integer(nth, "remove_headers"))
    for name, _ in _spam_headers(milter, action):
        yield RemovedHeader(name)


def _added(milter: Json, action: str) -> Iterator[AddedHeader]:
    """A value is a text, a table of text and order, or a list of either."""
    for name, value in _table(milter, "add_headers").items():
        for one in value if isinstance(value, list) else [value]:
            yield _added_header(name, one)
    for name, text in _spam_headers(milter, action):
        yield AddedHeader(name, text)


def _added_header(name: str, value: object) -> AddedHeader:
    if isinstance(value, str):
        return AddedHeader(name, value)
    table = _as_table(value, "add_headers")
    order = table.get("order", table.get("index", APPEND))
    return AddedHeader(name, _text(table, "value"), _as_integer(order, "order"))


def _spam_headers(milter: Json, action: str) -> Iterator[tuple[str, str]]:
    """What replaces fields of its own name where the action is add header."""
    if action != "add header" or "spam_header" not in milter:
        return
    value = milter["spam_header"]
    table = {_NAME_OF_SPAM_HEADER: value} if isinstance(value, str) else _as_table(value, "spam_header")
    for name in table:
        yield name, _text(table, name)


def _text(table: Json, key: str) -> str:
    value = table.get(key)
    return value if isinstance(value, str) else _fail(f"{key} is not a text")


def _texts(table: Json, key: str) -> tuple[str, ...]:
    value = table.get(key, [])
    texts = value if isinstance(value, list) else [value]
    return tuple(text if isinstance(text, str) else _fail(f"{key} is not a text") for text in texts)


def _number(table: Json, key: str) -> float:
    return _as_number(table.get(key), key)


def _as_integer(value: object, key: str) -> int:
    number = _as_number(value, key)
    return int(number) if number.is_integer() else _fail(f"{key} is not an integer")


def _as_number(value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _fail(f"{key} is not a number")
    try:
        number = float(value)
    except OverflowError:
        _fail(f"{key} is too large")
    return number if math.isfinite(number) else _fail(f"{key} is too large")


def _flag(table: Json, key: str) -> bool:
    value = table.get(key)
    return value if isinstance(value, bool) else _fail(f"{key} is neither true nor false")


def _table(table: Json, key: str) -> Json:
    return _as_table(table.get(key, {}), key)


def _as_table(value: object, key: str) -> Json:
    return value if isinstance(value, dict) else _fail(f"{key} is not an object")


def _fail(what: str) -> NoReturn:
    raise ScannerFailure(f"its answer cannot be read: {what}")
