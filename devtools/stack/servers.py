"""The servers: what each needs before it starts, the command that starts it, and how one sees that it serves."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from string import Template

from devtools.prerequisites import find_java
from devtools.stack import probes, secured
from devtools.stack.files import write
from devtools.stack.packages import Progress, fetch_jars, fetch_mysql
from processors.faults import Misconfigured
from processors.settings import LOOPBACK, Settings

INITIALIZE_MS = 120_000  # MySQL's first start takes 3 s, Kafka's format 1 s, on two idle cores


class Server(StrEnum):
    """The servers of the native stack, by the names that commands use."""

    KAFKA = "kafka"
    MYSQL = "mysql"
    MYSQL_2 = "mysql-2"
    CASSANDRA = "cassandra"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a server's things are, below the stack's directory, and where its templates come from."""

    server: Server
    directory: Path
    templates: Path

    @property
    def configuration(self) -> Path:
        """Return the folder of rendered configuration files."""
        return self.directory / "etc" / self.server

    @property
    def data(self) -> Path:
        """Return the folder of the server's data; removing it makes the server new."""
        return self.directory / "data" / self.server

    @property
    def temporary(self) -> Path:
        """Return the folder for the server's temporary files."""
        return self.directory / "tmp" / self.server

    @property
    def log(self) -> Path:
        """Return the file with the server's standard output and error."""
        return self.directory / "log" / f"{self.server}.log"

    @property
    def pid_file(self) -> Path:
        """Return the file that names the server's process."""
        return self.directory / "run" / f"{self.server}.pid"

    def render(self, name: str, *more: str, **values: object) -> str:
        """Write a template of ``config/stack`` with its values filled in, ``more`` behind it; return its text.

        What is more is the secured stack's, and holds passwords: its owner alone may read the file.
        """
        text = "".join((self.templates / each).read_text(encoding="utf-8") for each in (name, *more))
        text = Template(text).substitute({key: str(value) for key, value in values.items()})
        write(self.configuration / name, text, mode=0o600 if more else 0o644)
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A server ready to start: its command, and the text of its configuration files."""

    command: tuple[str, ...]
    configuration: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one server is started and asked.

    ``ports`` are by setting, the one that clients use first; ``prepare`` fetches the program, writes the
    configuration, and initializes an empty data folder. ``settle`` makes users and rights once it answers.
    ``leftovers`` of a killed server, in its data folder, are removed before the next start.
    """

    ports: dict[str, int]
    prepare: Callable[[Settings, Layout, Progress], Launch]
    answers: Callable[[], bool]
    ready_ms: int
    stop_ms: int
    settle: Callable[[], None] | None = None
    leftovers: tuple[str, ...] = ()


def layout(settings: Settings, server: Server) -> Layout:
    """Return where a server's things are."""
    return Layout(server=server, directory=settings.stack.directory, templates=settings.root / "config" / "stack")


def plan(settings: Settings, server: Server) -> Plan:
    """Return how to start a server. Deadlines are ten times what an idle machine of two cores needs."""
    stack = settings.stack
    match server:
        case Server.KAFKA:
            return Plan(
                ports={"kafka_port": stack.kafka_port, "kafka_controller_port": stack.kafka_controller_port},
                prepare=_prepare_kafka,
                answers=_asked(settings, probes.kafka_answers, stack.kafka_port, secured.kafka_answers),
                settle=partial(secured.settle_kafka, settings) if stack.secure else None,
                ready_ms=60_000,
                stop_ms=30_000,
            )
        case Server.MYSQL | Server.MYSQL_2:
            setting, port = _mysql_port(settings, server)
            return Plan(
                ports={setting: port},
                prepare=_prepare_mysql,
                answers=partial(probes.mysql_answers, port),  # it greets in clear text, always
                ready_ms=60_000,
                stop_ms=60_000,
                # Names a pid that mysqld takes for a second server, be it another program's by now, or a zombie.
                leftovers=("mysql.sock.lock",),
            )
        case Server.CASSANDRA:
            return Plan(
                ports={
                    "cassandra_port": stack.cassandra_port,
                    "cassandra_storage_port": stack.cassandra_storage_port,
                },
                prepare=_prepare_cassandra,
                answers=_asked(settings, probes.cassandra_answers, stack.cassandra_port, secured.cassandra_answers),
                settle=partial(secured.settle_cassandra, settings) if stack.secure else None,
                ready_ms=120_000,
                stop_ms=60_000,
            )


def needed(settings: Settings) -> list[Server]:
    """Return the servers that the service of these settings uses: the second MySQL where a shard lives on it."""
    port = settings.stack.mysql_2_port
    second = any((shard.host, shard.port) == (LOOPBACK, port) for shard in settings.shards.values())
    return [server for server in Server if server is not Server.MYSQL_2 or second]


def _mysql_port(settings: Settings, server: Server) -> tuple[str, int]:
    """Return the setting that says a MySQL server's port, and what it says."""
    setting = "mysql_port" if server is Server.MYSQL else "mysql_2_port"
    return setting, getattr(settings.stack, setting)


def _asked(
    settings: Settings, plain: Callable[[int], bool], port: int, secure: Callable[[Settings], bool]
) -> Callable[[], bool]:
    return partial(secure, settings) if settings.stack.secure else partial(plain, port)


def _prepare_kafka(settings: Settings, place: Layout, progress: Progress) -> Launch:
    jars = fetch_jars("kafka", place.templates / "pom.xml", progress)
    more = secured.values(settings, place.server) if settings.stack.secure else {}
    text = place.render(
        "server.properties",
        *(["kafka-secure.properties"] if more else []),
        port=settings.stack.kafka_port,
        controller_port=settings.stack.kafka_controller_port,
        data=place.data,
        **more,
    )
    text += place.render("log4j2.properties")
    properties = str(place.configuration / "server.properties")
    java = (str(find_java()), *_java_options(place), "-cp", f"{place.configuration}:{jars}/*")
    if not (place.data / "meta.properties").exists():
        progress("formatting Kafka's log")
        tool = ["kafka.tools.StorageTool", "format", "--ignore-formatted", "-t", _kafka_id(), "-c", properties]
        if more:
            tool += ["--add-scram", f"SCRAM-SHA-512=[name={more['admin']},password={more['password']}]"]
        arguments = place.configuration / "format.options"  # a file, since every user may read a command line
        write(arguments, "\n".join(f'"{each}"' for each in (*java[1:], *tool)), mode=0o600)
        _run_once((java[0], f"@{arguments}"), place, what="Kafka's log could not be formatted")
        arguments.unlink()
    memory = ("-Xms256m", "-Xmx768m", "-XX:+UseG1GC")
    return Launch(command=(java[0], *memory, *java[1:], "kafka.Kafka", properties), configuration=text)


def _prepare_cassandra(settings: Settings, place: Layout, progress: Progress) -> Launch:
    jars = fetch_jars("cassandra", place.templates / "pom.xml", progress)
    more = secured.values(settings, place.server) if settings.stack.secure else {}
    text = place.render(
        "cassandra.yaml",
        *(["cassandra-secure.yaml"] if more else []),
        port=settings.stack.cassandra_port,
        storage_port=settings.stack.cassandra_storage_port,
        data=place.data,
        **more,
    )
    text += place.render("cassandra.options") + place.render("logback.xml")
    agent = next(jars.glob("jamm-*.jar"))
    command = (
        str(find_java()),
        f"-javaagent:{agent}",
        *("-Xms512m", "-Xmx1g", "-XX:+UseG1GC"),
        f"@{place.configuration}/cassandra.options",
        *_java_options(place),
        f"-Djna.tmpdir={place.temporary}",
        "-Dcassandra-foreground=true",
        f"-Dcassandra.config=file://{place.configuration}/cassandra.yaml",
        f"-Dcassandra.storagedir={place.data}",
        "-Dcassandra.ring_delay_ms=0",  # there is no ring to wait for
        "-Dcassandra.skip_wait_for_gossip_to_settle=0",
        *(["-Dcassandra.superuser_setup_delay_ms=0"] if more else []),  # nor is there for its first role
        *("-cp", f"{place.configuration}:{jars}/*", "org.apache.cassandra.service.CassandraDaemon"),
    )
    return Launch(command=command, configuration=text)


def _prepare_mysql(settings: Settings, place: Layout, progress: Progress) -> Launch:
    program = fetch_mysql(progress)
    usr = program.base / "usr"
    user = pwd.getpwuid(os.getuid()).pw_name
    init_file = place.configuration / "users.sql"
    _, port = _mysql_port(settings, place.server)
    write(init_file, _users(settings, port), mode=0o600)
    more = secured.values(settings, place.server) if settings.stack.secure else {}
    text = place.render(
        "my.cnf",
        *(["mysql-secure.cnf"] if more else []),
        user=user,
        base=usr,
        data=place.data,
        temporary=place.temporary,
        init_file=init_file,
        port=port,
        **more,
    )
    if not (place.data / "mysql.ibd").exists():
        progress("initializing MySQL's data folder")
        _initialize_mysql(program.command, usr, user, place)
    return Launch(command=(*program.command, f"--defaults-file={place.configuration}/my.cnf"), configuration=text)


def _initialize_mysql(program: tuple[str, ...], usr: Path, user: str, place: Layout) -> None:
    """Make the data folder beside its place and rename it, since mysqld refuses a folder that is half done."""
    new = place.data.with_name(f"{place.server}.new")
    shutil.rmtree(new, ignore_errors=True)
    options = (
        "--no-defaults",
        "--initialize-insecure",  # root has no password, and is reached only through the socket in the data folder
        f"--user={user}",
        f"--basedir={usr}",
        f"--datadir={new}",
        f"--tmpdir={place.temporary}",
        f"--lc-messages-dir={usr}/share/mysql",
        "--secure-file-priv=NULL",
    )
    _run_once((*program, *options), place, what="MySQL's data folder could not be made")
    shutil.rmtree(place.data)
    new.rename(place.data)


def _users(settings: Settings, port: int) -> str:
    """Return the SQL that mysqld runs at each start: the users of the shards that live on the server with a port.

    Their rights end at databases whose names begin with ``balance``; PROCESS is for reading transactions' ages (A7).
    """
    lines: list[str] = []
    for shard in settings.shards.values():
        if shard.host != LOOPBACK or shard.port != port:
            continue
        if shard.password is None and shard.password_file is not None:
            secured.password(shard.password_file)
        user, password = f"{_quoted(shard.user)}@'%'", _quoted(shard.read_password())
        encrypted = "SSL" if settings.stack.secure else "NONE"
        lines += [
            f"CREATE USER IF NOT EXISTS {user} IDENTIFIED BY {password};",
            f"ALTER USER {user} IDENTIFIED BY {password} REQUIRE {encrypted};",
            f"GRANT ALL ON `balance%`.* TO {user};",
            f"GRANT PROCESS ON *.* TO {user};",
            f"GRANT SELECT ON performance_schema.* TO {user};",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    if "\n" in text:
        raise Misconfigured("a user or password of MySQL holds a line break")
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _kafka_id() -> str:
    """Return a cluster id as Kafka makes them: 16 random bytes in URL-safe base 64, not beginning with a dash."""
    while True:
        made = secrets.token_urlsafe(16)
        if not made.startswith("-"):
            return made


def _java_options(place: Layout) -> tuple[str, ...]:
    """Keep a virtual machine's files within the checkout, and let it rather end than go on without memory."""
    return ("-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError", f"-Djava.io.tmpdir={place.temporary}")


def _run_once(command: tuple[str, ...], place: Layout, *, what: str) -> None:
    with place.log.open("ab") as log:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=INITIALIZE_MS / 1000
        )
    if done.returncode != 0:
        raise Misconfigured(f"{what}; see {place.log}")
