"""Students' texts in pages: no link runs code, no picture calls home, nothing takes long to draw."""

import re
import time

import pytest
from nbconvert.filters.highlight import Highlight2HTML
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from autograder.gradebook.shown import MAX_FORMATTED, MAX_LINE, Shown

CODE = "javascript:alert(1)"
ACTIVE = [
    f"[x]({CODE})", f"[x]( {CODE})", f"[x](\n{CODE})", f"[x](< {CODE}>)", f"[x](<{CODE}>)",
    f"[x][a]\n\n[a]: {CODE}", f"[x][a]\n\n[a]:\n{CODE}", f"[x][a]\n\n[a]: <{CODE}>", f"<{CODE}>",
    "[x](JavaScript:alert(1))", "[x](java&#115;cript:alert(1))", "[x](&#x6A;avascript:alert(1))",
    "[x](javascript&colon;alert(1))", "[x](java&Tab;script:alert(1))", f"[x](&#1;{CODE})",
    f"[x]:&#32;{CODE}\n\n[x][x]", "[x](javascript\\:alert(1))", f"> [x](\n> {CODE})",
    f"- [a]:\n  {CODE}\n\n- [x][a]", "[x](data:text/html,y)", "[x](vbscript:y)",
    "![x](http://a.org/b.png)", "![x][a]\n\n[a]: http://a.org/b.png", "\\\\![x](http://a.org)",
    f"[![x](http://a.org)]({CODE})", "<img src=http://a.org>", "<svg/onload=alert(1)>",
]  # fmt: skip
HARMLESS = {
    "[x](https://a.org/b:c)": 'href="https://a.org/b:c"',
    "[x](#top)": 'href="#top"',
    "[x](page.html?a:b)": 'href="page.html?a:b"',
    "[x][a]\n\n[a]: http://a.org": 'href="http://a.org"',
    "see [1]: it is": "see [1]: it is",
    "`a[0]: int`, $a<b$, **bold**": "<strong>bold</strong>",
}
SLOW = {
    "dots": "." * 32_000, "a decorator": "@" + "a." * 16_000, "a format": "'%" + "0" * 16_000,
    "spaces": "match" + " " * 32_000 + "x", "blank lines": (" " * 200 + "\n") * 200,
    "only spaces": " " * 32_000,
}  # fmt: skip
SLOW_TEXT = {
    "formulas": "\\begin{a}" * 3000, "brackets": "\\\\[" * 9000, "links": "[a](<" * 9000,
    "many of them": "\\begin{a}\n\n" * 30_000, "stars": "*a " * 9000,
}  # fmt: skip


@pytest.mark.parametrize("text", ACTIVE)
def test_no_link_runs_code_and_no_picture_calls_home(text: str) -> None:
    page = markdown2html_mistune(Shown().cell("markdown", text))
    targets = "".join(re.findall('(?:href|src)="([^"]*)"', page)).lower()
    assert not re.search("script:|data:", targets)
    assert not re.search("<(img|svg|script)", page)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_harmless_stays(text: str) -> None:
    assert HARMLESS[text] in markdown2html_mistune(Shown().cell("markdown", text))


@pytest.mark.parametrize("name", SLOW)
def test_code_that_is_slow_to_colour_is_cut(name: str) -> None:
    begun = time.process_time()
    Highlight2HTML()(Shown().cell("code", SLOW[name]))
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("name", SLOW_TEXT)
def test_text_that_is_slow_to_format_is_shown_as_typed(name: str) -> None:
    begun = time.process_time()
    page = markdown2html_mistune(Shown().cell("markdown", SLOW_TEXT[name]))
    assert page.startswith("<pre>")
    assert time.process_time() - begun < 2


def test_what_people_write_is_shown_as_they_wrote_it() -> None:
    code = "def f(x):\n    return x  # " + "y" * 200 + "\n\n\n\n" + "z = 1  \n" * 300
    assert Shown().cell("code", code.rstrip()) == "\n".join(
        line.rstrip() for line in code.rstrip().split("\n")
    )
    assert Shown().cell("markdown", "# Why\n\nBecause *a* < b.") == "# Why\n\nBecause *a* < b."


def test_a_long_line_says_what_is_missing() -> None:
    assert Shown().cell("code", "x" * (MAX_LINE + 7)).endswith("# … and 7 more characters")


def test_a_notebook_of_many_long_cells_is_bounded() -> None:
    shown = Shown()
    text = "".join(shown.cell("markdown", "a" * MAX_FORMATTED) for _ in range(500))
    code = "".join(shown.cell("code", "a = 1\n" * 9000) for _ in range(9))
    assert len(text) < 1_200_000
    assert len(code) < 250_000
    assert "was left out" in text
    assert "was left out" in code
