"""What a client sends: commands, the phases they lead through, and the content between them."""

from bqfilter.smtp import commands as smtp
from bqfilter.smtp import grammar, phases, replies
from bqfilter.smtp.commands import Command, honest_mail, over_long, parse_command
from bqfilter.smtp.phases import Phase
from bqfilter.smtp.replies import Reply
from bqfilter.smtp.server import MAX_COMMAND_BYTES, ServerDialogue
from tests.fuzz.cuts import choices, pieces

_REFUSAL = replies.REFUSED


def commands(data: bytes) -> None:
    """A stream of commands and content reads the same in any pieces, and as a reader of the whole reads it.

    The phases agree with a model that knows three flags. A line that is forwarded is one line without control
    characters that end lines, and what is made of it for changed content is the same command.
    """
    said = list(_in_pieces(data))
    assert said == list(_as_a_whole(data))
    for command in said:
        _check(command)


def _in_pieces(data: bytes) -> list[Command | bytes]:
    """By the dialogue, fed with pieces: commands, and the bytes of each content that ended."""
    dialogue, model, found = ServerDialogue(), _Model(data), list[Command | bytes]()
    content = bytearray()
    for piece in [b"", *pieces(data)]:
        if model.phase is Phase.BODY:
            end = dialogue.scan_body(piece, len(piece))
            content += piece[: end if end >= 0 else len(piece)]
            if end < 0:
                continue
            found += [bytes(content), model.end()]
        else:
            dialogue.receive(piece)
        while model.phase is not Phase.BODY and (command := dialogue.next_command()) is not None:
            found.append(command)
            model.take(command)
            while model.phase is Phase.BODY:
                early = dialogue.begin_body()
                end = dialogue.scan_body(early, len(early)) if early else -1
                content = bytearray(early[: end if end >= 0 else len(early)])
                if end < 0:
                    break
                found += [bytes(content), model.end()]
    return found


def _as_a_whole(data: bytes) -> list[Command | bytes]:
    model, found, at = _Model(data), list[Command | bytes](), 0
    while True:
        if model.phase is Phase.BODY:
            end = (b"\r\n" + data[at:]).find(b"\r\n.\r\n")
            if end < 0:
                return found
            found += [data[at : at + end + 3], model.end()]
            at += end + 3
        end = data.find(b"\n", at)
        if end < 0:
            return found
        line, at = data[at:end].removesuffix(b"\r"), end + 1
        command = parse_command(line) if len(line) <= MAX_COMMAND_BYTES else over_long(line[:64])
        found.append(command)
        model.take(command)


class _Model:
    """Where a session stands, by flags; replies are positive or not as the input has it."""

    def __init__(self, data: bytes) -> None:
        self._choices = choices(data, 7)
        self._is_open = self._has_recipient = False
        self.phase = Phase.CONNECTED

    def take(self, command: Command) -> None:
        refusal = phases.check(self.phase, command)
        assert (refusal is None) == self._is_in_order(command)
        assert refusal is None or not refusal.is_positive
        reply = refusal or self._reply(command)
        self.phase = phases.advance(self.phase, command, reply)
        if reply.is_positive:
            self._follow(command)
        assert self.phase is self._expected(command, reply)

    def end(self) -> Command:
        self.phase = phases.advance(self.phase, smtp.EndOfData(), _REFUSAL)
        assert self.phase is Phase.READY
        self._is_open = self._has_recipient = False
        return smtp.EndOfData()

    def _reply(self, command: Command) -> Reply:
        if isinstance(command, smtp.Malformed):
            assert not command.reply.is_positive
            return command.reply
        return replies.OK if next(self._choices) % 8 else _REFUSAL

    def _is_in_order(self, command: Command) -> bool:
        if self.phase is Phase.CLOSED:
            return False
        match command:
            case smtp.Mail() | smtp.XForward():
                return not self._is_open
            case smtp.Rcpt():
                return self._is_open
            case smtp.Data():
                return self._has_recipient
        return True

    def _follow(self, command: Command) -> None:
        match command:
            case smtp.Mail():
                self._is_open = True
            case smtp.Rcpt():
                self._has_recipient = True
            case smtp.Ehlo() | smtp.Helo() | smtp.Rset() | smtp.Quit():
                self._is_open = self._has_recipient = False

    def _expected(self, command: Command, reply: Reply) -> Phase:
        if isinstance(command, smtp.Quit) and reply.is_positive:
            return Phase.CLOSED
        if isinstance(command, smtp.Data) and reply.is_positive:
            return Phase.BODY
        if self._has_recipient:
            return Phase.RCPT
        if self._is_open:
            return Phase.MAIL
        assert self.phase in (Phase.CONNECTED, Phase.READY, Phase.CLOSED)
        return self.phase


def _check(command: Command | bytes) -> None:
    match command:
        case smtp.Mail() | smtp.Rcpt():
            _check_line(command)
        case smtp.XForward(attributes):
            assert all(name in grammar.XFORWARD_VALUES for name, _ in attributes)
            assert not any(set(value) & set(b" \t\r\n\0") for _, value in attributes)
        case smtp.Malformed(reply):
            assert reply.code >= 500
            assert len(reply.wire) < 512


def _check_line(command: smtp.Mail | smtp.Rcpt) -> None:
    assert not set(command.line) & set(b"\r\n\0")
    assert len(command.line) <= MAX_COMMAND_BYTES
    again = parse_command(b" " + command.line + b"\t")
    assert isinstance(again, type(command))
    assert (again.address, again.parameters) == (command.address, command.parameters)
    if isinstance(command, smtp.Mail):
        _check_honest(command)


def _check_honest(mail: smtp.Mail) -> None:
    changed = honest_mail(mail, 12345, is_8bit=True)
    assert not set(changed) & set(b"\r\n\0")
    again = parse_command(changed)
    assert isinstance(again, smtp.Mail)
    if mail.parameters:
        assert again.address == mail.address
        sizes = [word for word in again.parameters.upper().split() if word.startswith(b"SIZE=")]
        assert b"SIZE=12345" in sizes or not any(word[5:].isdigit() for word in sizes)
        assert again.parameters.endswith(b"BODY=8BITMIME")
