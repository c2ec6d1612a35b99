"""The native stack: a second one beside the tests' own, on free ports, started as a user starts it."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import MySQLdb
import pytest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.policies import RoundRobinPolicy
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # of the driver's stubs

from devtools import stack
from devtools.stack import Server, probes
from devtools.stack.packages import fill_once
from processors.faults import Misconfigured, Unavailable
from processors.settings import Settings, load_settings

START_S = 300  # the first start on a new machine fetches 180 MB
PORTS = (
    "KAFKA_PORT", "KAFKA_CONTROLLER_PORT", "MYSQL_PORT", "MYSQL_2_PORT", "CASSANDRA_PORT", "CASSANDRA_STORAGE_PORT",
)  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Below the range from which the kernel takes the ports of outgoing connections, so that they stay free.

    From a random one on, since two tests that look at once would find the same.
    """
    first = 15_000 + secrets.randbelow(14_000)
    candidates = (port for port in range(first, 31_000, 7) if probes.is_port_free(port))
    return [next(candidates) for _ in range(count)]


def variables(directory: Path) -> dict[str, str]:
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    return {
        "BALANCE_PROFILE": "default",
        "BALANCE_STACK__DIRECTORY": str(directory),
        "BALANCE_SHARDS__S1__PASSWORD_FILE": str(directory / "secrets/mysql-password"),
        **{f"BALANCE_STACK__{name}": str(port) for name, port in ports.items()},
    }


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of a stack that was started by a command, which has ended."""
    environment = variables(tmp_path_factory.mktemp("stack"))
    command(environment, "up")
    loaded = load_settings(environment=environment)
    yield loaded
    stack.down(loaded)


def command(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("BALANCE_")}
    return subprocess.run(
        [sys.executable, "-m", "devtools.stack", *arguments],
        env={**others, **environment},
        check=True,
        capture_output=True,
        text=True,
        timeout=START_S,
    )


def pids(settings: Settings) -> dict[Server, int | None]:
    return {server: stack.pid(settings, server) for server in Server}


def mysql(settings: Settings, shard_id: str) -> MySQLdb.Connection:
    shard = settings.shards[shard_id]
    return MySQLdb.connect(
        host=shard.host,
        port=shard.port,
        user=shard.user,
        password=shard.read_password(),
        ssl_mode=shard.ssl_mode,
        autocommit=True,
    )


def ask(settings: Settings, statement: str, *, shard: str = "s1") -> tuple[tuple[object, ...], ...]:
    connection = mysql(settings, shard)
    try:
        cursor = connection.cursor()
        cursor.execute(statement)
        return tuple(cursor.fetchall())
    finally:
        connection.close()


def release_of_cassandra(settings: Settings) -> str:
    profile = ExecutionProfile(load_balancing_policy=RoundRobinPolicy(), request_timeout=30.0)
    cluster = Cluster(
        list(settings.cassandra.hosts),
        port=settings.cassandra.port,
        protocol_version=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    )
    try:
        return str(cluster.connect().execute("SELECT release_version FROM system.local").one().release_version)
    finally:
        cluster.shutdown()


def test_each_server_outlives_the_command_that_started_it_and_serves_its_driver(settings: Settings) -> None:
    assert [(each.server, each.ready) for each in stack.status(settings)] == [
        (server, True) for server in stack.needed(settings)
    ]
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    assert len(admin.list_topics(timeout=30).brokers) == 1
    assert ask(settings, "SELECT 1") == ((1,),)
    assert release_of_cassandra(settings).startswith("5.")


def test_up_again_leaves_running_servers_alone(settings: Settings) -> None:
    before = pids(settings)
    assert stack.up(settings) == stack.addresses(settings)
    assert pids(settings) == before


def test_mysql_keeps_what_it_committed_and_lets_the_user_into_our_databases_only(settings: Settings) -> None:
    values = ask(
        settings,
        "SELECT @@sync_binlog, @@innodb_flush_log_at_trx_commit, @@log_bin, @@global.transaction_isolation",
    )
    assert values == ((1, 1, 1, "READ-COMMITTED"),)
    ask(settings, "CREATE DATABASE balance_ours")
    with pytest.raises(MySQLdb.OperationalError, match="Access denied"):
        ask(settings, "CREATE DATABASE theirs")


def test_a_killed_server_is_seen_and_starts_again_with_its_data(settings: Settings) -> None:
    before = pids(settings)
    ask(settings, "CREATE DATABASE balance_kept")
    stack.kill(settings, Server.MYSQL)
    assert pids(settings) == {**before, Server.MYSQL: None}
    assert [each.ready for each in stack.status(settings)] == [True, False, True]
    stack.start(settings, Server.MYSQL)
    assert ask(settings, "SHOW DATABASES LIKE 'balance_kept'") == (("balance_kept",),)
    assert stack.pid(settings, Server.MYSQL) not in (None, before[Server.MYSQL])


def test_a_stopped_server_starts_again_alone(settings: Settings) -> None:
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    admin.create_topics([NewTopic("kept", 1)])["kept"].result(30)
    before = pids(settings)
    stack.stop(settings, Server.KAFKA)
    assert pids(settings) == {**before, Server.KAFKA: None}
    stack.start(settings, Server.KAFKA)
    assert "kept" in admin.list_topics(timeout=30).topics
    assert {**pids(settings), Server.KAFKA: None} == {**before, Server.KAFKA: None}


def test_borrowed_servers_are_given_back_as_they_were(settings: Settings) -> None:
    stack.stop(settings, Server.MYSQL)
    before = pids(settings)
    with stack.borrowed(settings):
        assert all(each.ready for each in stack.status(settings))
    assert pids(settings) == before
    with stack.borrowed(settings, keep=True):
        assert stack.pid(settings, Server.MYSQL) is not None
    assert stack.pid(settings, Server.MYSQL) is not None


def test_settings_that_differ_from_a_running_servers_are_noticed(settings: Settings) -> None:
    other = settings.changed(stack={"mysql_port": free_ports(2)[1]})  # the first is kept for the second MySQL server
    with pytest.raises(Misconfigured, match="mysql runs with other settings than now; type: balance stack down"):
        stack.start(other, Server.MYSQL)


def test_a_second_mysql_server_runs_where_a_shard_lives_on_it(settings: Settings) -> None:
    two = settings.changed(
        shards={
            "s2": {
                **settings.shards["s1"].model_dump(),
                "database": "balance_s2",
                "port": settings.stack.mysql_2_port,
            }
        }
    )
    with stack.borrowed(two):
        used = [each.server for each in stack.status(two) if each.ready]
        assert used == list(Server)
        first, second = (ask(two, "SELECT @@server_uuid", shard=shard) for shard in ("s1", "s2"))
        assert first != second
        ask(two, "CREATE DATABASE balance_kept_2", shard="s2")
    assert stack.pid(settings, Server.MYSQL_2) is None
    stack.start(two, Server.MYSQL_2)
    assert ask(two, "SHOW DATABASES LIKE 'balance_kept_2'", shard="s2") == (("balance_kept_2",),)
    stack.down(settings)
    assert set(pids(settings).values()) == {None}
    stack.up(settings)


def test_logs_are_the_last_lines_of_one_server(settings: Settings) -> None:
    lines = stack.logs(settings, Server.MYSQL, lines=200)
    assert any("ready for connections" in line for line in lines)
    assert stack.logs(settings, Server.MYSQL, lines=2) == lines[-2:]


def test_the_command_shows_each_server_and_fails_where_one_is_down(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        command(variables(tmp_path), "status")
    assert caught.value.returncode == 3
    used = (Server.KAFKA, Server.MYSQL, Server.CASSANDRA)
    assert [line.split()[::2] for line in caught.value.stdout.splitlines()] == [
        [server, "down", "None"] for server in used
    ]


def test_a_busy_port_is_named_with_the_setting_that_changes_it(tmp_path: Path) -> None:
    environment = variables(tmp_path)
    port = int(environment["BALANCE_STACK__KAFKA_CONTROLLER_PORT"])
    with socket.create_server(("127.0.0.1", port)), pytest.raises(Misconfigured) as caught:
        stack.start(load_settings(environment=environment), Server.KAFKA)
    assert str(caught.value) == (
        f"kafka cannot start: port {port} of 127.0.0.1 is taken by another program; "
        "set another one with BALANCE_STACK__KAFKA_CONTROLLER_PORT or stack.kafka_controller_port in config/"
    )


def test_a_server_that_ends_while_starting_is_told_with_its_last_words(tmp_path: Path) -> None:
    settings = load_settings(environment=variables(tmp_path))
    (tmp_path / "data/mysql").mkdir(parents=True)
    (tmp_path / "data/mysql/mysql.ibd").write_text("no tablespace")
    with pytest.raises(Unavailable, match=r"mysql ended while starting; the end of .*mysql\.log:(.|\n)*\[ERROR\]"):
        stack.start(settings, Server.MYSQL)
    assert stack.pid(settings, Server.MYSQL) is None


def test_a_process_that_was_given_an_old_pid_is_not_taken_for_a_server(tmp_path: Path) -> None:
    settings = load_settings(environment=variables(tmp_path))
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    file = tmp_path / "run/kafka.pid"
    file.parent.mkdir()

    def pid_of(**changes: object) -> int | None:
        file.write_text(json.dumps({"pid": os.getpid(), "started": started, "boot": boot, "made_from": "", **changes}))
        return stack.pid(settings, Server.KAFKA)

    assert pid_of() == os.getpid()
    assert pid_of(started=started - 1) is None
    assert pid_of(boot="another") is None
    stack.kill(settings, Server.KAFKA)  # would end this very test
    stack.stop(settings, Server.KAFKA)
    assert not file.exists()


def test_a_damaged_pid_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/kafka.pid").write_text("12")
    with pytest.raises(Misconfigured, match=r"kafka\.pid is damaged"):
        stack.pid(load_settings(environment=variables(tmp_path)), Server.KAFKA)


@pytest.mark.parametrize(
    "answer", [b"", b"\x00\x00\x00\x01?", b"\x7f\xff\xff\xff", b"HTTP/1.1 400 Bad Request\r\n\r\n"]
)
def test_a_program_that_talks_otherwise_is_not_taken_for_a_server(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for answers in (probes.kafka_answers, probes.mysql_answers, probes.cassandra_answers):
            thread = threading.Thread(target=answer_once, args=(listener, answer))
            thread.start()
            assert not answers(port)
            thread.join()


def answer_once(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(0.2)
        connection.sendall(answer)
        try:
            while connection.recv(4096):
                pass
        except OSError:
            return


def test_a_folder_of_the_cache_is_filled_once_whoever_asks(tmp_path: Path) -> None:
    place, filled = tmp_path / "cache/kafka", []

    def fill(folder: Path) -> None:
        filled.append(folder)
        (folder / "jar").write_text("whole")

    threads = [threading.Thread(target=fill_once, args=(place, fill)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(filled), (place / "jar").read_text()) == (1, "whole")


def test_a_folder_of_the_cache_that_could_not_be_filled_is_not_there(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "jar").write_text("ha")
        raise Unavailable("the line was cut")

    with pytest.raises(Unavailable):
        fill_once(tmp_path / "cache/kafka", fill)
    assert [each.name for each in (tmp_path / "cache").iterdir()] == [".kafka.lock"]
