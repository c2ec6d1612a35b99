"""The read API before any database is asked: who may ask, what a question must be, and how a no is said."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from starlette.applications import Starlette

from processors.faults import Fault, Misconfigured, Retryable, Unavailable
from processors.ledger.outcomes import Contra, Posting, RefusedBy
from processors.ledger.rows import Hold
from processors.lookup.history import Transaction
from processors.lookup.service import LookupPlaces, ServiceReader
from processors.ops.api import openapi
from processors.ops.api.answering import seen_by
from processors.ops.api.answers import cursor_of, with_typed_amounts
from processors.ops.api.app import ANSWERS, OVERSIGHT, STATEMENT_CSV
from processors.ops.api.problems import ALL_KINDS, MEDIA_TYPE, problem_of
from processors.ops.api.readers import WAITING_MAX, Readers
from processors.ops.api.tokens import Caller, Scope, hash_of, make_token
from processors.ops.looking_up import read_service
from processors.settings import Settings, load_settings
from processors.stores.addresses import CassandraAddress
from tests.api_parts import LIMITS, api_app
from tests.architecture.source_tree import ROOT
from tests.archived import a_result
from tests.asgi import ask
from tests.waiting import eventually

PARTNER, READER, OPERATOR = make_token(), make_token(), make_token()
CALLERS = {
    hash_of(PARTNER): Caller(name="acme", scope=Scope.PARTNER, below="acme"),
    hash_of(READER): Caller(name="books", scope=Scope.READ),
    hash_of(OPERATOR): Caller(name="ops", scope=Scope.OPERATE),
}


def nowhere() -> ServiceReader:
    archive = CassandraAddress(hosts=("127.0.0.1",), port=1, keyspace="none", local_dc="none")
    return ServiceReader(LookupPlaces(shards={}, home_shard="s1", archive=archive))


@pytest.fixture
def app() -> Starlette:
    return api_app(nowhere, CALLERS)


@pytest.mark.parametrize("path", [*ANSWERS, *OVERSIGHT, STATEMENT_CSV])
@pytest.mark.parametrize("token", ["", "wrong", PARTNER[:-1]], ids=["none", "wrong", "cut"])
def test_who_sends_no_token_that_is_known_gets_nothing(app: Starlette, path: str, token: str) -> None:
    said = ask(app, path.format(address="acme", currency="USD", id="0" * 32), token=token)

    assert (said.status, said.json["code"], said.headers["www-authenticate"]) == (401, "NO_TOKEN", "Bearer")


@pytest.mark.parametrize("address", ["other", "acme2", "acme2:vn", "ac"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/accounts/{}/USD",
        "/v1/accounts/{}/USD/statement",
        "/v1/accounts/{}/USD/statement.csv",
        "/v1/accounts?below={}",
    ],
)
def test_a_partners_token_asks_of_nobody_else(app: Starlette, path: str, address: str) -> None:
    said = ask(app, path.format(address), token=PARTNER)

    assert (said.status, said.json["code"]) == (403, "OUT_OF_SCOPE")
    assert said.json["detail"] == "the token is for acme and what is below it"


@pytest.mark.parametrize("path", ["/v1/lanes", "/v1/shards", "/v1/rules"])
def test_a_partners_token_sees_nothing_of_the_service(app: Starlette, path: str) -> None:
    assert ask(app, path, token=PARTNER).status == 403
    assert ask(app, path, token=READER).status == 200
    assert ask(app, path, token=OPERATOR).status == 200


def test_of_a_transaction_a_partner_sees_his_own_steps_and_levels() -> None:
    def posting(address: str) -> Posting:
        return Posting(address, Contra.SETTLEMENT, -1, 0, 99, 0, 0, 1)

    mine = replace(
        a_result(),
        address="acme:vn:shop",
        postings=(posting("acme"), posting("acme:vn"), posting("acme:vn:shop")),
        refused_by=RefusedBy(address="acme", available_minor=7, missing_minor=1),
    )
    other = replace(a_result(1), address="globex", postings=(posting("globex"),))
    hold = Hold("globex", "USD", 5, 5, 1, 1)
    found = Transaction(steps=[mine, other], open=[("globex", hold)])

    seen = seen_by(Caller(name="vn", scope=Scope.PARTNER, below="acme:vn"), found)

    assert [step.address for step in seen.steps] == ["acme:vn:shop"]
    assert [posting.address for posting in seen.steps[0].postings] == ["acme:vn", "acme:vn:shop"]
    assert seen.steps[0].refused_by is None
    assert seen.open == []
    assert seen_by(Caller(name="books", scope=Scope.READ), found) == found


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/v1/accounts/acme/XXXX", "is not a currency"),
        ("/v1/accounts/acme%20x/USD", "is no address"),
        ("/v1/transactions/17", "is not an id"),
        ("/v1/accounts?limit=0", "limit is 0: it may be 1 to 1000"),
        ("/v1/accounts?limit=-1", "is no number"),
        ("/v1/accounts?limit=" + "9" * 400, "is no number"),
        ("/v1/accounts?cursor=%ff", "cursor is none"),
        ("/v1/accounts/acme/USD/statement?tz=Vienna", "is not a time zone"),
        ("/v1/accounts/acme/USD/statement?tz=../../etc/passwd", "is not a time zone"),
        ("/v1/accounts/acme/USD/statement?from=yesterday", "is neither a day nor a time"),
        ("/v1/accounts/acme/USD/statement?from=2026-03-02&until=2026-03-01", "before it begins"),
        ("/v1/accounts/acme/USD/statement?cursor=" + cursor_of("acme"), "is no number"),
        ("/v1/accounts/acme/USD/statement?until=0001-01-01T00:00:00%2B05:45", "before it begins"),
        ("/v1/accounts/acme/USD/statement?until=0001-01-01T00:00:00Z&tz=America/New_York", "before it begins"),
        ("/v1/accounts/acme/USD/statement?from=9999-12-31T23:00:00Z&tz=Asia/Kathmandu", "after the year 9999"),
        ("/v1/accounts/acme/USD/statement?until=" + "9" * 5_000, "Exceeds the limit"),
    ],
)
def test_a_question_that_cannot_be_read_is_told_what_is_wrong_with_it(app: Starlette, path: str, detail: str) -> None:
    said = ask(app, path, token=READER)

    assert (said.status, said.json["code"], said.headers["content-type"]) == (400, "WRONG_QUESTION", MEDIA_TYPE)
    assert detail in said.json["detail"]


def test_nothing_is_changed_and_what_is_not_there_is_said(app: Starlette) -> None:
    posted, lost = ask(app, "/v1/accounts", method="POST"), ask(app, "/v2/accounts")

    assert (posted.status, posted.json["code"], posted.headers["allow"]) == (405, "READ_ONLY", "GET, HEAD")
    assert (lost.status, lost.json["code"]) == (404, "NOT_FOUND")


def test_nobody_is_sent_to_the_host_that_he_names_himself(app: Starlette) -> None:
    said = ask(app, "/v1/accounts/", host="evil.example")

    assert (said.status, said.json["code"], said.headers.get("location")) == (404, "NOT_FOUND", None)


@pytest.mark.parametrize("host", ["127.0.0.1:18080", "localhost", "LOCALHOST.:80", "[::1]:18080", "ledger.example"])
def test_who_asks_by_a_name_of_ours_is_answered(host: str) -> None:
    assert ask(of_own_names(), "/openapi.json", host=host).status == 200


@pytest.mark.parametrize("host", ["evil.example:18080", "127.0.0.1.evil.example", "", "[::2]", "127.0.0.2"])
def test_a_page_that_gives_its_own_name_to_our_address_learns_nothing(host: str) -> None:
    said = ask(of_own_names(), "/v1/accounts", host=host)

    assert (said.status, said.json["code"], said.headers["content-type"]) == (421, "WRONG_HOST", MEDIA_TYPE)


def of_own_names() -> Starlette:
    own = changed(names=["ledger.example"]).api.own_names
    return api_app(nowhere, {}, names=own)


def test_names_are_checked_on_loopback_and_elsewhere_where_they_are_set() -> None:
    elsewhere: dict[str, Any] = {"host": "10.0.0.7", "tokens": {"a": TOKEN}, **TLS}

    assert "localhost" in changed().api.own_names
    assert changed(**elsewhere).api.own_names == set()
    assert changed(**elsewhere, names=["ledger.example"]).api.own_names == {"ledger.example"}


def test_an_answer_above_the_limit_is_refused_with_what_to_ask_instead() -> None:
    said = ask(api_app(nowhere, {}, limits=replace(LIMITS, bytes_max=5)), "/v1/lanes")

    assert (said.status, said.json["code"]) == (422, "TOO_MUCH")
    assert said.json["detail"] == "the answer has 35 bytes, 5 at most: ask with a smaller limit"


@pytest.mark.parametrize("fault", [Unavailable("db at 10.0.0.1"), Retryable("x"), Misconfigured("password file /x")])
def test_a_fault_is_told_without_the_places_that_it_names(fault: Fault) -> None:
    told = str(problem_of(fault))

    assert not re.search(r"10\.0|/x", told)


def test_who_waits_too_long_for_a_connection_is_told_to_come_again() -> None:
    readers = Readers(nowhere, 1)
    with readers.lent(), pytest.raises(Exception, match="no connection became free"), readers.lent(wait_s=0.01):
        pass
    with readers.lent(wait_s=0.01):
        pass


def test_who_waits_for_a_position_holds_no_reader_and_not_every_thread() -> None:
    readers, never = Readers(nowhere, 1), threading.Event()
    waiting = [
        threading.Thread(target=readers.ask_when, args=(lambda _: never.is_set(), str), kwargs={"wait_s": 30.0})
        for _ in range(WAITING_MAX)
    ]
    for thread in waiting:
        thread.start()

    def refused_at_once() -> bool:
        began_s = time.monotonic()
        return readers.ask_when(lambda _: False, str, wait_s=0.5) is None and time.monotonic() - began_s < 0.5

    eventually(refused_at_once, "as many wait as may")
    with readers.lent(wait_s=5):
        pass
    never.set()
    for thread in waiting:
        thread.join()
    assert readers.ask_when(lambda _: True, lambda _: "answer") == "answer"


def test_an_answer_that_is_known_is_not_sent_again(app: Starlette) -> None:
    first = ask(app, "/openapi.json")
    again = ask(app, "/openapi.json", if_none_match=f'"x", {first.headers["etag"]}')

    assert (first.status, again.status, again.body) == (200, 304, b"")
    assert again.headers["etag"] == first.headers["etag"]


def test_the_description_has_every_path_and_every_name_that_it_refers_to(app: Starlette) -> None:
    said = ask(app, "/openapi.json").json

    assert said["openapi"] == "3.1.0"
    validate(said, cls=OpenAPIV31SpecValidator)
    assert set(said["paths"]) == {*ANSWERS, *OVERSIGHT, STATEMENT_CSV}
    names = set(re.findall(r'"#/components/schemas/([A-Za-z]+)"', json.dumps(said)))
    assert names == set(said["components"]["schemas"])
    for path, methods in said["paths"].items():
        inside = {each["name"] for each in methods["get"]["parameters"] if each["in"] == "path"}
        assert inside == set(re.findall(r"{(\w+)}", path))
    identifiers = [methods["get"]["operationId"] for methods in said["paths"].values()]
    assert len(set(identifiers)) == len(identifiers)


def test_every_problem_is_explained_on_the_page_of_the_api() -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")

    assert [kind.code for kind in ALL_KINDS if f"### {kind.code}\n" not in page] == []


def test_amounts_are_texts_that_no_program_rounds() -> None:
    told: Any = with_typed_amounts({"currency": "JPY", "balance_minor": 2**60 + 1, "metadata": {"fee_minor": 3}})

    assert told == {
        "currency": "JPY",
        "balance_minor": "1152921504606846977",
        "balance": "1152921504606846977 JPY",
        "metadata": {"fee_minor": 3},
    }


TOKEN = {"sha256": "0" * 64, "scope": "read"}
TLS = {"tls_certificate_file": "c.pem", "tls_key_file": "k.pem"}


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.7", "balance.example", "::"])  # noqa: S104 - refused
@pytest.mark.parametrize("guarded", [{}, {"tokens": {"a": TOKEN}}, TLS])
def test_another_machine_is_answered_only_with_a_token_and_tls(host: str, guarded: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match="needs a token"):
        changed(host=host, **guarded)
    assert changed(host=host, tokens={"a": TOKEN}, **TLS).api.host == host


@pytest.mark.parametrize(
    "token", [{**TOKEN, "scope": "partner"}, {**TOKEN, "below": "acme"}, {**TOKEN, "sha256": "short"}]
)
def test_a_token_that_says_not_whose_it_is_is_refused(token: dict[str, str]) -> None:
    with pytest.raises(Misconfigured):
        changed(tokens={"a": token})


def changed(**api: Any) -> Settings:
    return load_settings(environment={}).changed(api=api)


def test_the_description_is_the_same_each_time() -> None:
    assert openapi.description() == openapi.description()


def test_a_replica_is_asked_where_one_is_named_and_the_database_itself_elsewhere() -> None:
    settings = load_settings(environment={}).changed(shards={"s1": {"replica_host": "10.0.0.9"}})
    own, replica = (read_service(settings, of_replicas=each).places.shards for each in (False, True))

    assert replica["s1"] == replace(own["s1"], host="10.0.0.9")
    assert replica["s2"] == own["s2"]
