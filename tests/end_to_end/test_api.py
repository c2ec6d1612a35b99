"""The read API beside a whole service that runs: what was just paid is there, and how the service stands."""

from __future__ import annotations

import json
import signal
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette

from processors.ops import addresses
from processors.ops.api.app import OVERSIGHT, make_app
from processors.ops.assembly.api import opened
from processors.streams.topics import COMMANDS_TOPIC
from tests.asgi import Answered, ask
from tests.end_to_end.conftest import STOP_DEADLINE_S, Running, start
from tests.html_page import HtmlPage, what_is_wrong
from tests.kafka_log import KafkaLog
from tests.waiting import eventually

LETTERS = 7


@pytest.fixture(scope="module")
def app(running: Running) -> Iterator[Starlette]:
    with opened(running.place.settings.changed(process="api")) as parts:
        yield make_app(parts)


def asked(app: Starlette, target: str) -> Answered:
    return ask(app, target, host="localhost")


def paid(running: Running, partner: str) -> Any:
    return running.balance("pay", f"{partner}:vn", "12.50", "USD", "--json").json


def test_a_payment_is_in_the_next_answer_that_names_its_position(
    app: Starlette, running: Running, partner: str
) -> None:
    result = paid(running, partner)
    position = f"{result['shard']}:{result['lane']}:{result['offset']}"

    account = asked(app, f"/v1/accounts/{partner}:vn/USD?min_position={position}").json
    found = asked(app, f"/v1/transactions/{result['command_id']}?min_position={position}").json

    assert account["balance"] == "27.50 USD"
    assert [step["command_id"] for step in found["steps"]] == [result["command_id"]]


def test_how_the_service_stands_is_answered(app: Starlette, running: Running, partner: str) -> None:
    paid(running, partner)

    def archived() -> bool:
        said = asked(app, "/v1/archive").json
        return bool(said["lanes"]) and not any(each["behind_ms"] for each in said["lanes"])

    for path in OVERSIGHT:
        assert asked(app, path).status == 200, path
    assert asked(app, "/v1/moves").json["moves"] == []
    eventually(archived, "nothing waits for the archive")


def test_dead_letters_come_a_page_at_a_time_each_once_the_newest_first(app: Starlette, running: Running) -> None:
    log = KafkaLog(addresses.kafka_address(running.place.settings))
    log.write(COMMANDS_TOPIC, [b'{"pay": %d}' % number for number in range(LETTERS)], key=b"letters-of-a-test")

    def listed() -> list[Any]:
        found: list[Any] = []
        cursor: str | None = ""
        while cursor is not None:
            said = asked(app, f"/v1/dead-letters?limit=2&cursor={cursor}").json
            assert len(said["dead_letters"]) <= 2
            found += said["dead_letters"]
            cursor = said["next_cursor"]
        return [each for each in found if each["key"] == "letters-of-a-test"]

    eventually(lambda: len(listed()) == LETTERS, "each is there once")
    found = listed()
    assert [each["time"] for each in found] == sorted((each["time"] for each in found), reverse=True)
    assert len({each["name"] for each in found}) == LETTERS
    assert all(each["likely_mistake"] for each in found)


@pytest.mark.parametrize("path", ["/", "/partners", "/dead-letters", "/moves"])
def test_a_page_of_a_service_that_runs_is_well_formed(app: Starlette, path: str) -> None:
    said = asked(app, path)

    assert said.status == 200
    assert what_is_wrong(HtmlPage(said.body)) == []


def test_the_page_knows_how_fast_lanes_go_from_the_second_look_on(
    app: Starlette, running: Running, partner: str
) -> None:
    asked(app, "/")
    paid(running, partner)

    eventually(lambda: "at a first look" not in HtmlPage(asked(app, "/").body).text, "there was a second look")


def test_it_runs_as_a_process_of_its_own_and_ends_when_it_is_told(running: Running) -> None:
    place = running.place
    process = start(place, "api", "run")
    assert process.stderr is not None
    try:
        lines = (json.loads(line) for line in process.stderr if line.startswith("{"))
        url = next(line["url"] for line in lines if line["event"] == "api_serves")
        with urllib.request.urlopen(f"http://127.0.0.1:{urlsplit(url).port}/v1/lanes", timeout=30) as answer:
            assert json.load(answer)["lanes"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STOP_DEADLINE_S)
    assert process.returncode == 0
