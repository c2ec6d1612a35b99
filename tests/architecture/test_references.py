"""What sends a reader elsewhere sends him to something that there is: a page, and a heading on it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from processors.settings import load_settings
from tests.architecture.source_tree import ROOT, Module, parsed, service, tools

WAYS_IN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES = [*WAYS_IN, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHIPPED = ("config/**/*", "schemas/**/*", "docs/examples/*", "bin/*", "docker-compose.yml", "Dockerfile", "Makefile")
FILES = [path for pattern in SHIPPED for path in sorted(ROOT.glob(pattern)) if path.is_file()]
# A page, and after it a comma and the heading.
_NAMED = re.compile(r"(README(?:\.md)?|docs/[a-z/]+\.md)(, (?=[A-Z]))?")
_DECISION = re.compile(r'docs/decisions, "([^"]+)"')
# A file or folder of this checkout; one whose name is still to be given has capitals in it.
_PATH = re.compile(r"`((?:processors|tests|schemas|config|docs|bin|devtools)/[a-z0-9_./-]+)`")
_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")


@cache
def headings(page: Path) -> tuple[str, ...]:
    """Return a page's headings, longest first."""
    found = re.findall(r"^#{1,6} (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return tuple(sorted(found, key=len, reverse=True))


@cache
def decisions() -> set[str]:
    """Return the titles of all decisions."""
    return {heading for page in (ROOT / "docs" / "decisions").glob("*.md") for heading in headings(page)}


def anchor_of(heading: str) -> str:
    """Return what GitHub makes of a heading in a link."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def lost_references(text: str) -> list[str]:
    """Return which references of a text lead nowhere. README is named with a heading always."""
    lost = []
    for match in _NAMED.finditer(text):
        name, has_heading = match.groups()
        page = ROOT / ("README.md" if name.startswith("README") else name)
        if not page.exists():
            lost.append(f"there is no {name}")
        elif has_heading and not text[match.end() :].startswith(headings(page)):
            lost.append(f"{name} has no heading {text[match.end() : match.end() + 40]!r}")
        elif name == "README" and not has_heading:
            lost.append(f"README, and which heading? {text[match.end() : match.end() + 40]!r}")
    return lost + [f"no decision is called {title}" for title in _DECISION.findall(text) if title not in decisions()]


def texts_of(module: Module) -> list[str]:
    """Return a module's comments, joined over their lines, and its strings, each as it is shown."""
    comments = " ".join(re.findall(r"#(.*)$", module.text, re.MULTILINE))
    shown = [node.value for node in module.nodes if isinstance(node, ast.Constant)]
    return [" ".join(text.split()) for text in [comments, *shown] if isinstance(text, str)]


def test_a_page_that_the_code_names_is_there_with_its_heading() -> None:
    lost = [
        f"{module.place}: {reference}"
        for module in service() + tools()
        for text in texts_of(module)
        for reference in lost_references(text)
    ]

    assert not lost


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_that_a_file_names_is_there_with_its_heading(path: Path) -> None:
    assert not lost_references(re.sub(r"\n\s*(#|--|//)? ?", " ", path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_leads_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    lost = []
    for target, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        there = (page.parent / target).resolve() if target else page
        if not there.exists() or (anchor and anchor not in map(anchor_of, headings(there))):
            lost.append(f"{target}#{anchor}")

    assert not lost


def test_each_decision_is_in_the_index_with_its_title_and_a_sentence() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| \[(.*)\]\((.*)\) \| .*\w\. \|$", index, re.MULTILINE)

    pages = sorted(page for page in folder.glob("*.md") if page.name != "README.md")
    titles = [page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for page in pages]
    numbers = [page.name.partition("-")[0].lstrip("0") for page in pages]
    assert rows == [(number, title, page.name) for number, title, page in zip(numbers, titles, pages, strict=True)]


@pytest.mark.parametrize("page", WAYS_IN + sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_a_file_that_a_page_names_is_there(page: Path) -> None:
    named = _PATH.findall(page.read_text(encoding="utf-8"))

    assert [name for name in named if not (ROOT / name).exists()] == []


def test_a_reference_that_leads_nowhere_is_found() -> None:
    assert lost_references("see docs/nowhere.md") == ["there is no docs/nowhere.md"]
    assert lost_references("(docs/design.md, Monkeys)") == ["docs/design.md has no heading 'Monkeys)'"]
    assert lost_references("README has a line") == ["README, and which heading? ' has a line'"]
    assert lost_references('docs/decisions, "All is well"') == ["no decision is called All is well"]
    assert lost_references("(docs/design.md, Money; rule H5), README.md and docs/rejections.md#unknown_hold") == []
    assert "docs/design.md, Money" in texts_of(parsed('show("docs/design.md, "\n"Money")'))
    assert texts_of(parsed("x = 1  # docs/design.md, The\n# core\n")) == ["docs/design.md, The core"]


def test_what_ci_sets_of_ours_is_a_setting() -> None:
    named = sorted(set(re.findall(r"\bBALANCE_\w+", (ROOT / ".ci/run").read_text(encoding="utf-8"))))
    values = {name: str(number) for number, name in enumerate(named, start=1)}

    assert load_settings(environment=values).stack.kafka_port == int(values["BALANCE_STACK__KAFKA_PORT"])
