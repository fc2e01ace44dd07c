"""The decisions are indexed, dated and linked; every link in a Markdown file leads somewhere."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs/decisions"
NOT_DECISIONS = {"README.md", "template.md"}
FILES = sorted(path for path in FOLDER.glob("*.md") if path.name not in NOT_DECISIONS)

# Folders of builds and caches, where Markdown of others may lie.
SKIPPED = re.compile(r"(^|/)(\.[^/]*|result[^/]*|build|dist|venv)/")
PAGES = sorted(
    path for path in ROOT.rglob("*.md") if not SKIPPED.search(str(path.relative_to(ROOT)))
)

STATUS = re.compile(
    r"proposed"
    r"|accepted(, amended by (?P<amends>\[\d{3}\]\(\d{3}-[a-z0-9-]+\.md\)))?"
    r"|superseded by (?P<supersedes>\[\d{3}\]\(\d{3}-[a-z0-9-]+\.md\))"
)
FOLDED = re.compile(r"folded into \[[a-z-]+\]\(\.\./[a-z-]+\.md#[a-z0-9-]+\)")
ROW = re.compile(r"^\| (?:\[(\d{3})\]\(([^)]+)\)|(\d{3})) \| (.+) \| (.+) \| (\S+) \|$", re.M)

LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
# A number with a leading zero is a decision's; one without is where the words around it say so.
BARE_NUMBER = re.compile(
    r"\bdecisions? (\d{3})\b|\((?:\d{3}, )*(\d{3})(?:, \d{3})*\)|(?<![\d,.:/-])(0\d\d)(?![\d,:/-])",
    re.IGNORECASE,
)


def prose(path: Path) -> str:
    """The text of a page without code, headings and links."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    text = re.sub(r"`[^`\n]*`", "", text)
    lines = [line for line in text.splitlines() if not line.startswith(("    ", "\t", "#"))]
    return LINK.sub("", "\n".join(lines))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    found: set[str] = set()
    for heading in headings:
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", words).replace(" ", "-"))
    return found


def fields(path: Path) -> tuple[str, str, str, str]:
    """Number, title, status and date of a decision."""
    match = re.match(
        r"# (\d{3}): (.+)\n\n- Status: (.+)\n- Date: (\d{4}-\d\d-\d\d)\n\n", path.read_text()
    )
    assert match, f"{path.name} does not start like docs/decisions/template.md"
    number, title, status, day = match.groups()
    return number, title, status, day


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.stem))
def test_decision(path: Path) -> None:
    number, _, status, day = fields(path)
    assert path.name.startswith(f"{number}-")
    assert STATUS.fullmatch(status), status
    date.fromisoformat(day)


def test_the_index_has_each_decision() -> None:
    rows = ROW.findall((FOLDER / "README.md").read_text())
    listed = [(number, title, status, day) for number, _, _, title, status, day in rows if number]
    assert listed == [fields(path) for path in FILES]
    names = [name for number, name, *_ in rows if number]
    assert names == [path.name for path in FILES]
    numbers = [number or folded for number, _, folded, *_ in rows]
    assert numbers == sorted(set(numbers))


def test_what_was_folded_says_where() -> None:
    rows = ROW.findall((FOLDER / "README.md").read_text())
    folded = [status for number, _, _, _, status, _ in rows if not number]
    assert folded
    assert [status for status in folded if not FOLDED.fullmatch(status)] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(path: Path) -> None:
    broken = []
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    for link in LINK.findall(re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_decisions_are_linked(path: Path) -> None:
    text = prose(path)
    if path == FOLDER / "README.md":
        text = ROW.sub("", text)
    known = {decision.name[:3] for decision in FILES}
    found = ["".join(match) for match in BARE_NUMBER.findall(text)]
    assert [number for number in found if number in known] == []


def test_code_names_decisions_that_exist() -> None:
    known = {path.name[:3] for path in FILES}
    named = {
        (str(path.relative_to(ROOT)), number)
        for folder in ("py", "measure", "nix", "images", "tests", "docs")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".nix", ".sh", ".list", ".md", ".leave-out"} and path.is_file()
        for number in re.findall(r"docs/decisions/(\d{3})", path.read_text(errors="replace"))
    }
    assert {(path, number) for path, number in named if number not in known} == set()
