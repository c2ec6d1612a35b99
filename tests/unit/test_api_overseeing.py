"""What the API says of the service itself: only to whom it is for, a page at a time, as its description has it."""

from __future__ import annotations

import threading
from itertools import count
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from starlette.applications import Starlette

from processors.faults import Unavailable
from processors.lookup.archived import LaneArchived
from processors.ops.api.answers import text_of_cursor
from processors.ops.api.app import OVERSIGHT
from processors.ops.api.standing import Observed, ServiceSeen
from processors.ops.api.tokens import Caller, Scope, hash_of, make_token
from processors.ops.dead_letters import MISTAKES, LettersPage, likely_mistake
from processors.ops.status import ShardStatus, SinkStatus
from processors.wire.causes import Cause
from tests.api_parts import NOW_MS, FixedObservatory, a_finding, a_lane, a_letter, a_move, a_status, api_app
from tests.asgi import ask
from tests.unit.test_api import nowhere
from tests.waiting import eventually

PARTNER, READER, OPERATOR = make_token(), make_token(), make_token()
CALLERS = {
    hash_of(PARTNER): Caller(name="acme", scope=Scope.PARTNER, below="acme"),
    hash_of(READER): Caller(name="books", scope=Scope.READ),
    hash_of(OPERATOR): Caller(name="ops", scope=Scope.OPERATE),
}
KNOWN = a_status()
SEEN = FixedObservatory(
    status=a_status(
        shards=[ShardStatus(shard="s1", counts=KNOWN.shards[0].counts, findings=[a_finding(2), a_finding(1)])],
        moves=[a_move(), a_move(placement_key="globex", stage=None)],
        sink=[SinkStatus(partition=0, waiting=5)],
    ),
    archived=[LaneArchived(shard="s1", lane=0, lane_time_ms=NOW_MS, until_ms=NOW_MS - 1_500)],
    page=LettersPage(letters=[a_letter()], before={0: 7, 1: 3}),
)


def service(seen: FixedObservatory = SEEN) -> Starlette:
    return api_app(nowhere, CALLERS, observatory=seen)


@pytest.mark.parametrize("path", OVERSIGHT)
def test_an_answer_is_what_the_description_says(path: str) -> None:
    app = service()
    said, described = ask(app, path, token=OPERATOR), ask(app, "/openapi.json").json

    assert said.status == 200, said.body
    schema = described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": described["components"]}).validate(said.json)
    assert ask(app, path, token=OPERATOR, if_none_match=said.headers["etag"]).status == 304


@pytest.mark.parametrize(("path", "reader"), [(path, 200 if path == "/v1/archive" else 403) for path in OVERSIGHT])
def test_only_who_may_sees_how_the_service_stands(path: str, reader: int) -> None:
    assert [ask(service(), path, token=token).status for token in (PARTNER, READER)] == [403, reader]


def test_findings_go_on_where_they_ended_the_newest_first() -> None:
    first = ask(service(), "/v1/findings?limit=1", token=OPERATOR).json
    second = ask(service(), f"/v1/findings?limit=1&cursor={first['next_cursor']}", token=OPERATOR).json

    assert [page["findings"][0]["id"] for page in (first, second)] == [2, 1]
    assert second["next_cursor"] is None


def test_dead_letters_go_on_before_those_that_were_shown() -> None:
    seen = FixedObservatory(page=SEEN.page)
    first = ask(service(seen), "/v1/dead-letters?limit=5", token=OPERATOR).json
    ask(service(seen), f"/v1/dead-letters?cursor={first['next_cursor']}", token=OPERATOR)

    assert text_of_cursor(first["next_cursor"]) == "0:7,1:3"
    assert seen.asked == [({}, 5), ({0: 7, 1: 3}, 100)]
    assert ask(service(seen), "/v1/dead-letters?cursor=YQ", token=OPERATOR).status == 400


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/v1/moves", FixedObservatory(status=a_status(moves=None))),
        ("/v1/archive", FixedObservatory(archived=None)),
        ("/v1/dead-letters", FixedObservatory(fault=Unavailable("no broker at 10.0.0.1"))),
    ],
    ids=["moves", "archive", "dead-letters"],
)
def test_a_server_that_is_away_is_a_problem_and_no_empty_list(path: str, seen: FixedObservatory) -> None:
    said = ask(service(seen), path, token=OPERATOR)

    assert (said.status, said.json["code"]) == (503, "SERVER_AWAY")
    assert "10.0" not in said.body.decode()


def test_the_service_is_looked_at_once_for_all_who_ask_within_some_seconds() -> None:
    looks: list[int] = []

    def look() -> ServiceSeen:
        looks.append(len(looks))
        return ServiceSeen(status=KNOWN, archived=None, seen_ms=NOW_MS + len(looks))

    observed = Observed(look, lambda before, most: LettersPage(letters=[], before={most: len(before)}))

    assert [observed.standing().seen_ms for _ in range(3)] == [NOW_MS + 1] * 3
    assert looks == [0]


def test_who_asks_while_servers_are_asked_anew_gets_what_was_seen_last_at_once() -> None:
    go_on, looks = threading.Event(), count()

    def look() -> ServiceSeen:
        number = next(looks)
        assert number == 0 or go_on.wait(30)
        lanes = [a_lane(0, next_offset=100 * number), a_lane(1, next_offset=0)]
        return ServiceSeen(status=a_status(lanes=lanes), archived=None, seen_ms=NOW_MS + 500 * number)

    observed = Observed(look, lambda before, most: LettersPage(letters=[], before={most: len(before)}), fresh_s=0)
    first = observed.standing()

    assert [observed.standing() for _ in range(3)] == [first] * 3
    go_on.set()
    eventually(lambda: observed.standing() != first, "it was looked at again")
    assert observed.standing().per_second == 200


def test_every_cause_has_a_likely_mistake() -> None:
    assert set(MISTAKES) == set(Cause)


@pytest.mark.parametrize(("partition", "by_crc32"), [(0, False), (1, False), (2, True), (3, False)])
def test_a_record_that_lies_where_another_partitioner_puts_it_is_told_which(partition: int, by_crc32: bool) -> None:
    letter: Any = a_letter(partition, cause="WRONG_PARTITION", key=b"acme").letter

    assert ("librdkafka's default" in likely_mistake(letter, 4)) == by_crc32
