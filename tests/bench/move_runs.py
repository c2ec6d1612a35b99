"""The runs of moves: as ``runs``."""

from __future__ import annotations

import time
from functools import partial
from itertools import chain

from processors.client import Client, ClientConfig
from processors.ops.going_ahead import go_ahead
from processors.ops.keys import keyring
from processors.ops.moving import PlannedMove, plan_move, watch
from processors.ops.probing import await_vouched
from processors.ops.stages import Stage
from processors.streams.topics import COMMANDS_TOPIC
from tests import move_pause
from tests.bench import load
from tests.bench.service import RESULTS_PARTITIONS, Service, service
from tests.bench.shard_runs import move
from tests.bench.sizes import DEADLINE_S, Fields, Size, await_results, per_s
from tests.move_pause import MOVED, OTHER, Waits, at, paid
from tests.servers import Servers

_SHARDS = ("s1", "s2")
_LONG_MS = 300_000
_MOVES_WITH_ALL = 2  # of four


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


def many_ids(servers: Servers, size: Size) -> Fields:
    """A partner with very many ids moves to and fro: twice they all go with the move, and twice most go ahead of it."""
    with service(servers, lanes=4, shards=2) as made:
        results = load.Results(made.kafka, "balance.results", RESULTS_PARTITIONS)
        made.start("router", *(f"{kind}@{shard}" for kind in ("shard", "expirer", "remover") for shard in _SHARDS))
        commands = chain(load.openings([MOVED, OTHER]), load.payments([MOVED], size.ids))
        await_results(made, results, load.Ingress(made.kafka, COMMANDS_TOPIC).write(commands))
        results.close()
        waited_ms: dict[str, float] = {}
        ahead_s = 0.0
        config = ClientConfig(kafka=made.kafka, keyring=keyring(made.settings), deadline_ms=_LONG_MS)
        with Client(config) as client:
            paid(client)  # everything is warm
            for target in 2 * _SHARDS[::-1]:
                made.check()
                await_vouched(made.settings, _SHARDS)
                planned = plan_move(made.settings, MOVED, target)
                assert isinstance(planned, PlannedMove)
                name = "with the move" if planned.generation <= _MOVES_WITH_ALL else "ahead of it"
                if planned.generation > _MOVES_WITH_ALL:
                    began_s = time.monotonic()
                    planned = go_ahead(planned, client, tell=lambda _round, _parts: None)
                    ahead_s += time.monotonic() - began_s
                partitions = made.settings.topics.commands_partitions
                found = paid(client, partial(client.submit_marker, planned.marker, partitions=partitions))
                waited_ms[name] = max(waited_ms.get(name, 0.0), *found.own_ms)
                assert watch(planned, ends_s=time.monotonic() + DEADLINE_S).stage is Stage.SETTLED
        return {
            "many_ids_longest_pause_ms": {name: round(each) for name, each in waited_ms.items()},
            "ids_ahead_per_s": per_s(2 * size.ids, ahead_s),
        }
