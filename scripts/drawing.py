"""What pictures of the manual are made of: marks on a card, as SVG, and the same as PNG.

A picture brings its own background, because a page does not tell a picture in it whether it is dark; colours
follow the reader's system where that says so, and no colour says anything that a label does not. The same
marks give the same SVG, byte for byte: places are rounded to tenths of a pixel.

A PNG is made by rsvg-convert (Debian: librsvg2-bin), in light colours. What its pixels are depends on that
program and on fonts, so it is not compared with another one: it has the digest of its SVG in it, by which one
can tell what it was made from.
"""

import hashlib
import math
import struct
import subprocess
import zlib
from xml.sax.saxutils import escape

WIDTH = 700  # pixels; what a page of a repository has to give
_ZOOM = 2  # of a PNG: letters stay sharp where pixels are small
_KEYWORD = b"Source"

# Class: property, in light and in dark.
COLOURS = {
    "card": ("fill", "#ffffff", "#0d1117"),
    "ink": ("fill", "#1f2328", "#e6edf3"),
    "dim": ("fill", "#59636e", "#9aa4ae"),
    "band": ("fill", "#e4f2e6", "#14301d"),
    "trouble": ("fill", "#f4ebe6", "#2e211a"),
    "one": ("fill", "#0b65c2", "#58a6ff"),
    "two": ("fill", "#c2560c", "#f0a050"),
    "pale": ("fill", "#c9def4", "#1d3a5c"),
    "inverse": ("fill", "#ffffff", "#0d1117"),
    "frame": ("stroke", "#d0d7de", "#30363d"),
    "grid": ("stroke", "#e3e7eb", "#262c34"),
    "axis": ("stroke", "#818b96", "#6e7781"),
    "line-one": ("stroke", "#0b65c2", "#58a6ff"),
    "line-two": ("stroke", "#c2560c", "#f0a050"),
    "line-ink": ("stroke", "#1f2328", "#e6edf3"),
    "line-limit": ("stroke", "#b3261e", "#ff7b72"),
    "limit": ("fill", "#b3261e", "#ff7b72"),
}
STYLE = """\
text { font: 13px system-ui, "Segoe UI", "Helvetica Neue", Arial, "Liberation Sans", sans-serif; }
.head { font-size: 15px; font-weight: 600; }
.strong { font-weight: 600; }
.small { font-size: 12px; }
.middle { text-anchor: middle; }
.end { text-anchor: end; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.hollow { stroke-width: 2; }
.thick { stroke-width: 2; }
.dashed { stroke-dasharray: 6 4; }
"""
NAMED = 'aria-labelledby="title description"'


def colours(column):
    return "\n".join(f".{name} {{ {row[0]}: {row[column]}; }}" for name, row in COLOURS.items())


def place(number):
    """A coordinate, as short as it can be."""
    return f"{number:.1f}".removesuffix(".0")


class Drawing:
    """A picture in the making: marks in the order in which they lie on each other."""

    def __init__(self, title, description, height):
        self.title = title
        self.description = description
        self.height = height
        self._marks = []
        self.text(16, 26, title, "ink head")

    def text(self, x, y, words, classes="ink"):
        self._marks.append(f'<text x="{place(x)}" y="{place(y)}" class="{classes}">{escape(words)}</text>')

    def box(self, left, top, right, bottom, classes, radius=0):
        rounded = f' rx="{radius}"' if radius else ""
        size = f'width="{place(right - left)}" height="{place(bottom - top)}"'
        self._marks.append(f'<rect x="{place(left)}" y="{place(top)}" {size}{rounded} class="{classes}"/>')

    def line(self, x1, y1, x2, y2, classes="axis"):
        ends = f'x1="{place(x1)}" y1="{place(y1)}" x2="{place(x2)}" y2="{place(y2)}"'
        self._marks.append(f'<line {ends} class="{classes}"/>')

    def path(self, points, classes):
        steps = " ".join(f"{place(x)},{place(y)}" for x, y in points)
        self._marks.append(f'<path d="M{steps}" class="{classes}"/>')

    def dot(self, x, y, radius, classes):
        self._marks.append(f'<circle cx="{place(x)}" cy="{place(y)}" r="{radius}" class="{classes}"/>')

    def dots(self, points, classes):
        """Many small ones, as one mark: lines without length, with round ends; one for each pixel will do."""
        pixels = dict.fromkeys((round(x), round(y)) for x, y in points)
        spots = "".join(f"M{x},{y}h0" for x, y in pixels)
        self._marks.append(
            f'<path d="{spots}" class="{classes}" fill="none" stroke-width="3" stroke-linecap="round"/>'
        )

    def __str__(self):
        size = f'viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" height="{self.height}"'
        card = f'x="0.5" y="0.5" width="{WIDTH - 1}" height="{self.height - 1}" rx="6"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {NAMED}>',
                f'<title id="title">{escape(self.title)}</title>',
                f'<desc id="description">{escape(self.description)}</desc>',
                "<style>",
                f"{STYLE}{colours(1)}",
                f"@media (prefers-color-scheme: dark) {{\n{colours(2)}\n}}",
                "</style>",
                f'<rect {card} class="card frame"/>',
                *self._marks,
                "</svg>\n",
            ]
        )


def scale(low, high, start, end):
    """From figures between low and high to places between start and end."""
    return lambda figure: start + (figure - low) / (high - low) * (end - start)


def logarithmic(low, high, start, end):
    """The same for powers of ten, with the exponents of both ends."""
    exponent = scale(low, high, start, end)
    return lambda figure: exponent(math.log10(figure))


def ruled(drawing, marks, y, left, right):
    """Lines across at these figures, each with its label on the left."""
    for figure, label in marks.items():
        drawing.line(left, y(figure), right, y(figure), "grid")
        drawing.text(left - 8, y(figure) + 4, label, "dim small end")


def ticked(drawing, marks, x, bottom):
    """An axis at the bottom with a label below each of these figures."""
    for figure, label in marks.items():
        drawing.line(x(figure), bottom, x(figure), bottom + 5)
        drawing.text(x(figure), bottom + 19, label, "dim small middle")


def digest(drawing):
    """By which a PNG says which drawing it shows."""
    return hashlib.sha256(str(drawing).encode()).hexdigest()


def png(drawing):
    """The drawing in pixels, with its digest, title and description for who cannot see it."""
    command = ["rsvg-convert", "--zoom", str(_ZOOM)]
    made = subprocess.run(command, input=str(drawing).encode(), capture_output=True, check=True).stdout  # noqa: S603
    texts = {
        _KEYWORD: digest(drawing),
        b"Title": drawing.title,
        b"Description": drawing.description,
    }
    chunks = b"".join(_chunk(b"tEXt", name + b"\0" + text.encode("latin-1")) for name, text in texts.items())
    end = made.rindex(b"IEND") - 4
    return made[:end] + chunks + made[end:]


def _chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def texts_of(image):
    """The texts in a PNG, by keyword."""
    found, at = {}, 8
    while at < len(image):
        (length,) = struct.unpack(">I", image[at : at + 4])
        kind, content = image[at + 4 : at + 8], image[at + 8 : at + 8 + length]
        if kind == b"tEXt":
            keyword, _, text = content.partition(b"\0")
            found[keyword.decode()] = text.decode("latin-1")
        at += length + 12
    return found
