"""Read the Markdown pages of the repository: their snippets, links and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, CONTRIBUTING, ROOT / "CHANGELOG.md", *DOCS]

_FENCE = re.compile(r"```(\w*)\s*$")
_REMARK = re.compile(r"<!-- (.+?) -->\s*$")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_CODE_SPAN = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Snippet:
    """One fenced block.

    :param line: of the fence, from 1 on.
    :param remark: the HTML comment on the line above the fence, empty if there is none.
    """

    page: Path
    line: int
    language: str
    text: str
    remark: str

    @property
    def id(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def snippets(page: Path, language: str | None = None) -> list[Snippet]:
    """The fenced blocks of a page, in order."""
    found = list(_snippets(page))
    return found if language is None else [snippet for snippet in found if snippet.language == language]


def _snippets(page: Path) -> Iterator[Snippet]:
    lines = page.read_text(encoding="utf-8").splitlines()
    opened: int | None = None
    for number, line in enumerate(lines):
        fence = _FENCE.match(line)
        if opened is None and fence:
            opened = number
        elif opened is not None and line.strip() == "```":
            language = _FENCE.match(lines[opened])
            remark = _REMARK.match(lines[opened - 1]) if opened else None
            text = "\n".join(lines[opened + 1 : number]) + "\n"
            yield Snippet(page, opened + 1, language[1] if language else "", text, remark[1] if remark else "")
            opened = None
    assert opened is None, f"{page} has a fence that is not closed"


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """The targets of a page's links."""
    return _LINK.findall(prose(page))


def code_spans(page: Path) -> list[str]:
    """What stands between backticks in a page's prose."""
    return _CODE_SPAN.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"(?m)^#+ (.+)$", prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
