"""The read API on real stores: what it answers is what is there, as its description says, and each sees his own."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.applications import Starlette

from processors.ids import id_text
from processors.ledger.rows import Account
from processors.lookup.statements import ROWS_DEFAULT
from processors.lookup.times import show_time
from processors.ops.api.answers import cursor_of
from processors.ops.api.tokens import Caller, Scope, hash_of, make_token
from tests.api_parts import api_app
from tests.asgi import Answered, ask
from tests.integration.mysql_shard import SHARD, TOPIC_ID
from tests.integration.shard_and_archive import ROOT, Stores

ALL, MINE, OTHERS = make_token(), make_token(), make_token()
CALLERS = {
    hash_of(ALL): Caller(name="books", scope=Scope.READ),
    hash_of(MINE): Caller(name="acme", scope=Scope.PARTNER, below=ROOT),
    hash_of(OTHERS): Caller(name="globex", scope=Scope.PARTNER, below="globex"),
}


@pytest.fixture
def app(stores: Stores) -> Iterator[Starlette]:
    with stores.service() as service:
        yield api_app(lambda: service, CALLERS)


def described(app: Starlette, answered: Answered, path: str) -> Any:
    """Return an answer's JSON, once it has each member that the description says it has."""
    assert answered.status == 200, answered.body
    said = ask(app, "/openapi.json").json
    schema = said["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    _has_members(answered.json, schema, said["components"]["schemas"])
    return answered.json


def _has_members(value: Any, schema: Any, known: Any) -> None:
    if "$ref" in schema:
        schema = known[schema["$ref"].rpartition("/")[2]]
    if schema["type"] == "object":
        assert set(schema["required"]) <= set(value)
        assert schema.get("additionalProperties", True) or set(value) <= set(schema["properties"])
        for name, each in schema["properties"].items():
            _has_members(value[name], each, known)
    elif schema["type"] == "array":
        for each in value:
            _has_members(each, schema["items"], known)
    else:
        types = {"string": str, "integer": int, "boolean": bool, "null": type(None), "object": dict}
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert isinstance(value, tuple(types[name] for name in names))


def test_an_account_its_statement_and_its_transactions_are_answered_as_described(
    stores: Stores, app: Starlette
) -> None:
    old, new = ([stores.ledger.pay(ROOT, incarnation=TOPIC_ID) for _ in range(count)] for count in (3, 2))
    stores.in_mysql([*old, *new], balance=new[-1].postings[0].balance)
    stores.archived(old)

    path = "/v1/accounts/{address}/{currency}"
    account = described(app, ask(app, "/v1/accounts/acme/USD", token=MINE), path)
    listed = described(app, ask(app, "/v1/accounts", token=ALL), "/v1/accounts")
    found = described(
        app,
        ask(app, f"/v1/transactions/{id_text(old[0].command_id)}", token=MINE),
        "/v1/transactions/{id}",
    )
    pages: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        said = ask(app, f"/v1/accounts/acme/USD/statement?limit=2&cursor={cursor}", token=MINE)
        pages.append(described(app, said, f"{path}/statement"))
        cursor = pages[-1]["next_cursor"]

    assert account["balance_minor"] == str(new[-1].postings[0].balance)
    assert account["balance"].endswith(" USD")
    assert (listed["accounts"], listed["next_cursor"]) == ([account], None)
    assert [step["command_id"] for step in found["steps"]] == [id_text(old[0].command_id)]
    assert [change["sequence"] for page in pages for change in page["changes"]] == [1, 2, 3, 4, 5]
    assert pages[-1]["closing_balance"] == account["balance"]
    for page in pages:
        total = sum(int(change["balance_change_minor"]) for change in page["changes"])
        assert int(page["opening_balance_minor"]) + total == int(page["closing_balance_minor"])
    rows = list(csv.DictReader(io.StringIO(ask(app, "/v1/accounts/acme/USD/statement.csv", token=MINE).body.decode())))
    assert [row["type"] for row in rows] == ["OPENING", *["PAY"] * 5, "CLOSING"]


def rows_of_csv(answered: Answered) -> list[dict[str, str]]:
    assert answered.status == 200, answered.body
    return list(csv.DictReader(io.StringIO(answered.body.decode())))


def cents(amount: str) -> int:
    return int(amount.replace(".", ""))


def test_a_csv_is_the_whole_period_however_many_pages_it_has_or_none_of_it(stores: Stores, app: Starlette) -> None:
    paid = [stores.ledger.pay(ROOT, incarnation=TOPIC_ID) for _ in range(ROWS_DEFAULT + 50)]
    stores.in_mysql(paid, balance=paid[-1].postings[0].balance)
    stores.archived(paid[:-40])
    path = "/v1/accounts/acme/USD/statement.csv"
    until = f"until={show_time(paid[-10].lane_time_ms)}"

    whole, part = (rows_of_csv(ask(app, f"{path}?{query}", token=MINE)) for query in ("", until))
    refused = ask(app, f"{path}?limit={len(paid) - 1}", token=MINE)

    opening, *changes, closing = whole
    assert [row["type"] for row in (opening, closing)] == ["OPENING", "CLOSING"]
    assert [int(row["sequence"]) for row in changes] == [each.postings[0].sequence for each in paid]
    total = sum(cents(row["change"]) for row in changes)
    assert cents(opening["balance"]) + total == cents(closing["balance"]) == paid[-1].postings[0].balance
    assert cents(part[-1]["balance"]) == paid[-11].postings[0].balance
    assert len(part) == len(whole) - 10
    assert (refused.status, refused.json["code"]) == (400, "WRONG_QUESTION")
    assert f"the period has {len(paid)} changes" in refused.json["detail"]


def test_a_cursor_behind_the_last_change_is_a_wrong_question_and_no_lost_change(stores: Stores, app: Starlette) -> None:
    paid = [stores.ledger.pay(ROOT, incarnation=TOPIC_ID) for _ in range(4)]
    stores.in_mysql(paid, balance=paid[-1].postings[0].balance)
    stores.archived(paid[:2])

    for path in ("/v1/accounts/acme/USD/statement", "/v1/accounts/acme/USD/statement.csv", "/partners/acme/USD"):
        for made_up in (str(len(paid) + 1), "9" * 18):
            said = ask(app, f"{path}?cursor={cursor_of(made_up)}", token=MINE)
            assert said.status == 400, (path, made_up, said.body)
            assert b"the account has fewer changes" in said.body
    last = ask(app, f"/v1/accounts/acme/USD/statement?cursor={cursor_of(str(len(paid)))}", token=MINE)
    assert (last.status, last.json["changes"], last.json["next_cursor"]) == (200, [], None)
    behind = ask(app, f"/v1/accounts?cursor={cursor_of('zzz')}", token=MINE).json
    assert (behind["accounts"], behind["next_cursor"]) == ([], None)


def test_another_partners_token_learns_nothing_not_even_that_there_is_something(stores: Stores, app: Starlette) -> None:
    paid = stores.ledger.pay(ROOT, incarnation=TOPIC_ID)
    stores.in_mysql([paid], balance=paid.postings[0].balance)

    assert ask(app, "/v1/accounts", token=OTHERS).json["accounts"] == []
    for path in ("", "/statement", "/statement.csv"):
        there, absent = (ask(app, f"/v1/accounts/{who}/USD{path}", token=OTHERS) for who in (ROOT, "nobody"))
        assert (there.status, there.body) == (absent.status, absent.body) == (403, there.body)
    there, absent = (
        ask(app, f"/v1/transactions/{id_text(each)}", token=OTHERS) for each in (paid.command_id, bytes(16))
    )
    assert (there.status, absent.status) == (404, 404)
    assert ask(app, f"/v1/transactions/{id_text(paid.command_id)}", token=MINE).status == 200


def test_accounts_are_listed_a_page_at_a_time(stores: Stores, app: Starlette) -> None:
    names = ["acme", "acme:a", "acme:b", "acme:c"]
    stores.lane.write(1, opened=[Account(name, "USD") for name in names])

    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = described(app, ask(app, f"/v1/accounts?limit=3&cursor={cursor}", token=MINE), "/v1/accounts")
        found += [account["address"] for account in page["accounts"]]
        cursor = page["next_cursor"]

    assert found == names


def test_where_the_service_stands_is_answered_as_described(stores: Stores, app: Starlette) -> None:
    stores.in_mysql([stores.ledger.pay(ROOT, incarnation=TOPIC_ID)])

    lanes = described(app, ask(app, "/v1/lanes", token=ALL), "/v1/lanes")["lanes"]
    shards = described(app, ask(app, "/v1/shards", token=ALL), "/v1/shards")["shards"]
    rules = described(app, ask(app, "/v1/rules", token=ALL), "/v1/rules")["rules"]

    assert [(lane["shard"], lane["next_offset"], lane["stop_code"]) for lane in lanes] == [(SHARD.shard, 1, "")]
    assert [(shard["shard"], shard["lanes"]) for shard in shards] == [(SHARD.shard, SHARD.lanes)]
    assert {each["lane"] for each in rules} == set(range(SHARD.lanes))


def test_one_reads_ones_own_write_or_is_told_that_it_is_not_there_yet(stores: Stores, app: Starlette) -> None:
    stores.in_mysql([paid := stores.ledger.pay(ROOT, incarnation=TOPIC_ID)])
    position = f"{SHARD.shard}:{paid.lane}"

    for path in ("", "/statement", "/statement.csv"):
        asked = f"/v1/accounts/acme/USD{path}?min_position={position}:"
        assert ask(app, asked + str(paid.lane_offset), token=MINE).status == 200
        late = ask(app, asked + str(paid.lane_offset + 1), token=MINE)
        assert (late.status, late.json["code"], late.headers["retry-after"]) == (503, "NOT_YET", "1")
    for other in ("s9:0:1", f"{SHARD.shard}:99:1"):
        said = ask(app, f"/v1/accounts/acme/USD?min_position={other}", token=MINE)
        assert (said.status, said.json["code"]) == (400, "WRONG_QUESTION")


def test_a_write_that_comes_while_it_is_waited_for_is_in_the_answer(stores: Stores, app: Starlette) -> None:
    stores.in_mysql([first := stores.ledger.pay(ROOT, incarnation=TOPIC_ID)], balance=5)
    second = stores.ledger.pay(ROOT, incarnation=TOPIC_ID)
    writing = threading.Timer(0.5, lambda: stores.in_mysql([second]))
    writing.start()

    asked = (
        f"/v1/transactions/{id_text(second.command_id)}?min_position={SHARD.shard}:{first.lane}:{second.lane_offset}"
    )
    said = ask(app, asked, token=MINE)

    writing.join()
    assert [step["command_id"] for step in said.json["steps"]] == [id_text(second.command_id)]


def test_lists_of_the_service_go_on_where_they_ended(stores: Stores, app: Starlette) -> None:
    del stores
    found: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = described(app, ask(app, f"/v1/rules?limit=3&cursor={cursor}", token=ALL), "/v1/rules")
        found += [each["lane"] for each in page["rules"]]
        cursor = page["next_cursor"]

    assert found == list(range(SHARD.lanes))
