"""Every link inside the documentation leads to a file that is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def links_of(text: str) -> list[str]:
    """Where the links of a page lead, but for those to other sites and to places on the page itself."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "`", prose))
    return [link.partition("#")[0] for link in found if not re.match(r"[a-z]+:|#", link)]


def test_links_are_found() -> None:
    text = "[a](docs/a.md#part) [b](https://x.org/y) [c](#here) [`d`](d) `[e](e)`\n```\n[f](f)\n```\n"
    assert links_of(text) == ["docs/a.md", "d"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    missing = [link for link in links_of(page.read_text("utf-8")) if not (page.parent / link).exists()]
    assert missing == []
