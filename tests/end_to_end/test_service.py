"""The service as a whole: the sample day, a process killed, a refund after the window, an orderly end.

On servers as in production: TLS, a login and its own rights for each process (the secured native stack).
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processors.ids import SLICE_MS, id_text, make_command_id, slice_of
from processors.ops import addresses
from processors.stores.shard_reader import open_reader
from tests.end_to_end.conftest import STOP_DEADLINE_S, Running, start, started
from tests.servers import Place
from tests.waiting import eventually

SHORTER_WINDOW = "30m"  # an hour-old id is behind it, and whatever a busy machine still sends is within


@pytest.fixture
def service(secured_place: Callable[..., Place]) -> Iterator[Running]:
    """Return a service."""
    yield from started(secured_place(BALANCE_EXPIRER__TICK_MS="500", BALANCE_REMOVER__INTERVAL_MS="500"))


def children(process: subprocess.Popen[str]) -> dict[str, int]:
    """Return the supervisor's child processes by kind."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            words = (stat.parent / "cmdline").read_bytes().split(b"\0")
        except OSError:  # ended meanwhile
            continue
        if parent == process.pid and b"run" in words:
            found[words[words.index(b"run") - 1].decode()] = int(stat.parent.name)
    return found


def test_the_sample_day_is_clean(secured_place: Callable[..., Place]) -> None:
    place = secured_place()
    process = start(place, "demo", "--actions", "300", "--keep")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err + out
    assert "clean: every command answered as it must be, and no cent is missing or on its way" in out
    assert re.search(r"kite-\w+ +JPY +\d+ ", out)
    assert "from Cassandra" in out
    assert re.search(r"REJECTED +INSUFFICIENT_FUNDS +4", out)
    assert out.count("proven") == 12


def test_an_old_payment_is_refunded_through_the_archive(service: Running) -> None:
    for arguments in (("account", "open", "acme", "USD"), ("topup", "acme", "10.00", "USD")):
        assert service.balance(*arguments).status == 0
    paid = id_text(make_command_id(time.time_ns() // 1_000_000 - SLICE_MS, bytes(10)))
    assert service.balance("pay", "acme", "5.00", "USD", "--id", paid).status == 0
    assert service.balance("rules", "set", "--window", SHORTER_WINDOW, "--yes").status == 0

    said = service.balance("pay", "acme", "5.00", "USD", "--id", paid, "--json")
    assert (said.status, said.json["reason"]) == (3, "COMMAND_TOO_OLD")
    first = service.balance("refund", "acme", paid, "3.00", "USD", "--no-wait", "--json").json
    assert first["status"] == "OPEN"
    eventually(
        lambda: len(service.balance("tx", "get", first["command_id"], "--json").json["steps"]) == 2, "it is decided"
    )
    steps = service.balance("tx", "get", first["command_id"], "--json").json["steps"]
    assert [(step["type"], step["status"]) for step in steps] == [("REFUND", "OPEN"), ("RECALL_ORIGINAL", "COMPLETED")]
    again = service.balance("refund", "acme", paid, "3.00", "USD", "--id", first["command_id"], "--json")
    assert (again.status, again.json["type"], again.json["status"]) == (0, "RECALL_ORIGINAL", "COMPLETED")
    second = service.balance("refund", "acme", paid, "2.01", "USD", "--json")
    assert (second.status, second.json["status"], second.json["reason"]) == (1, "REJECTED", "REFUND_ABOVE_ORIGINAL")
    third = service.balance("refund", "acme", paid, "2.00", "USD", "--json")
    assert (third.status, third.json["status"]) == (0, "COMPLETED")
    (account,) = service.balance("account", "show", "acme", "--json").json_lines
    assert (account["balance_minor"], account["held_minor"], account["open_count"]) == (1000, 0, 0)
    assert service.balance("verify").status == 0


@pytest.mark.rule("A6")
@pytest.mark.rule("A8")
def test_a_slice_leaves_mysql_and_what_was_in_it_is_still_shown_captured_and_refunded(service: Running) -> None:
    old_ms = time.time_ns() // 1_000_000 - 2 * SLICE_MS
    paid, held = (id_text(make_command_id(old_ms, bytes([n] * 10))) for n in range(2))
    for arguments in (
        ("account", "open", "acme", "USD"),
        ("topup", "acme", "10.00", "USD"),
        ("pay", "acme", "5.00", "USD", "--id", paid),
        ("hold", "acme", "2.00", "USD", "--expires-in", "1h", "--id", held),
    ):
        assert service.balance(*arguments).status == 0
    statement = service.balance("statement", "acme", "USD", "--json").json["changes"]
    reader = open_reader(addresses.mysql_address(service.place.settings, "s1"))
    assert slice_of(old_ms) in reader.slices()

    assert service.balance("rules", "set", "--window", SHORTER_WINDOW, "--yes").status == 0
    eventually(lambda: slice_of(old_ms) not in reader.slices(), "the slice is removed")
    reader.close()

    (step,) = service.balance("tx", "get", paid, "--json").json["steps"]
    assert (step["type"], step["status"]) == ("PAY", "ACCEPTED")
    assert service.balance("statement", "acme", "USD", "--json").json["changes"] == statement
    refunded = service.balance("refund", "acme", paid, "5.00", "USD", "--json")
    assert (refunded.status, refunded.json["status"]) == (0, "COMPLETED")
    assert service.balance("capture", "acme", held, "2.00", "USD").status == 0
    (account,) = service.balance("account", "show", "acme", "--json").json_lines
    assert (account["balance_minor"], account["held_minor"], account["open_count"]) == (800, 0, 0)
    assert service.balance("verify").status == 0


def test_every_process_may_be_killed_and_an_orderly_end_leaves_none(service: Running) -> None:
    assert service.balance("account", "open", "acme", "USD").status == 0
    first = children(service.process)
    assert set(first) == {"router", "shard", "expirer", "sink", "recaller", "remover", "auditor"}
    for pid in first.values():
        os.kill(pid, signal.SIGKILL)
    assert service.balance("topup", "acme", "10.00", "USD", "--within", "60").status == 0
    eventually(lambda: set(children(service.process)) == set(first), "all run again")
    second = children(service.process)
    assert not set(first.values()) & set(second.values())

    service.process.send_signal(signal.SIGTERM)
    _, err = service.process.communicate(timeout=STOP_DEADLINE_S)
    assert service.process.returncode == 0, err
    assert not any(Path(f"/proc/{pid}").exists() for pid in second.values())


def test_a_signal_ends_a_process_after_its_batch_with_exit_status_0(service: Running) -> None:
    assert service.balance("account", "open", "acme", "USD").status == 0
    pids = children(service.process)
    for pid in pids.values():
        os.kill(pid, signal.SIGTERM)
    log_folder = service.place.settings.stack.directory / "log"
    prefix = service.place.settings.kafka.topic_prefix

    def ended() -> set[str]:
        logs = (log_folder / f"{prefix}processes").glob("*.log")
        return {log.stem.partition("-")[0] for log in logs if '"event": "process_ended"' in log.read_text()}

    eventually(lambda: ended() == set(pids), "all have ended")
    for log in (log_folder / f"{prefix}processes").glob("*.log"):
        (line,) = [line for line in log.read_text().splitlines() if '"event": "process_ended"' in line]
        assert '"status": 0' in line, log
    assert service.balance("tx", "get", id_text(bytes(16))).status == 1


def test_no_log_line_holds_an_amount_or_metadata(service: Running) -> None:
    assert service.balance("account", "open", "acme", "USD").status == 0
    secret, amount = "aubergine", "81234567.89"
    metadata = f'{{"note":"{secret}"}}'
    assert service.balance("topup", "acme", amount, "USD", "--metadata", metadata).status == 0
    assert service.balance("pay", "acme", amount, "USD", "--metadata", metadata).status == 0
    prefix = service.place.settings.kafka.topic_prefix
    logs = list((service.place.settings.stack.directory / "log" / f"{prefix}processes").glob("*.log"))
    assert len(logs) == 7
    for log in logs:
        text = log.read_text()
        assert secret not in text
        assert amount.replace(".", "") not in text
