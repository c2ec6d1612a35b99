"""SIGKILL before and after each step of a worker, then a restart: each command decided, and each result seen, once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.chaos.lanes import Shard, Worker
from tests.chaos.tripwire import Tripwire
from tests.servers import Place

KAFKA_STEPS = ("init_transactions", "begin_transaction", "send_offsets_to_transaction", "commit_transaction")
# What the statement holds, and what one before it in the same connection held: others commit, too.
MYSQL_STEPS = {
    "taking over": (b"SET owner_epoch = owner_epoch + 1", b""),
    "lock": (b"SELECT next_offset, digest, owner_epoch", b""),
    "journal": (b"INSERT INTO journal", b""),
    "progress": (b"UPDATE progress SET next_offset", b""),
    "commit": (b"COMMIT", b"UPDATE progress SET next_offset"),
}


ONE_LANE = {"BALANCE_TOPICS__LANES": "1", "BALANCE_TOPICS__COMMANDS_PARTITIONS": "1"}


@pytest.fixture(scope="module")
def shard(fresh_place: Callable[..., Place]) -> Shard:
    """Return a shard whose statements can be read on their way to MySQL."""
    return Shard(fresh_place(**ONE_LANE))


@pytest.fixture(scope="module")
def secured_shard(secured_place: Callable[..., Place]) -> Shard:
    """Return a shard on servers as in production: TLS, and a login with its own rights for each process."""
    return Shard(secured_place(**ONE_LANE))


def _recover(shard: Shard) -> None:
    with shard.worker():
        shard.await_decided()
    shard.assert_exactly_once()


@pytest.mark.rule("L4")
@pytest.mark.rule("L5")
@pytest.mark.parametrize(
    "plug", [f"{when}:{step}" for step in KAFKA_STEPS for when in ("before", "after")] + ["within:produce"]
)
def test_a_worker_killed_at_a_step_of_its_publication_leaves_one_result_a_command(
    secured_shard: Shard, plug: str
) -> None:
    shard = secured_shard
    shard.write_day(f"kafka-{plug.replace(':', '-').replace('_', '-')}", payments=30)
    with shard.worker(plug=plug) as worker:
        assert worker.wait() == -signal.SIGKILL, worker.log
    _recover(shard)


@pytest.mark.rule("L4")
@pytest.mark.rule("L6")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", MYSQL_STEPS)
def test_a_worker_killed_at_a_step_of_its_transaction_decides_each_command_once(
    shard: Shard, step: str, when: str
) -> None:
    shard.write_day(f"mysql-{step.replace(' ', '-')}-{when}", payments=30)
    mysql = shard.settings.shards["s1"]
    killed: list[Worker] = []
    text, behind = MYSQL_STEPS[step]
    with (
        Tripwire(
            mysql.host,
            mysql.port,
            text=text,
            behind=behind,
            when=when,
            spring=lambda: os.kill(killed[0].pid, signal.SIGKILL),
        ) as wire,
        shard.worker(BALANCE_SHARDS__S1__PORT=str(wire.port)) as worker,
    ):
        killed.append(worker)
        assert worker.wait() == -signal.SIGKILL, worker.log
    _recover(shard)
