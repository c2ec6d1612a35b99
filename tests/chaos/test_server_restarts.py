"""Servers killed and started again under a whole service with commands coming in, and the service itself killed.

The servers are a second native stack, on ports of its own, so that no other test meets what happens to them.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools import stack
from devtools.stack import Server
from processors.ledger.commands import OpenAccount, Pay, TopUp
from processors.settings import Settings, load_settings
from tests.chaos.lanes import new_id
from tests.chaos.whole_service import WholeService
from tests.integration.test_stack import variables
from tests.servers import Place, Servers
from tests.waiting import eventually

BATCHES = 20  # some two seconds of load
DOWN_S = 3.0
CASSANDRA_DOWN_S = 60.0
WITHOUT_CASSANDRA_S = 45.0  # for the answers to a few payments meanwhile


@pytest.fixture(scope="module")
def servers_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A stack whose servers may be killed."""
    settings = load_settings(environment=variables(tmp_path_factory.mktemp("stack")))
    stack.up(settings)
    yield settings
    stack.down(settings)


@pytest.fixture(scope="module")
def service(servers_of_our_own: Settings, tmp_path_factory: pytest.TempPathFactory) -> WholeService:
    addresses = stack.addresses(servers_of_our_own)
    shard = servers_of_our_own.shards["s1"]
    servers = Servers(
        kafka_bootstrap_servers=addresses.kafka,
        mysql_host=addresses.mysql_host,
        mysql_port=addresses.mysql_port,
        mysql_user=shard.user,
        mysql_password=shard.read_password(),
        cassandra_host=addresses.cassandra_host,
        cassandra_port=addresses.cassandra_port,
    )
    folder = tmp_path_factory.mktemp("service")
    environment = {
        **servers.environment(),
        "BALANCE_STACK__DIRECTORY": str(folder),  # for the processes' logs
        "BALANCE_KEYS_FILE": str(folder / "signing-keys.json"),
        "BALANCE_KAFKA__TOPIC_PREFIX": f"t{secrets.token_hex(4)}.",
        "BALANCE_EXPIRER__TICK_MS": "500",
        "BALANCE_REMOVER__INTERVAL_MS": "2000",
        "BALANCE_LOG_FORMAT": "json",
    }
    return WholeService(Place(environment=environment, settings=load_settings(environment=environment)))


@pytest.mark.rule("L5")
@pytest.mark.rule("L6")
@pytest.mark.rule("R6")
@pytest.mark.rule("R7")
@pytest.mark.parametrize(("server", "seed"), [(Server.MYSQL, 1), (Server.KAFKA, 2)])
def test_a_server_killed_under_load_loses_and_doubles_nothing(
    service: WholeService, servers_of_our_own: Settings, server: Server, seed: int
) -> None:
    with service.processes():
        with service.load(seed=seed) as load:
            service.await_progress()
            load.await_batches(BATCHES)
            stack.kill(servers_of_our_own, server)
            time.sleep(DOWN_S)
            stack.start(servers_of_our_own, server)
            load.await_batches(BATCHES)
        service.settle()


@pytest.mark.rule("A5")
def test_payments_go_on_without_cassandra_and_are_all_archived_once_it_is_back(
    service: WholeService, servers_of_our_own: Settings
) -> None:
    with service.processes():
        with service.load(seed=3) as load:
            service.await_progress()
            load.await_batches(BATCHES)
            stack.kill(servers_of_our_own, Server.CASSANDRA)
            gone_s = time.monotonic()
            service.send([OpenAccount(command_id=new_id(), address="meanwhile", currency="USD")])
            service.send([TopUp(command_id=new_id(), address="meanwhile", currency="USD", amount_minor=100)])
            while time.monotonic() < gone_s + CASSANDRA_DOWN_S:  # the whole minute
                pay = Pay(command_id=new_id(), address="meanwhile", currency="USD", amount_minor=1)
                service.send([pay])
                eventually(
                    lambda pay=pay: service.answered()["meanwhile", pay.command_id] == 1,  # type: ignore[misc]
                    "a payment is answered without Cassandra",
                    WITHOUT_CASSANDRA_S,
                )
            stack.start(servers_of_our_own, Server.CASSANDRA)
        service.settle()


@pytest.mark.rule("L4")
@pytest.mark.rule("P4")
@pytest.mark.rule("R6")
def test_every_process_killed_at_once_under_load_and_started_again_loses_and_doubles_nothing(
    service: WholeService,
) -> None:
    with service.load(seed=4) as load:
        with service.processes() as supervisor:
            service.await_progress()
            load.await_batches(BATCHES)
            kill_all(supervisor)
        with service.processes():
            load.await_batches(BATCHES)
            service.await_progress()
    with service.processes():  # the one before has ended in an orderly way, under load
        service.settle()


def kill_all(supervisor: subprocess.Popen[bytes]) -> None:
    """SIGKILL the supervisor, which could start the others again, and then each of them."""
    children = children_of(supervisor.pid)
    assert len(children) == 7
    for pid in (supervisor.pid, *children):
        os.kill(pid, signal.SIGKILL)
    supervisor.wait()


def children_of(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # ended meanwhile
            continue
        if parent == pid:
            found.append(int(stat.parent.name))
    return found
