"""Students' texts as pages may show them: nothing in them acts, and none takes long to draw.

What draws pages, formgrader and feedback alike, takes time that grows with the square of a line's
length or of a formula left open. So whatever is longer than people write is cut, for show alone.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

MAX_LINE = 400
MAX_BLANK_LINES = 20
MAX_CODE_IN_ALL = 200_000
MAX_FORMATTED = 8_000  # of one text cell
MAX_FORMATTED_IN_ALL = 60_000
MAX_TEXT_IN_ALL = 1_000_000
LEFT_OUT = "This cell was left out: the notebook holds far more than can be shown."
TAG = re.compile(r"<(?=[A-Za-z/!?])")
IMAGE = re.compile(r"\\?!(?=\[)")
TARGET = re.compile(r"\](?=[(:][\s<>]*(\S{1,200}))")
SCHEME = re.compile(r"[^/?#]*?:")
HARMLESS_SCHEMES = ("http:", "https:", "mailto:")


@dataclass
class Shown:
    """The cells of one notebook, as far as they have been shown.

    Attributes:
        code: characters of code.
        text: characters of text.
        formatted: of these, what has been left to Markdown.
    """

    code: int = 0
    text: int = 0
    formatted: int = 0

    def cell(self, cell_type: str, source: str) -> str:
        """What is shown of a cell."""
        return self._code(source) if cell_type == "code" else self._text(source)

    def _code(self, source: str) -> str:
        """Code with endless lines and gaps cut."""
        self.code += len(source)
        if self.code > MAX_CODE_IN_ALL:
            return f"# {LEFT_OUT}"
        if len(source) <= MAX_LINE:
            return source
        kept: list[str] = []
        for line in source.split("\n"):
            if line.strip() or any(kept[-MAX_BLANK_LINES:]):
                kept.append(_cut(line.rstrip()))
        return "\n".join(kept)

    def _text(self, source: str) -> str:
        """A text without HTML, pictures from elsewhere or links that run code.

        What is very long is shown as it was typed.
        """
        self.text += len(source)
        if self.text > MAX_TEXT_IN_ALL:
            return f"*{LEFT_OUT}*"
        if len(source) <= MAX_FORMATTED and self.formatted + len(source) <= MAX_FORMATTED_IN_ALL:
            self.formatted += len(source)
            return _tame(source)
        return f"<pre>\n{html.escape(source, quote=False)}\n</pre>"


def _cut(line: str) -> str:
    more = len(line) - MAX_LINE
    return f"{line[:MAX_LINE]} # … and {more} more characters" if more > 0 else line


def _tame(text: str) -> str:
    text = IMAGE.sub("&#33;", TAG.sub("&lt;", text))
    return TARGET.sub(lambda found: "]" if _is_harmless(found[1]) else "] ", text)


def _is_harmless(target: str) -> bool:
    """Whether a link leads to a page or within this one, as a browser will read it."""
    read = html.unescape(html.unescape(target))
    read = re.sub(r"[\x00-\x20\\<]", "", read).lower()
    scheme = SCHEME.match(read)
    return scheme is None or scheme[0] in HARMLESS_SCHEMES
