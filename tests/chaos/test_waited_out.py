"""Faults of MySQL under a running service: waited out, told of, and no stop and no end of a process because of them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from processors.settings import load_settings
from tests.chaos.lanes import SHARD, Shard
from tests.chaos.mysql_proxy import MysqlProxy, Saying
from tests.chaos.whole_service import WholeService
from tests.end_to_end.conftest import Said, balance
from tests.integration.mysql_of_our_own import OwnMysql, own_mysql
from tests.servers import Place
from tests.waiting import eventually

SAID_FOR_S = 20.0
# Of ProxySQL and of clusters; and one that nobody knows.
ERRORS = [
    *(1105, 9001, 9002, 9003, 9006, 9008),
    *(1047, 1129, 1135, 1184, 1194, 1195, 1290, 1815, 1835, 1836, 1862, 1874, 1877, 1878, 1881),
    *(1045, 2026, 3098, 3170, 3955, 7777),
]
WORDS = "the cluster is not ready"
PHASES = [Saying.CONNECT, Saying.BEGIN, Saying.FENCE, Saying.LOAD, Saying.WRITE, Saying.COMMIT]


def lines_of(log: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def test_whatever_mysql_answers_for_twenty_seconds_in_any_phase_the_lane_goes_on_by_itself(
    fresh_place: Callable[..., Place],
) -> None:
    shard = Shard(fresh_place(BALANCE_TOPICS__LANES="1", BALANCE_TOPICS__COMMANDS_PARTITIONS="1"))
    mysql = shard.settings.shards[SHARD]
    with MysqlProxy(mysql.host, mysql.port) as proxy, shard.worker(BALANCE_SHARDS__S1__PORT=str(proxy.port)) as worker:
        shard.write_day("before", payments=20)
        shard.await_decided()
        for phase in PHASES:
            proxy.answer(phase, ERRORS, WORDS)
            shard.write_day(phase.name.lower(), payments=20)
            time.sleep(SAID_FOR_S)
            eventually(lambda: proxy.said > 3, f"it tries again: {phase.name}", instead=lambda: worker.log)
            assert shard.stop_codes() == {}, phase
            proxy.relent()
            shard.await_decided()
        assert worker.log.count(WORDS) > len(PHASES)
        assert "Traceback" not in worker.log
    shard.assert_exactly_once()


# ------------------------------------------------------------------ the whole service


@pytest.fixture(scope="module")
def mysql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnMysql]:
    with own_mysql(tmp_path_factory.mktemp("mysql")) as own:
        yield own


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    return tmp_path / "password"


@pytest.fixture
def proxy(mysql: OwnMysql) -> Iterator[MysqlProxy]:
    with MysqlProxy(mysql.address.host, mysql.address.port) as proxy:
        yield proxy


@pytest.fixture
def service(
    fresh_place: Callable[..., Place], mysql: OwnMysql, proxy: MysqlProxy, password_file: Path, tmp_path: Path
) -> WholeService:
    """Its user may be given another password; the test itself has it from the file, too."""
    user, database, password = (f"balance_{secrets.token_hex(4)}" for _ in range(3))
    password_file.write_text(password)
    mysql.root(
        f"CREATE DATABASE {database}",
        f"CREATE USER {user} IDENTIFIED BY '{password}'",
        f"GRANT ALL ON {database}.* TO {user}",
        f"GRANT PROCESS ON *.* TO {user}",
        f"GRANT SELECT ON performance_schema.* TO {user}",
    )
    environment = {
        **fresh_place().environment,
        "BALANCE_SHARDS__S1__HOST": mysql.address.host,
        "BALANCE_SHARDS__S1__PORT": str(proxy.port),
        "BALANCE_SHARDS__S1__USER": user,
        "BALANCE_SHARDS__S1__PASSWORD_FILE": str(password_file),
        "BALANCE_SHARDS__S1__DATABASE": database,
        "BALANCE_STACK__DIRECTORY": str(tmp_path),  # for the processes' logs
        "BALANCE_EXPIRER__TICK_MS": "500",
        "BALANCE_REMOVER__INTERVAL_MS": "1000",
    }
    del environment["BALANCE_SHARDS__S1__PASSWORD"]
    return WholeService(Place(environment=environment, settings=load_settings(environment=environment)))


def test_a_proxy_that_answers_every_statement_with_an_error_ends_no_process(
    service: WholeService, proxy: MysqlProxy
) -> None:
    with service.processes():
        with service.load(seed=5) as load:
            service.await_progress()
            proxy.answer(Saying.ANYTHING, [9001], WORDS)
            time.sleep(10)
            proxy.relent()
            service.await_progress()
            load.await_batches(5)
        service.await_answers()
        assert set(service.restarts().values()) == {0}
        service.settle()


def test_a_password_that_is_changed_under_load_is_looked_up_again(
    service: WholeService, mysql: OwnMysql, proxy: MysqlProxy, password_file: Path
) -> None:
    user = service.settings.shards[SHARD].user
    with service.processes():
        with service.load(seed=6) as load:
            service.await_progress()
            new = secrets.token_hex(8)
            mysql.root(f"ALTER USER {user} IDENTIFIED BY '{new}'")
            proxy.cut()  # as KILL does to each of its connections; the file still has the old one
            told: list[Said] = []

            def is_told() -> bool:
                told[:] = [balance(service.place, "lane", "restart", "0")]
                return "shard-s1, s1 lane 0: Refused: " in told[0].out  # by its worker, whatever the database knows

            eventually(is_told, "its worker says so", instead=lambda: str(told))
            assert told[0].status == 3
            assert "MySQL error 1045" in told[0].out
            password_file.write_text(new)
            service.await_progress()
            load.await_batches(5)
        service.await_answers()
        assert set(service.restarts().values()) == {0}
        service.settle()
