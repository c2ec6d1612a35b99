"""Kafka's passwords change under load, on the servers and in the files: no process ends, and no command is lost."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from devtools.stack import secured
from processors.ops.local_service import log_folder
from processors.settings import Settings
from processors.streams.rights import rights
from tests.chaos.whole_service import WholeService
from tests.servers import Place

# config/stack/kafka-secure.properties: within it every living connection has logged in again.
REAUTHENTICATED_S = 11.0


class Users:
    """Users of a test's own, one a process, whose passwords nobody else needs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = f"test-{secrets.token_hex(4)}"
        self.variables = {
            "BALANCE_KAFKA__SASL_USERNAME": f"{self._name}-{{process}}",
            "BALANCE_KAFKA__SASL_PASSWORD_FILE": f"{folder}/{{process}}",
        }

    def grant(self, settings: Settings) -> None:
        """Give each user its process's rights on the place's names."""
        granted = {f"{self._name}-{process}": wanted for process, wanted in rights(["s1"]).items()}
        secured.kafka_administrator(settings).grant(granted, prefix=settings.kafka.topic_prefix)

    def change_servers(self, settings: Settings, password: str) -> None:
        users = {f"{self._name}-{process}": password for process in rights(["s1"])}
        secured.kafka_administrator(settings).set_passwords(users)

    def change_files(self, password: str) -> None:
        for process in rights(["s1"]):
            new = self._folder / f"{process}.new"
            new.write_text(password + "\n")
            new.rename(self._folder / process)


def starts(settings: Settings) -> int:
    logs = log_folder(settings).glob("*.log")
    return sum(log.read_text().count('"event": "process_started"') for log in logs)


@pytest.mark.rule("L5")
def test_passwords_change_under_load(secured_place: Callable[..., Place], tmp_path: Path) -> None:
    users = Users(tmp_path)
    place = secured_place(**users.variables)
    settings = place.settings
    users.change_servers(settings, "first")
    users.change_files("first")
    users.grant(settings)
    service = WholeService(place)
    with service.processes():
        with service.load(seed=8):
            service.await_progress()
            begun = starts(settings)

            users.change_servers(settings, "second")
            users.change_files("second")
            time.sleep(REAUTHENTICATED_S)  # not a wait for something to happen: all connections log in again
            service.await_progress()
        service.settle()
    assert starts(settings) == begun
