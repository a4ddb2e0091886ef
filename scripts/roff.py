"""Markdown, as far as this manual uses it, told as roff with the macros of man(7).

Headings, paragraphs, lists, tables, code and links are known; what is not comes out as text. A table becomes
a list with tags, because a terminal of 80 columns has no room for cells of prose. Links to pages of this
manual become the names of pages of man(1) where there is one. Nothing is read or written here.
"""

import re
import textwrap
from collections.abc import Iterator, Mapping

# mandoc finds fault with longer lines.
_WIDTH = 79

# What roff would take for something else; the rest of ASCII stands for itself. See groff_char(7).
_SPECIAL = {"\\": r"\(rs", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}

_INLINE = re.compile(
    r"`` ?(?P<long_code>.+?) ?``|`(?P<code>[^`]+)`|\*\*(?P<bold>.+?)\*\*"
    r"|(?<!\w)\*(?P<italic>\w[^*]*\w)\*(?!\w)"
    r"|\[(?P<text>[^\]]+)\]\((?P<target>[^)]+)\)|(?<![\w-])(?P<option>--?[a-z][\w-]*)"
    r"|(?<![\w.])(?P<manual>[\w.-]*[A-Za-z][\w.-]*)(?P<section>\(\d\))"
)
_FONT = re.compile(r"\\f[BIP]")
_FENCE = re.compile(r"```.*")
_HEADING = re.compile(r"(#+) (.*)")
_ITEM = re.compile(r"(?:[-*]|(\d+)\.) +(.*)")
_ROW_OF_LINES = re.compile(r"\|[\s:|-]+\|")


def page(text: str, links: Mapping[str, str]) -> str:
    """The roff of a text: headings of the second level begin sections, deeper ones subsections.

    `links` has the names of man pages by the file that a link leads to.
    """
    return "\n".join(line for block in _blocks(text.split("\n")) for line in _render(block, links)) + "\n"


def inline(text: str, links: Mapping[str, str]) -> str:
    """A piece of running text, without its line breaks."""
    done, end = [], 0
    for match in _INLINE.finditer(text):
        done += [_escaped(text[end : match.start()]), _marked(match, links)]
        end = match.end()
    return "".join([*done, _escaped(text[end:])])


def paragraph(text: str) -> list[str]:
    """Lines of a paragraph that is roff already; none of them can be taken for a request."""
    lines = textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return [_no_request(line) for line in lines]


def code(text: str) -> str:
    """Text that is typed as it stands: every hyphen a minus, which can be copied and searched for."""
    return _escaped(text).replace("-", r"\-")


def _escaped(text: str) -> str:
    text = "".join(_SPECIAL.get(character, character) for character in text)
    return re.sub(r"[^\x00-\x7f]", lambda match: f"\\[u{ord(match[0]):04X}]", text)


def _marked(match: re.Match[str], links: Mapping[str, str]) -> str:
    if match["target"]:
        return _link(match["text"], match["target"], links)
    if match["manual"]:
        return rf"\fB{code(match['manual'])}\fP{match['section']}"
    if match["italic"]:
        return rf"\fI{_escaped(match['italic'])}\fP"
    if match["bold"]:
        return rf"\fB{re.sub(_FONT, '', inline(match['bold'], links))}\fP"
    return rf"\fB{code(match['long_code'] or match['code'] or match['option'])}\fP"


def _link(text: str, target: str, links: Mapping[str, str]) -> str:
    if target.startswith("http"):
        return inline(text, links) + rf" <{code(target)}>"
    name = links.get(target.partition("#")[0])
    if name:
        title, _, section = name.partition("(")
        return rf"\fB{code(title)}\fP({section}"
    file = target.partition("#")[0]
    if not file or file == text:
        return inline(text, links)
    return inline(text, links) + rf" (\fI{code(file)}\fP)"


def _no_request(line: str) -> str:
    return rf"\&{line}" if line.startswith((".", "'")) else line


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    """Pieces that are rendered by themselves: a heading, a paragraph, one item, a table, some code."""
    block: list[str] = []
    in_fence = False
    for line in lines:
        if in_fence:
            block.append(line)
            if line.strip() == "```":
                yield block
                block, in_fence = [], False
        elif _ends_block(block, line):
            if block:
                yield block
            block = [line] if line.strip() else []
        else:
            block.append(line)
        in_fence = in_fence or bool(block and len(block) == 1 and _FENCE.fullmatch(block[0].strip()))
    if block:
        yield block


def _ends_block(block: list[str], line: str) -> bool:
    if block and block[0].startswith("    ") and line.startswith("    "):
        return False
    begins_another = any(kind.match(line) for kind in (_HEADING, _ITEM, _FENCE))
    return begins_another or not block or not line.strip()


def _render(block: list[str], links: Mapping[str, str]) -> Iterator[str]:
    first = block[0]
    if heading := _HEADING.fullmatch(first):
        yield f".SH {heading[2]}" if len(heading[1]) == 2 else f".SS {inline(heading[2], links)}"
    elif _FENCE.match(first.strip()):
        yield from _code_block(block[1:-1])
    elif first.startswith("    "):
        yield from _code_block([line.removeprefix("    ") for line in block])
    elif first.startswith("|"):
        yield from _table(block, links)
    elif item := _ITEM.fullmatch(first):
        yield rf".IP {item[1]}. 4" if item[1] else r".IP \(bu 2"
        yield from paragraph(inline(" ".join([item[2], *map(str.strip, block[1:])]), links))
    else:
        yield from [".PP", *paragraph(inline(" ".join(map(str.strip, block)), links))]


def _code_block(lines: list[str]) -> Iterator[str]:
    yield from [".PP", ".RS 4", ".EX"]
    yield from (_no_request(code(line)) or r"\&" for line in textwrap.dedent("\n".join(lines)).split("\n"))
    yield from [".EE", ".RE"]


def _table(rows: list[str], links: Mapping[str, str]) -> Iterator[str]:
    """A list with the first column as tags; beyond two columns each cell is preceded by its column's name."""
    names, *bodies = [_cells(row) for row in rows if not _ROW_OF_LINES.fullmatch(row)]
    for tag, *cells in bodies:
        yield from [".TP", _no_request(inline(tag, links))]
        if len(cells) == 1:
            yield from paragraph(inline(cells[0], links))
            continue
        for number, (name, cell) in enumerate(zip(names[1:], cells, strict=True)):
            yield from [".br"] * bool(number)
            yield from paragraph(rf"\fI{inline(name, links)}:\fP {inline(cell, links)}")


def _cells(row: str) -> list[str]:
    cells = re.split(r"(?<!\\)\|", row.strip().strip("|"))
    return [cell.strip().replace("\\|", "|") for cell in cells]
