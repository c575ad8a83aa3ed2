"""The pages: what they point to exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tallystick
from tests.test_house import resolves

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
LINK = re.compile(r"\]\((?!\w+:|//)([^)#\s]*)(?:#([^)\s]+))?\)")
DECISIONS = sorted(path for path in (ROOT / "docs" / "decisions").glob("*.md") if path.name != "README.md")
NAME = re.compile(r"`(\w+(?:\.\w+)+)(?:\(.*?\))?`")
FENCE = re.compile(r"^(```|~~~).*?^\1", flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings make, as repository hosts form them."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dangling(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    found = []
    for target, anchor in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        path = (page.parent / target) if target else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            found.append(f"{target}#{anchor}" if anchor else target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    """Links inside the repository name files that exist, and headings that those have."""
    assert dangling(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    """The check above tells good links from bad ones, and leaves code and other sites alone."""
    page = tmp_path / "page.md"
    page.write_text(
        "# Two words\n[a](page.md#two-words) [b](gone.md) [c](#three) [d](https://example.org/)\n```\n[e](x)\n```\n"
    )
    assert dangling(page) == ["gone.md", "#three"]


def test_the_changelog_knows_the_version() -> None:
    """The version that the package says it is has its chapter in the changelog."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(tallystick.__version__)}\b", changelog, flags=re.MULTILINE)


def architecture() -> str:
    """Return the page that says how it is built."""
    return (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [ROOT / "ARCHITECTURE.md", *DECISIONS], ids=lambda page: page.stem)
def test_every_name_of_the_code_on_a_page_is_whole_and_exists(page: Path) -> None:
    """A dotted name in backticks is a file, or begins with tallystick and leads to something."""
    names = set(NAME.findall(page.read_text(encoding="utf-8")))
    names = {name for name in names if not name.endswith((".py", ".db", ".md", ".toml"))}
    assert names, "it names nothing of the code"
    assert sorted(name for name in names if not name.startswith("tallystick.") or not resolves(name)) == []


def test_the_architecture_names_every_folder_and_module() -> None:
    """What stands in the package itself stands in the table of folders."""
    source = ROOT / "src" / "tallystick"
    found = {path.name + "/" * path.is_dir() for path in source.iterdir() if not path.name.startswith(("_", "."))}
    table = "\n".join(line for line in architecture().splitlines() if line.startswith("|"))
    assert sorted(name for name in found - {"py.typed"} if f"`{name}`" not in table) == []


def test_every_decision_is_listed_and_says_what_else_was_considered() -> None:
    """The list has each record once, in order, and no record is without its alternatives."""
    index = (ROOT / "docs" / "decisions" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\d+\. \[.+?\]\((.+?)\)$", index, flags=re.MULTILINE) == [page.name for page in DECISIONS]
    for number, page in enumerate(DECISIONS, 1):
        text = page.read_text(encoding="utf-8")
        title = re.match(rf"# {number}\. (.+)\n", text)
        assert title is not None, page.name
        assert f"{number}. [{title[1]}]({page.name})" in index
        assert "**Decided:**" in text
        assert len(re.findall(r"^\* \*", text.split("**Alternatives considered**")[1], flags=re.MULTILINE)) >= 2
