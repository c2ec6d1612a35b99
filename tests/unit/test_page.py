"""The operators' page: it runs nothing, shows only what a caller may see, and can be used without eyes or mouse."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from starlette.applications import Starlette

from processors.faults import Unavailable
from processors.lookup.archived import LaneArchived
from processors.ops.api.problems import ALL_KINDS
from processors.ops.api.tokens import Caller, Scope, hash_of, make_token
from processors.ops.dead_letters import LettersPage
from processors.ops.page.chart import HEIGHT, WIDTH, chart_of
from processors.ops.page.rendering import style
from processors.ops.page.routes import FIND, OF_MONEY, OF_SERVICE, STYLE
from processors.ops.status import ServerStatus, ServiceStatus, ShardStatus
from processors.wire.statement_chunk import StatementRow
from tests.api_parts import NOW_MS, FixedObservatory, a_finding, a_lane, a_letter, a_move, a_status, api_app
from tests.asgi import Answered, ask
from tests.html_page import HtmlPage, what_is_wrong
from tests.unit.test_api import nowhere

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}"
PARTNER, READER, OPERATOR = make_token(), make_token(), make_token()
CALLERS = {
    hash_of(PARTNER): Caller(name="acme", scope=Scope.PARTNER, below="acme:vn"),
    hash_of(READER): Caller(name="books", scope=Scope.READ),
    hash_of(OPERATOR): Caller(name="ops", scope=Scope.OPERATE),
}
EVERY_PAGE = [*OF_MONEY, *OF_SERVICE, FIND]


def a_service(**changed: Any) -> FixedObservatory:
    counts = a_status().shards[0].counts
    stopped = a_lane(
        1, stop_code="LOG_GAP", stop_detail=HOSTILE, stopped_at_ms=NOW_MS, next_step="balance lane restart 1"
    )
    values: dict[str, Any] = {
        "servers": [ServerStatus(server="Kafka", fault=HOSTILE)],
        "lanes": [a_lane(0, undecided=None), stopped],
        "shards": [ShardStatus(shard="s1", counts=counts, findings=[a_finding(subject=HOSTILE, detail=HOSTILE)])],
        "moves": [a_move(placement_key=HOSTILE)],
        "unknown_shards": [HOSTILE],
    }
    letters = LettersPage(letters=[a_letter(key=HOSTILE.encode())], before={0: 7})
    archived = [LaneArchived(shard="s1", lane=0, lane_time_ms=NOW_MS, until_ms=NOW_MS - 90_000)]
    return FixedObservatory(status=a_status(**values | changed), archived=archived, page=letters)


def service(seen: FixedObservatory | None = None) -> Starlette:
    return api_app(nowhere, CALLERS, observatory=seen or a_service())


def see(app: Starlette, path: str, token: str) -> Answered:
    word = base64.b64encode(f"anybody:{token}".encode()).decode()
    return ask(app, path, authorization=f"Basic {word}")


@pytest.mark.parametrize("path", ["/", "/dead-letters", "/moves", "/problems"])
def test_a_page_can_be_used_without_eyes_mouse_or_scripts(path: str) -> None:
    said = see(service(), path, OPERATOR)

    assert (said.status, said.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert what_is_wrong(HtmlPage(said.body)) == []


@pytest.mark.parametrize("path", OF_SERVICE)
def test_a_name_that_looks_like_markup_is_shown_as_it_is(path: str) -> None:
    said = see(service(), path, OPERATOR)
    page = HtmlPage(said.body)

    assert HOSTILE in page.text
    assert page.all("script") == page.all("img") == []
    assert b"<script" not in said.body
    assert "49" not in page.text.replace(HOSTILE, "")


@pytest.mark.parametrize("path", [*OF_SERVICE, "/problems", STYLE, "/partners/x/USD", FIND])
def test_every_answer_forbids_scripts_frames_and_other_sites(path: str) -> None:
    headers = see(service(), path, OPERATOR).headers
    policy = dict(each.strip().partition(" ")[::2] for each in headers["content-security-policy"].split(";"))

    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert not {"script-src", "unsafe-inline"} & set(re.split(r"[ ;]", headers["content-security-policy"]))
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")


@pytest.mark.parametrize("path", EVERY_PAGE)
@pytest.mark.parametrize("token", ["", "wrong"])
def test_who_has_no_token_is_asked_for_one_and_sees_nothing(path: str, token: str) -> None:
    said = see(service(), path.format(address="acme", currency="USD", id="0" * 32), token)

    assert (said.status, said.headers["www-authenticate"]) == (401, 'Basic realm="Balance", charset="UTF-8"')
    assert what_is_wrong(HtmlPage(said.body)) == []
    assert "the password is the token" in HtmlPage(said.body).text


def test_a_partner_comes_to_his_own_and_sees_nothing_of_the_service() -> None:
    home = see(service(), "/", PARTNER)

    assert (home.status, home.headers["location"]) == (303, "/partners?below=acme%3Avn")
    for path in ("/dead-letters", "/moves", "/partners?below=globex", "/partners/acme/USD"):
        said = see(service(), path, PARTNER)
        assert said.status == 403, path
        assert HOSTILE not in HtmlPage(said.body).text


def test_who_reads_sees_stopped_lanes_and_no_findings() -> None:
    page = HtmlPage(see(service(), "/", READER).body)

    assert "LOG_GAP" in page.text
    assert "ARCHIVE_DIFFERS" not in page.text
    assert [each.attributes["href"] for each in page.all("a") if "nav" in each.inside] == ["/", "/partners"]


def test_what_is_wrong_stands_first_with_the_command_that_mends_it() -> None:
    text = HtmlPage(see(service(), "/", OPERATOR).body).text

    assert text.index("Lane 1 of s1 stopped: LOG_GAP.") < text.index("Throughput")
    assert "What to do: balance lane restart 1" in text
    assert "What to do: balance archive repair" in text
    assert "Oldest unarchived 1m 30s" in text
    assert "The move of" in text


@pytest.mark.parametrize("path", ["/", "/moves"])
def test_what_is_to_be_typed_is_told_apart_from_the_words_around_it(path: str) -> None:
    page = HtmlPage(see(service(a_service(moves=[a_move(placement_key="acme`<b>`")])), path, OPERATOR).body)

    assert {"balance status", "balance shard show s1"} <= {each.text.strip() for each in page.all("code")}
    assert "acme`<b>`" in page.text


def test_a_service_that_is_well_says_so() -> None:
    status = a_status()
    text = HtmlPage(see(service(FixedObservatory(status=status)), "/", OPERATOR).body).text

    assert status.good
    assert "Every lane runs, every server answers, and nothing was found." in text


@pytest.mark.parametrize(
    "status", [a_service().status, a_status(), a_status(unknown_shards=["s9"])], ids=["bad", "good", "shard"]
)
def test_somebody_must_look_where_the_status_says_so(status: ServiceStatus) -> None:
    text = HtmlPage(see(service(FixedObservatory(status=status)), "/", OPERATOR).body).text

    assert ("Somebody must look" in text) == (not status.good)


def test_what_is_not_known_is_no_nought() -> None:
    seen = FixedObservatory(status=a_status(moves=None, lanes=[a_lane(undecided=None)]), archived=None)
    text = HtmlPage(see(service(seen), "/", OPERATOR).body).text

    for name in ("Throughput", "Wait in lanes", "Oldest unarchived", "Moves under way"):
        assert f"{name} unknown" in text


@pytest.mark.parametrize(
    ("text", "status", "place"),
    [
        ("acme:vn", 303, "/partners?below=acme%3Avn"),
        ("01a22720-3813-76d6-bebb-b082669ec1e8", 303, "/transactions/01a22720-3813-76d6-bebb-b082669ec1e8"),
        ("//evil.example", 303, "/partners?below=%2F%2Fevil.example"),
        ("", 400, None),
        ("x" * 201, 400, None),
    ],
    ids=["address", "id", "host", "nothing", "long"],
)
def test_what_is_looked_for_is_found_here_and_on_no_other_host(text: str, status: int, place: str | None) -> None:
    said = see(service(), f"/find?text={text}", OPERATOR)

    assert (said.status, said.headers.get("location")) == (status, place)


def test_a_fault_is_told_without_the_places_that_it_names() -> None:
    seen = FixedObservatory(fault=Unavailable("no broker at 10.0.0.1"))
    said = see(service(seen), "/dead-letters", OPERATOR)

    assert said.status == 503
    assert "10.0.0.1" not in HtmlPage(said.body).text


def test_every_problem_leads_to_what_it_means() -> None:
    ids = {each.attributes.get("id") for each in HtmlPage(ask(service(), "/problems").body).elements}
    told = ask(service(), "/v1/lanes").json["type"]

    assert told == "/problems#no_token"
    assert {kind.code.lower() for kind in ALL_KINDS} <= ids


# ------------------------------------------------------------------ colours


def colours() -> dict[str, dict[str, str]]:
    """Return the style sheet's colours by name, in the light and in the dark."""
    light, dark = re.findall(r":root \{(.*?)\}", style().decode(), re.DOTALL)
    found = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", each)) for each in (light, dark)]
    return dict(zip(("light", "dark"), found, strict=True))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours (WCAG 2.2, 1.4.3)."""

    def luminance(colour: str) -> float:
        shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("ink", ["ink", "quiet", "link", "good", "bad"])
@pytest.mark.parametrize("paper", ["paper", "raised", "bad-paper"])
def test_a_text_can_be_read_on_each_ground(theme: str, ink: str, paper: str) -> None:
    known = colours()[theme]

    assert contrast(known[ink], known[paper]) >= 4.5


def test_no_colour_is_written_outside_the_two_themes() -> None:
    rest = re.sub(r":root \{.*?\}", "", style().decode(), flags=re.DOTALL)

    assert re.findall(r"#[0-9a-fA-F]{3,8}\b|rgba?\(", rest) == []


# ------------------------------------------------------------------ the chart


def a_row(sequence: int, balance: int, time_ms: int) -> StatementRow:
    return StatementRow(
        sequence=sequence, type="PAY", transaction_id=bytes(16), command_id=bytes(16), contra="@settlement",
        balance_change=0, held_change=0, balance=balance, held=0, overdraft_limit=0, lane_time_ms=time_ms, metadata=b"",
    )  # fmt: skip


def test_a_line_goes_from_the_opening_balance_through_each_one() -> None:
    chart: Any = chart_of(0, [a_row(1, 1_000, 0), a_row(2, -1_000, 50), a_row(3, 0, 100)], "USD")
    points = [tuple(map(int, each.split(","))) for each in chart.points.split()]
    middle, top, bottom = HEIGHT // 2, 4, HEIGHT - 4

    assert (chart.least, chart.most, chart.zero) == ("-10.00 USD", "10.00 USD", middle)
    assert points == [(0, middle), (0, top), (WIDTH // 2, top), (WIDTH // 2, bottom), (WIDTH, bottom), (WIDTH, middle)]


@pytest.mark.parametrize("rows", [[a_row(1, 5, 7)], [a_row(1, 2**62, 7), a_row(2, -(2**62), 7)]], ids=["one", "large"])
def test_a_line_stays_in_its_box(rows: list[StatementRow]) -> None:
    chart: Any = chart_of(5, rows, "USD")

    for point in chart.points.split():
        across, down = map(int, point.split(","))
        assert 0 <= across <= WIDTH
        assert 0 <= down <= HEIGHT


def test_however_many_changes_there_are_the_line_has_few_points() -> None:
    chart: Any = chart_of(0, [a_row(number, number % 97, number) for number in range(10_000)], "USD")

    assert len(chart.points.split()) <= 4 * (WIDTH + 1)
    assert chart_of(0, [], "USD") is None
