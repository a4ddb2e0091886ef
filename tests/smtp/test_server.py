"""Our side of the conversation: commands and content out of one stream of bytes, replies gathered."""

from hypothesis import given
from hypothesis import strategies as st

from bqfilter.smtp import replies
from bqfilter.smtp.commands import Command, Data, Malformed, Noop, Quit, XForward
from bqfilter.smtp.server import MAX_COMMAND_BYTES, ServerDialogue

lines = st.sampled_from(
    [b"NOOP\r\n", b"MAIL FROM:<a>\r\n", b"RCPT TO:<b>\n", b"junk\r\n", b"RSET \r\r\n", b"XFORWARD NAME=x\r\n"]
)
bodies = st.lists(st.sampled_from([b"a\r\n", b"..\r\n", b"\n.\n", b"\r", b".\r\r\n"]), max_size=6).map(
    b"".join
)


def commands_of(dialogue: ServerDialogue) -> list[Command]:
    found = []
    while (command := dialogue.next_command()) is not None:
        found.append(command)
    return found


def converse(pieces: list[bytes]) -> tuple[list[Command], bytes, bool, list[Command]]:
    """Commands up to DATA, the content, whether it is clean, and the commands behind it."""
    dialogue = ServerDialogue()
    before: list[Command] = []
    body = b""
    end = -1
    in_body = False
    for piece in pieces:
        if in_body and end < 0:
            end = dialogue.scan_body(piece, len(piece))
            body += piece if end < 0 else piece[:end]
            continue
        dialogue.receive(piece)
        while not in_body and (command := dialogue.next_command()) is not None:
            before.append(command)
            if isinstance(command, Data):
                in_body = True
                early = dialogue.begin_body()
                end = dialogue.scan_body(early, len(early)) if early else -1
                body += early if end < 0 else early[:end]
    return before, body, dialogue.body_is_clean, commands_of(dialogue)


@given(
    st.lists(lines, max_size=4).map(b"".join),
    bodies,
    st.lists(lines, max_size=3).map(b"".join),
    st.lists(st.integers(0, 80), max_size=12),
)
def test_any_cut_of_the_input_gives_the_same_commands_and_the_same_body(
    before: bytes, body: bytes, behind: bytes, cuts: list[int]
) -> None:
    data = before + b"DATA\r\n" + body + b"\r\n.\r\n" + behind + b"QUIT\r\n"
    ends = sorted(min(end, len(data)) for end in cuts)
    pieces = [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]

    found = converse(pieces)

    assert found == converse([data])
    assert isinstance(found[0][-1], Data)
    assert found[1] == (body + b"\r\n.\r\n")[: len(found[1])]


def test_commands_behind_the_content_are_kept() -> None:
    before, body, is_clean, behind = converse([b"DATA\r\n", b"a\r\n.\r\nNOOP\r\nQUIT\r\n"])

    assert before == [Data()]
    assert (body, is_clean) == (b"a\r\n.\r\n", True)
    assert behind == [Noop(), Quit()]


def test_each_content_is_looked_at_by_itself() -> None:
    dialogue = ServerDialogue()
    for content, is_clean in ((b"a\nb\r\n.\r\n", False), (b"a\r\n.\r\n", True)):
        assert dialogue.begin_body() == b""
        assert dialogue.scan_body(content, len(content)) == len(content)
        assert dialogue.body_is_clean is is_clean


def test_an_over_long_command_is_answered_once_and_the_next_one_is_read() -> None:
    dialogue = ServerDialogue()
    dialogue.receive(b"MAIL FROM:<" + b"a" * MAX_COMMAND_BYTES + b">\r\nNOOP\r\n")

    assert commands_of(dialogue) == [Malformed(replies.LINE_TOO_LONG), Noop()]


def test_an_over_long_xforward_is_taken_as_telling_nothing() -> None:
    dialogue = ServerDialogue()
    dialogue.receive(b"XFORWARD HELO=" + b"a" * MAX_COMMAND_BYTES)
    assert commands_of(dialogue) == []

    dialogue.receive(b"\r\n")
    assert commands_of(dialogue) == [XForward(())]


def test_a_command_of_more_than_6_kib_passes() -> None:
    dialogue = ServerDialogue()
    line = b"RCPT TO:<" + b"a" * 7000 + b"@b.example>"
    dialogue.receive(line + b"\r\n")

    assert [getattr(command, "line", None) for command in commands_of(dialogue)] == [line]


def test_replies_are_gathered_until_somebody_takes_them() -> None:
    dialogue = ServerDialogue()
    dialogue.answer(replies.OK)
    dialogue.answer(replies.BYE)

    assert dialogue.take_output() == b"250 2.0.0 Ok\r\n221 2.0.0 Bye\r\n"
    assert dialogue.take_output() == b""
