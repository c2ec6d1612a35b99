"""A service of a benchmark's own on the running servers, and its processes."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from processors.ops import assembly, stack
from processors.ops.setting_up import initialize
from processors.ops.stack import Server
from processors.settings import Settings, load_settings
from processors.stores.mysql import MysqlAddress

SHARD = "s1"


class Bench:
    """Topics, a database and a keyspace of its own; processes are ended and names dropped by whoever made it."""

    def __init__(self, folder: Path, *, lanes: int) -> None:
        name = f"balance_bench_{secrets.token_hex(3)}"
        self.variables = {
            "BALANCE_KAFKA__TOPIC_PREFIX": f"bench-{secrets.token_hex(3)}.",
            "BALANCE_SHARDS__S1__DATABASE": name,
            "BALANCE_CASSANDRA__KEYSPACE": name,
            "BALANCE_KEYS_FILE": str(folder / f"{name}.json"),
            "BALANCE_TOPICS__LANES": str(lanes),
            "BALANCE_LOG_LEVEL": "warning",
        }
        self.settings: Settings = load_settings(environment={**os.environ, **self.variables})
        self._folder = folder
        initialize(self.settings, lambda _said: None)
        self.kafka = assembly.kafka_address(self.settings)
        self.mysql: MysqlAddress = assembly.mysql_address(self.settings, SHARD)

    @contextmanager
    def running(self, *kinds: str) -> Iterator[Mapping[str, int]]:
        """Run processes (router, shard, ...) and give their ids; they are ended at the end."""
        children: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for kind in kinds:
                shard = ["--shard", SHARD] if kind in {"shard", "expirer", "remover"} else []
                with (self._folder / f"{kind}.log").open("ab") as log:
                    children[kind] = subprocess.Popen(
                        [sys.executable, "-m", "processors.ops.cli", kind, "run", *shard],
                        env={**os.environ, **self.variables},
                        stdout=log,
                        stderr=log,
                        stdin=subprocess.DEVNULL,
                    )
            yield {kind: child.pid for kind, child in children.items()}
        finally:
            for child in children.values():
                child.send_signal(signal.SIGTERM)
            for child in children.values():
                try:
                    child.wait(45)
                except subprocess.TimeoutExpired:
                    child.kill()
                    child.wait()


def server_pids(settings: Settings) -> dict[str, int]:
    """Return the native servers' process ids."""
    found = {server.name.lower(): stack.pid(settings, server) for server in Server}
    return {name: pid for name, pid in found.items() if pid is not None}


@contextmanager
def folder() -> Iterator[Path]:
    """Give a folder for keys and logs, inside the checkout's own."""
    parent = load_settings().stack.directory / "tmp"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix="bench-") as name:
        yield Path(name)
