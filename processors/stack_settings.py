"""The settings of a checkout's native servers: their ports, and that the secured ones stand beside the plain ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from processors.setting_types import Port, Section

# The ports of Kafka, Cassandra and the first MySQL server may stand side by side; the secured stack's follow them.
SECURE_PORTS_ON = 5
SECOND_MYSQL = 2  # ``shards.<id>.stack_server`` of a shard that lives on the second MySQL server


class StackSettings(Section):
    """The native servers of this checkout. Two checkouts need other ports and nothing else."""

    directory: Path = Path(".stack")
    secure: bool = False  # the secured servers instead: below directory/secure, each port SECURE_PORTS_ON higher
    kafka_port: Port = 19_092
    kafka_controller_port: Port = 19_093
    mysql_port: Port = 13_306
    mysql_2_port: Port = 13_307  # of the second MySQL server, which runs where a shard lives on it
    cassandra_port: Port = 19_042
    cassandra_storage_port: Port = 17_000

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        ports = [value for name, value in self if name.endswith("_port")]
        if len(set(ports)) != len(ports):
            raise ValueError("two servers of the stack are given the same port")
        return self


def in_force(stack: dict[str, Any]) -> dict[str, Any]:
    """Return every value of the section, the secured stack's where that is meant: it stands beside the plain one."""
    values = {**StackSettings().model_dump(), **stack}
    try:
        plain = StackSettings(**values)
    except ValidationError:  # told with all other findings
        return values
    if not plain.secure:
        return values
    ports = {name: value + SECURE_PORTS_ON for name, value in plain if name.endswith("_port")}
    return {**values, **ports, "directory": plain.directory / "secure"}


def mysql_port(stack: dict[str, Any], stack_server: Any) -> Any:
    """Return the port of the native MySQL server that a shard names; a number, or its text from the environment."""
    return stack["mysql_2_port" if str(stack_server) == str(SECOND_MYSQL) else "mysql_port"]
