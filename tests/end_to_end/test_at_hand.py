"""What operators keep an eye on: probes, metrics, results as they come, a service that does not answer."""

from __future__ import annotations

import json
import re
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from queue import Queue

import pytest

from processors.archive.findings import FindingKind
from processors.faults import StopCode
from processors.ops import addresses, assembly
from processors.ops.local_service import log_folder
from processors.streams.topics import TopicAdmin, shard_topic
from processors.wire.causes import Cause
from tests.end_to_end.conftest import Running, balance, start
from tests.kafka_log import KafkaLog
from tests.servers import Place
from tests.waiting import eventually

# A sample that only this process can have: the names alone, and zeros without labels, are on every process's page.
OWN_SAMPLE = {
    "router": r"balance_router_records_total\{shard=\"s1\"\} [1-9]",
    "shard-s1": r"balance_lane_next_offset\{lane=\"0\",shard=\"s1\"\} [1-9]",
    "expirer-s1": r"balance_expirer_ticks_total\{shard=\"s1\"\} [1-9]",
    "sink": r"balance_sink_rows_total [1-9]",
    "recaller": r"balance_recaller_waiting 0",
    "auditor-s1": r"balance_audit_wrong\{shard=\"s1\"\} 0",
    "remover-s1": r"balance_remover_slices_waiting\{shard=\"s1\"\} 0",
}


def page(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def port_of(running: Running, process: str) -> int:
    log = (log_folder(running.place.settings) / f"{process}.log").read_text()
    started = [json.loads(line) for line in log.splitlines() if '"event": "process_started"' in line]
    return int(started[-1]["health_port"])


@pytest.mark.parametrize("process", sorted(OWN_SAMPLE))
def test_every_process_answers_probes_and_shows_its_metrics(running: Running, process: str) -> None:
    port = port_of(running, process)
    ready = {"process": process, "ready": True, "troubles": []}
    eventually(lambda: page(port, "/readyz") == (200, json.dumps(ready) + "\n"), "it is ready")
    assert page(port, "/healthz")[0] == 200
    assert running.balance("account", "open", "probe", "USD").status in {0, 1}  # once for all of these
    eventually(
        lambda: re.search(rf"^{OWN_SAMPLE[process]}", page(port, "/metrics")[1], re.MULTILINE), "its metric is there"
    )


def test_what_an_alarm_watches_is_shown_before_the_first_of_its_kind(running: Running) -> None:
    watched = {
        "router": [f'balance_router_dead_letters_total{{cause="{cause}"}}' for cause in Cause],
        "shard-s1": ['balance_lane_refusals_total{reason="ACCOUNT_CLOSED",shard="s1"}'],
        "expirer-s1": ['balance_expirer_expiries_total{shard="s1"}'],
        "recaller": ['balance_recaller_recalls_total{recalled="NOT_FOUND"}'],
        "remover-s1": [f'balance_findings_total{{kind="{kind}"}}' for kind in FindingKind],
    }
    for process, names in watched.items():
        shown = page(port_of(running, process), "/metrics")[1]
        assert not [name for name in names if f"\n{name} " not in shown], process


def test_a_lanes_results_are_counted_by_status(running: Running) -> None:
    def rejected() -> float:
        lines = page(port_of(running, "shard-s1"), "/metrics")[1].splitlines()
        mine = [line for line in lines if line.startswith("balance_lane_results_total") and 'status="REJECTED"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in mine)

    before = rejected()
    assert running.balance("pay", "nobody-here", "1.00", "USD").status == 1
    assert rejected() == before + 1


def test_results_are_followed_as_they_come(running: Running) -> None:
    process = start(running.place, "results", "--follow", "--last", "0", "--root", "follow", "--json")
    assert process.stdout is not None
    lines: Queue[str] = Queue()

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line)

    threading.Thread(target=read, daemon=True).start()

    def seen() -> bool:
        running.balance("account", "open", "follow", "USD")
        return not lines.empty()

    eventually(seen, "it is seen")
    first = json.loads(lines.get())
    assert (first["type"], first["address"]) == ("OPEN_ACCOUNT", "follow")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_no_answer_in_time_is_exit_status_3_and_names_the_id_to_repeat(fresh_place: Callable[..., Place]) -> None:
    place = fresh_place()
    assert balance(place, "init").status == 0  # and nothing runs

    def is_told() -> bool:
        """Whether it got so far: a busy machine may need all of the second to connect."""
        said = balance(place, "pay", "acme", "1.00", "USD", "--within", "1")
        assert (said.status, said.out) == (3, "")
        assert "Traceback" not in said.err
        return "send it again with the same id" in said.err

    eventually(is_told, "the id to repeat is named")


def test_a_word_to_a_lane_whose_worker_is_gone_says_that_it_counts_later(fresh_place: Callable[..., Place]) -> None:
    place = fresh_place()
    assert balance(place, "init").status == 0  # and nothing runs
    store = assembly.lane_store(place.settings, "s1", 2)
    store.take_over(TopicAdmin(addresses.kafka_address(place.settings)).topic_id(shard_topic("s1")))
    store.stop(StopCode.CLOCK_AHEAD, "offset 0 is of tomorrow")
    store.close()

    said = balance(place, "lane", "release", "2", "0", "1000", "--within", "20")

    assert (said.status, said.out) == (3, "")
    assert "what was written counts once its worker runs" in said.err
    assert len(KafkaLog(addresses.kafka_address(place.settings)).read(shard_topic("s1"), partition=2)) == 1


def test_what_is_missing_is_named_with_what_to_run(fresh_place: Callable[..., Place]) -> None:
    said = balance(fresh_place(), "pay", "acme", "1.00", "USD")
    assert said.status == 3
    assert "run `balance init`" in said.err


def test_init_twice_makes_nothing_and_another_count_is_refused(fresh_place: Callable[..., Place]) -> None:
    place = fresh_place()
    assert "made topic" in balance(place, "init").err
    again = balance(place, "init")
    assert (again.status, again.err.strip()) == (0, "ready")
    assert balance(place, "migrate").status == 0
    other = Place(environment={**place.environment, "BALANCE_TOPICS__LANES": "8"}, settings=place.settings)
    said = balance(other, "init")
    assert said.status == 3
    assert "has 4 partitions and the settings say 8" in said.err


def test_a_mistyped_setting_is_refused_by_name(running: Running) -> None:
    place = running.place
    wrong = Place(environment={**place.environment, "BALANCE_WORKER__BATCH_MAX": "8"}, settings=place.settings)
    said = balance(wrong, "status")
    assert said.status == 3
    assert "worker.batch_max: there is no such setting" in said.err
