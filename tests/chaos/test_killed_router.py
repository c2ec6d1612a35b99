"""SIGKILL of routers around the markers of moves, and under load with a rebalance: each lane gets what it must (R6)."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from processors.streams.connection import KafkaAddress
from processors.wire.directory import PlacementRecord
from processors.wire.route import RouteKind
from tests.chaos.routers import Ingress, wait_a_moment
from tests.properties.routing_comparison import route_of
from tests.servers import Servers

KILLS = 8
# Above the group's session: a router that stands still for longer is taken over from.
FROZEN_S = 8.0


@pytest.fixture
def address(servers: Servers, topic_prefix: Callable[[], str]) -> KafkaAddress:
    """Return the brokers, with a prefix of the test's own."""
    return KafkaAddress(bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=topic_prefix())


@pytest.mark.rule("R4")
@pytest.mark.rule("R5")
@pytest.mark.rule("R6")
@pytest.mark.parametrize(
    ("plug", "placements", "moves_out"),
    [("before:placement", 0, 0), ("after:placement", 1, 0), ("after:move_out", 1, 1)],
)
def test_a_router_killed_around_a_marker_leaves_a_move_that_the_next_one_completes(
    address: KafkaAddress, tmp_path: Path, plug: str, placements: int, moves_out: int
) -> None:
    ingress = Ingress(address, seed=5, folder=tmp_path)
    ingress.grow(60)
    with ingress.router(plug=plug) as router:
        assert router.wait() == -signal.SIGKILL, router.log.read_text()
    placed = [each for each in ingress.directory() if isinstance(each, PlacementRecord) and each.generation]
    kinds = [route_of(record).kind for records in ingress.lanes().values() for record in records]
    assert (len(placed), kinds.count(RouteKind.MOVE_OUT)) == (placements, moves_out)

    with ingress.router():
        ingress.await_routed()

    ingress.compare()


@pytest.mark.rule("R5")
@pytest.mark.rule("R6")
def test_a_router_that_is_killed_again_and_again_under_load_loses_and_reorders_nothing(
    address: KafkaAddress, tmp_path: Path
) -> None:
    ingress, rng = Ingress(address, seed=6, folder=tmp_path), random.Random(6)
    plugs = ["before:placement", "after:placement", "after:move_out", ""]
    with ingress.load():
        for number in range(KILLS):
            with ingress.router(plug=plugs[number % len(plugs)]) as router:
                if plugs[number % len(plugs)]:
                    assert router.wait() == -signal.SIGKILL, router.log.read_text()
                else:
                    wait_a_moment(rng, 1.0, 4.0)
                    router.kill()
    with ingress.router():
        ingress.await_routed()

    ingress.compare()
    assert ingress.copies() > 0  # which lanes drop (L10)


@pytest.mark.rule("R1")
@pytest.mark.rule("R6")
@pytest.mark.rule("P4")
def test_routers_that_share_the_ingress_and_take_over_from_one_another_lose_and_reorder_nothing(
    address: KafkaAddress, tmp_path: Path
) -> None:
    ingress, rng = Ingress(address, seed=7, folder=tmp_path), random.Random(7)
    with ingress.load(), ingress.router("a") as first:
        wait_a_moment(rng, 3.0, 4.0)
        with ingress.router("b") as second:  # a rebalance
            wait_a_moment(rng, 4.0, 5.0)
            second.freeze()
            wait_a_moment(rng, FROZEN_S, FROZEN_S + 1.0)  # taken over from
            second.thaw()  # goes on with what it had, and then joins again
            wait_a_moment(rng, 2.0, 4.0)
            first.kill()
            with ingress.router("c"):
                wait_a_moment(rng, FROZEN_S, FROZEN_S + 1.0)
            with ingress.router("a"):  # what the killed one had is its own again
                wait_a_moment(rng, 2.0, 3.0)
                ingress.grow(1)
        with ingress.router("c"):
            wait_a_moment(rng, FROZEN_S, FROZEN_S + 1.0)
    with ingress.router("b"), ingress.router("a"), ingress.router("c"):
        ingress.await_routed()

    ingress.compare()
