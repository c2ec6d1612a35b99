"""The operators' page of real stores in a real Chromium: wide, narrow, light, dark, by keyboard, without scripts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from processors.ids import id_text
from processors.ledger.commands import CommandType
from processors.ledger.rows import Account, Hold
from processors.ops.api.tokens import Caller, Scope, hash_of, make_token
from processors.ops.assembly.api import serving
from processors.settings import load_settings
from processors.stores.addresses import CassandraAddress, MysqlAddress
from processors.wire.results import Result
from tests.api_parts import api_app
from tests.archived import journal_row_of
from tests.asgi import ask
from tests.browser import Browser, browser
from tests.html_page import HtmlPage, what_is_wrong
from tests.integration.mysql_shard import TOPIC_ID, clock_ms
from tests.integration.shard_and_archive import ROOT, Stores, fresh_stores
from tests.unit.test_page import HOSTILE, a_service

OPERATOR, PARTNER = make_token(), make_token()
CALLERS = {
    hash_of(OPERATOR): Caller(name="ops", scope=Scope.OPERATE),
    hash_of(PARTNER): Caller(name="vn", scope=Scope.PARTNER, below="acme:vn"),
}
# CI keeps what is there.
PICTURES = os.environ.get("PAGE_PICTURES")
WIDTHS = (1280, 390)


@dataclass(frozen=True, slots=True)
class Shown:
    """A page that is served, and what is in its stores."""

    url: str
    held: Result
    captured: Result

    @property
    def paths(self) -> dict[str, str]:
        return {
            "overview": "/",
            "partners": "/partners?below=acme",
            "statement": "/partners/acme/USD?tz=Europe/Vienna",
            "transaction": f"/transactions/{id_text(self.held.command_id)}",
            "dead-letters": "/dead-letters",
            "moves": "/moves",
            "problems": "/problems",
            "problem": "/transactions/17",
        }


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        opened.login(OPERATOR)
        yield opened


@pytest.fixture(scope="module")
def stores(mysql: MysqlAddress, archive: CassandraAddress) -> Iterator[Stores]:
    with fresh_stores(mysql, archive) as stores:
        yield stores


@pytest.fixture(scope="module")
def shown(stores: Stores) -> Iterator[Shown]:
    held, captured = filled(stores)
    with stores.service() as service:
        app = api_app(lambda: service, CALLERS, observatory=a_service())
        with serving(load_settings(environment={}), app) as served:
            yield Shown(served.url, held, captured)


def filled(stores: Stores) -> tuple[Result, Result]:
    """Have a partner with a tree, 30 payments, and a hold that was captured in part; some of it archived."""
    metadata = json.dumps({"note": HOSTILE}).encode()
    paid = [stores.ledger.pay(ROOT, 100 * number, incarnation=TOPIC_ID) for number in range(1, 31)]
    held = stores.ledger.pay(ROOT, 500, incarnation=TOPIC_ID, type=CommandType.PLACE_HOLD, metadata=metadata)
    captured = stores.ledger.pay(
        ROOT, 200, incarnation=TOPIC_ID, type=CommandType.CAPTURE_HOLD, transaction_id=held.command_id
    )
    tree = ("acme:vn", "acme:vn:shop-17", "acme:at")
    last = captured.postings[0]
    stores.lane.write(
        len(stores.ledger.results),
        journal=[journal_row_of(payload) for payload in stores.ledger.results],
        opened=[
            Account(ROOT, "USD", balance=last.balance, sequence=last.sequence),
            *(Account(name, "USD", balance=1_250_000_00) for name in tree),
        ],
        holds=[((ROOT, held.command_id), Hold(ROOT, "USD", 500, 300, 1, clock_ms() + 60_000), False)],
    )
    stores.archived(paid[:20])
    return held, captured


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_nothing_wrong_and_nothing_is_wider_than_the_window(
    shown: Shown, chromium: Browser, width: int, dark: bool
) -> None:
    chromium.dark(dark=dark)
    chromium.size(width, 844)
    for name, path in shown.paths.items():
        chromium.open(shown.url + path)
        if PICTURES:
            chromium.picture(Path(PICTURES) / f"{name}-{width}-{'dark' if dark else 'light'}.png")
        assert chromium.run("return document.documentElement.scrollWidth <= window.innerWidth"), name
        assert chromium.violations() == [], name


def test_a_text_that_looks_like_a_script_runs_nowhere(shown: Shown, chromium: Browser) -> None:
    for path in shown.paths.values():
        chromium.open(shown.url + path)
        assert chromium.run("return document.scripts.length + document.images.length") == 0
    chromium.open(shown.url + shown.paths["transaction"])
    assert (
        HOSTILE
        in json.loads(
            chromium.run("return [...document.querySelectorAll('.id')].map(e => e.textContent).find(t => t[0] == '{')")
        ).values()
    )
    # What got past the escaping would still not run, neither as a script nor as an attribute.
    for name, made in (
        ("script", "e.append('window.ran = 1')"),
        ("button", "e.setAttribute('onclick', 'window.ran = 1')"),
    ):
        element = f"const e = document.createElement('{name}'); try {{ {made} }} catch {{}} document.body.append(e); "
        assert chromium.run(element + "e.click(); return window.ran === undefined"), name


def test_every_page_can_be_read_without_scripts(shown: Shown, chromium: Browser) -> None:
    texts = {}
    for run in (True, False):
        chromium.scripts(run=run)
        chromium.open(shown.url + shown.paths["statement"])
        texts[run] = chromium.run("return document.body.innerText")
    chromium.scripts(run=True)

    assert texts[True] == texts[False]


def test_who_has_only_a_keyboard_comes_to_the_content_first_and_then_to_each_link(
    shown: Shown, chromium: Browser
) -> None:
    chromium.open(shown.url + shown.paths["partners"])
    here = "const e = document.activeElement; return e.textContent.trim() || e.name || e.id"
    chromium.press("\ue004")
    assert chromium.run(here) == "Skip to the content"
    assert chromium.run("return document.activeElement.getBoundingClientRect().left >= 0")
    met = []
    for _ in range(20):
        chromium.press("\ue004")
        met.append(chromium.run(here))
    wanted = ["Balance", "Overview", "Partners", "Dead letters", "Moves", "text", "Find"]
    assert met[: len(wanted)] == wanted
    assert "acme:vn:shop-17 USD" in met
    assert chromium.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_hold_is_shown_with_its_capture_and_what_is_open(shown: Shown, chromium: Browser) -> None:
    chromium.open(shown.url + shown.paths["transaction"])
    steps = chromium.run("return [...document.querySelectorAll('.step strong')].map(e => e.textContent)")
    text = chromium.run("return document.body.innerText")

    assert steps == ["PLACE_HOLD", "CAPTURE_HOLD"]
    assert "Open: hold of 5.00 USD, 3.00 USD left until " in text


def test_a_statement_shows_its_line_and_adds_up(shown: Shown, chromium: Browser) -> None:
    chromium.open(shown.url + shown.paths["statement"])
    points = chromium.run("return document.querySelector('polyline.balance').points.length")
    box = chromium.run("const b = document.querySelector('svg').getBoundingClientRect(); return [b.width, b.height]")
    figures = chromium.run("return [...document.querySelectorAll('dd b')].map(e => e.textContent)")
    changes = chromium.run("return [...document.querySelectorAll('tbody tr td:nth-child(3)')].map(e => e.textContent)")

    def cents(text: str) -> int:
        return int(text.removesuffix(" USD").replace(".", "").replace(",", ""))

    assert points > 10
    assert min(box) > 100
    assert cents(figures[0]) + sum(map(cents, changes)) == cents(figures[1])


@pytest.mark.parametrize("name", ["partners", "statement", "transaction"])
def test_what_is_read_from_the_stores_is_as_well_formed_as_the_rest(stores: Stores, shown: Shown, name: str) -> None:
    with stores.service() as service:
        said = ask(api_app(lambda: service, CALLERS), shown.paths[name], token=OPERATOR)

    assert said.status == 200
    assert what_is_wrong(HtmlPage(said.body)) == []


def test_a_partner_sees_his_own_branch_on_the_page_and_nothing_of_the_rest(stores: Stores, shown: Shown) -> None:
    with stores.service() as service:
        app = api_app(lambda: service, CALLERS)
        own = HtmlPage(ask(app, "/partners", token=PARTNER).body)
        others = [
            ask(app, path, token=PARTNER) for name, path in shown.paths.items() if name not in {"overview", "problems"}
        ]

    accounts = [each.text.split()[0] for each in own.all("th") if each.attributes["scope"] == "row"]
    assert accounts == ["acme:vn", "acme:vn:shop-17"]
    assert {said.status for said in others} == {400, 403, 404}
    assert not [said for said in others if b"PLACE_HOLD" in said.body or quote(ROOT + ":at").encode() in said.body]
