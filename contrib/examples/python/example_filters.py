"""Filters to learn from, and to start one's own with. docs/python-filters.md explains them."""

from collections.abc import Iterator

from bqfilter.api import Envelope, Message, Verdict, accept, defer, reject

_FEW_LETTERS = 10


def no_shouting(message: Message, envelope: Envelope) -> Verdict | None:
    """Refuses subjects in capitals, unless they are short or from one of us."""
    subject = message.header("Subject")
    letters = [char for char in subject if char.isalpha()]
    if envelope.client_source == "LOCAL" or len(letters) <= _FEW_LETTERS or not subject.isupper():
        return None
    return reject("Please do not shout")


def archive(message: Message, envelope: Envelope, to: str) -> Verdict:
    """Sends a copy of everything to the option `to`, with the envelope in its header."""
    if envelope.sender == to or to in envelope.recipients or message.header("X-Archived-For"):
        return accept()
    shown = ", ".join(envelope.recipients[:20])
    return accept().add_recipients(to).add_header("X-Archived-For", shown)


class BlockedDomains:
    """Refuses senders in some domains and below them; the option `file` names a list, one domain a line."""

    def __init__(self, file: str, text: str = "Mail from this domain is not wanted here") -> None:
        with open(file, encoding="utf-8") as lines:
            words = (line.partition("#")[0].strip().lower() for line in lines)
            self._domains = frozenset(word for word in words if word)
        self._text = text

    def __call__(self, message: Message, envelope: Envelope) -> Verdict | None:
        labels = envelope.sender_domain.split(".")
        parents = {".".join(labels[at:]) for at in range(len(labels))}
        return reject(self._text, 554, "5.7.1") if parents & self._domains else None


class ExternalBanner:
    """Puts a warning above what comes from outside; `own` are our domains, with blanks between them.

    Only plain text that stands in the body as it is, gets the banner: to change a body that is encoded or has
    parts means to write it anew. A DKIM signature of the body is broken by it.
    """

    def __init__(self, own: str, text: str = "[This message came from outside.]") -> None:
        self._own = frozenset(own.lower().split())
        self._banner = text.encode("utf-8") + b"\r\n\r\n"

    def __call__(self, message: Message, envelope: Envelope) -> Verdict | None:
        if envelope.client_source == "LOCAL":
            return None
        if envelope.sender_domain in self._own:
            return defer("Our own addresses send from inside")
        verdict = accept().prepend_header("X-External", "yes")
        if _is_bare_text(message):
            return verdict.replace_body(self._with_banner(message))
        return verdict

    def _with_banner(self, message: Message) -> Iterator[bytes]:
        yield self._banner
        yield from message.body()


def _is_bare_text(message: Message) -> bool:
    kind = message.header("Content-Type", "text/plain").partition(";")[0].strip().lower()
    encoding = message.header("Content-Transfer-Encoding", "7bit").strip().lower()
    return kind == "text/plain" and encoding in ("7bit", "8bit")
