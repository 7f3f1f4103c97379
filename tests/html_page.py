"""Reads an HTML page as people see it, for tests of the reports."""

import html
import re
from html.parser import HTMLParser

# Elements that HTML closes by itself.
VOID = {"meta"}


class Page(HTMLParser):
    """The text of a page. Raises AssertionError if a tag is closed without being open, or is never closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self._open: list[str] = []
        self._texts: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == [], "every element is closed"

    @property
    def text(self) -> str:
        """Visible text and tooltips, one space between words."""
        return " ".join(" ".join(self._texts).split())

    @property
    def is_self_contained(self) -> bool:
        """Whether the page runs no script and loads nothing."""
        return not re.search(r"<script|<link|\bsrc=|\bhref=|@import|url\(|https?://", self.source)

    def rows(self) -> list[list[str]]:
        """The rows of all tables, each as the texts of its cells."""
        rows = re.findall(r"<tr[^>]*>(.*?)</tr>", self.source, re.DOTALL)
        cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
        return [[html.unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in row] for row in cells]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self._texts.append(data)
