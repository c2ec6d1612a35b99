from __future__ import annotations

import io
import json
import logging

import pytest

from processors import telemetry


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    telemetry.configure_logging("router", level="debug", stream=stream)
    return stream


def read(lines: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_a_log_line_is_one_json_object_that_names_its_process(lines: io.StringIO) -> None:
    telemetry.get_logger("lane").info("lane_assigned", shard="s1", lane=3)

    (line,) = read(lines)
    assert line.pop("time")
    assert line == {
        "event": "lane_assigned",
        "lane": 3,
        "level": "info",
        "logger": "lane",
        "process": "router",
        "shard": "s1",
    }


def test_amounts_and_metadata_never_reach_a_log_line_at_any_level(lines: io.StringIO) -> None:
    logger = telemetry.get_logger("lane")
    logger.debug("decided", amount_minor=987654321, metadata=b"987654321", balance=987654321, lane=1)
    logger.error("failed", held=987654321, payload=b"987654321", password="987654321")

    assert "987654321" not in lines.getvalue()
    assert len(read(lines)) == 2


def test_a_drivers_own_lines_are_json_too(lines: io.StringIO) -> None:
    logging.getLogger("cassandra.cluster").warning("node %s is down", "127.0.0.1")

    (line,) = read(lines)
    assert line["event"] == "node 127.0.0.1 is down"
    assert line["process"] == "router"
