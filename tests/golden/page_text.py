"""The text of a page: a line for each block, with the titles, links and fields that people use."""

import re
from html.parser import HTMLParser
from typing import Final

_HIDDEN: Final = frozenset({"script", "style", "svg", "template"})
_INLINE: Final = frozenset({"a", "abbr", "b", "bdi", "code", "em", "i", "label", "small", "span", "strong", "time"})
_CELLS: Final = frozenset({"td", "th"})
_SHOWN: Final = ("title", "aria-label", "placeholder", "href", "action", "name", "value")


class _TextParser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden_depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _HIDDEN:
            self._hidden_depth += 1
        if self._hidden_depth:
            return
        self._break(tag)
        shown = [f"{name}={value}" for name, value in attrs if name in _SHOWN and value]
        state = [name for name, _ in attrs if name in {"checked", "selected", "disabled", "required"}]
        if shown or state:
            self.parts.append(f" <{' '.join([tag, *shown, *state])}> ")

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden_depth = max(0, self._hidden_depth - 1)
        elif not self._hidden_depth:
            self._break(tag)

    def handle_data(self, data: str) -> None:
        if not self._hidden_depth:
            self.parts.append(data.replace("\n", " "))

    def _break(self, tag: str) -> None:
        if tag in _CELLS:
            self.parts.append(" | ")
        elif tag not in _INLINE:
            self.parts.append("\n")


def read_page_text(page: str) -> str:
    """Return what a page says.

    Args:
        page: its HTML.
    """
    parser = _TextParser()
    parser.feed(page)
    parser.close()
    lines = (re.sub(r"\s+", " ", line).strip() for line in "".join(parser.parts).split("\n"))
    return "\n".join(line for line in lines if line.strip(" |")) + "\n"
