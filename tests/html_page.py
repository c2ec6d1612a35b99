"""What a page is for a program that reads it: its elements, what they are called, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "link", "input", "br", "line", "polyline", "img", "hr"}


@dataclass(slots=True)
class Element:
    tag: str
    attributes: dict[str, str]
    inside: list[str] = field(default_factory=list)  # the tags around it
    text: str = ""


class HtmlPage(HTMLParser):
    """The elements of a page in order; AssertionError where they do not nest."""

    def __init__(self, body: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(body.decode())
        assert not self._open, [each.tag for each in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, [each.tag for each in self._open])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"{tag} is closed and was not opened"
        assert self._open[-1].tag == tag, f"{tag} is closed inside {self._open[-1].tag}"
        self._open.pop()
        self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    @property
    def text(self) -> str:
        return " ".join(self.all("body")[0].text.split())


def what_is_wrong(page: HtmlPage) -> list[str]:
    """Return what keeps somebody from using a page who does not see it, or has no mouse, or no scripts."""
    wrong = [f"{count} of {tag}" for tag in ("h1", "main", "title", "nav") if (count := len(page.all(tag))) != 1]
    wrong += [] if page.all("html")[0].attributes.get("lang") else ["html has no lang"]
    ids = Counter(element.attributes["id"] for element in page.elements if "id" in element.attributes)
    wrong += [f"id {each} twice" for each, count in ids.items() if count > 1]
    labelled = {element.attributes.get("for") for element in page.all("label")}
    wrong += [
        f"input without a label: {each.attributes}"
        for each in page.all("input")
        if each.attributes.get("id") not in labelled
    ]
    for element in page.elements:
        named = [element.attributes[name] for name in ("aria-labelledby",) if name in element.attributes]
        wrong += [f"{each} names nothing" for each in named if each not in ids]
        wrong += [
            f"{element.tag} has {name}" for name in element.attributes if name == "style" or name.startswith("on")
        ]
    wrong += [f"{tag} is there" for tag in ("script", "style", "iframe", "object", "embed") if page.all(tag)]
    wrong += [f"link without a text: {each.attributes}" for each in page.all("a") if not each.text.strip()]
    wrong += [f"table without {tag}" for tag in ("caption", "th") if len(page.all("table")) > len(page.all(tag))]
    wrong += ["th without scope" for each in page.all("th") if each.attributes.get("scope") not in {"col", "row"}]
    levels = [int(each.tag[1]) for each in page.elements if each.tag in {"h1", "h2", "h3"}]
    wrong += ["headings skip a level" for one, two in pairwise(levels) if two > one + 1]
    targets = [each.attributes["href"] for each in page.all("a")]
    wrong += [
        f"{each} leads away" for each in targets if not (each.startswith(("/", "#")) and not each.startswith("//"))
    ]
    wrong += [f"{each} leads nowhere" for each in targets if each.startswith("#") and each[1:] not in ids]
    return wrong
