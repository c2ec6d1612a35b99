"""The run of a move: as ``runs``."""

from __future__ import annotations

from functools import partial

from processors.client import Client, ClientConfig
from processors.streams.topics import COMMANDS_TOPIC
from tests import move_pause
from tests.bench import load
from tests.bench.service import RESULTS_PARTITIONS, Service, service
from tests.bench.shard_runs import move
from tests.bench.sizes import Fields, Size, await_results
from tests.move_pause import MOVED, Waits, at, paid
from tests.servers import Servers

_SHARDS = ("s1", "s2")


def pauses(servers: Servers, size: Size) -> Fields:
    """A partner of 1,000 accounts and 10,000 holds moves to and fro; how long he waits, and another in another lane.

    In turn with stretches without a move.
    """
    with service(servers, lanes=4, shards=2) as made:
        results = load.Results(made.kafka, "balance.results", RESULTS_PARTITIONS)
        made.start("router", *(f"{kind}@{shard}" for kind in ("shard", "expirer", "remover") for shard in _SHARDS))
        await_results(made, results, load.Ingress(made.kafka, COMMANDS_TOPIC).write(move_pause.what_moves()))
        results.close()
        waited_ms, without, beside = [], Waits(), Waits()
        with Client(ClientConfig(kafka=made.kafka)) as client:
            paid(client)  # everything is warm
            for generation in range(1, size.moves + 1):
                made.check()
                without.add(paid(client))
                found = paid(client, partial(_move, made, generation))
                waited_ms.append(max(found.own_ms))
                beside.add(found)
        return {
            "move_pause_ms": {name: at(waited_ms, percent) for name, percent in (("p50", 50), ("p99", 99))},
            "beside_a_move_p99_ms": {
                "another, no move": at(without.others_ms, 99),
                "another, moves": at(beside.others_ms, 99),
            },
        }


def _move(made: Service, generation: int) -> None:
    source, target = _SHARDS if generation % 2 else _SHARDS[::-1]
    move(made, [MOVED], generation, source, target)
