"""Every setting of the service: its unit, its limits, its place in the files and in the environment.

Read once, in ``ops``, and passed down. A value comes from the first of these that names it: an override of the caller,
the environment (``BALANCE_KAFKA__BOOTSTRAP_SERVERS``), ``config/<profile>.toml``, ``config/default.toml``. A name that
no section knows is an error wherever it stands: a mistyped limit must not go unnoticed. Secrets come from the
environment or from a file that a ``*_file`` setting names, never from a TOML file, and no ``repr`` shows them.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import TomlConfigSettingsSource

from processors import compiled, shipped, stack_settings
from processors.api_settings import ApiSettings
from processors.faults import Misconfigured
from processors.ledger.rules import Rules as LedgerRules
from processors.ledger.rules import why_unfit
from processors.setting_types import (
    DAY_MS,
    HOUR_MS,
    Days,
    Identifier,
    Milliseconds,
    Partitions,
    PortOrStack,
    RegistryIds,
    Section,
    refuse_other_than_powers_of_two,
)
from processors.stack_settings import SECOND_MYSQL, StackSettings

PREFIX = "BALANCE_"
PROFILE_VARIABLE = "BALANCE_PROFILE"  # which config/<profile>.toml is read; local if absent
ROOT_VARIABLE = "BALANCE_ROOT"  # the folder that holds config/; relative paths of settings start there
SECURE_PROFILE = "secure"  # the secured native stack's
LOOPBACK = "127.0.0.1"
STACK = "{stack}"  # in a file's name: the native stack's folder
PROCESS = "{process}"  # in a user's name or a password file's: the process's, such as router, shard-s1, operator
OPERATOR = "operator"  # the process that a command line is


def read_secret(value: SecretStr | None, file: Path | None, *, name: str) -> str:
    """Return a secret from its value or its file, the empty string where neither is set.

    Read when used, not when the settings load: the native stack makes its password file at its first start.

    Args:
        value: From the environment; goes before ``file``.
        file: A file whose whole text, without the line end, is the secret.
        name: What it is, for the error.

    Raises:
        Misconfigured: The file is named but cannot be read.
    """
    if value is not None:
        return value.get_secret_value()
    if file is None:
        return ""
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise Misconfigured(f"{name} cannot be read from {file}: {error.strerror}") from error


class KafkaSettings(Section):
    """How to reach the brokers, and the names of what is ours there."""

    bootstrap_servers: str = ""  # host:port, comma separated; empty: the native stack
    topic_prefix: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{0,64}$")] = ""  # before topics, groups, tx ids
    replication_factor: Annotated[int, Field(ge=1, le=7)] = 1
    min_insync_replicas: Annotated[int, Field(ge=1, le=7)] = 1
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    sasl_username: str = ""  # may hold PROCESS, as sasl_password_file may
    sasl_password: SecretStr | None = None
    sasl_password_file: Path | None = None
    ssl_ca_file: Path | None = None
    # A schema registry's ids by schema (`pay = 7`, or `pay = [7, 12]` where producers' languages register it
    # differently): payloads in its framing are taken, too. Of a new shard; afterwards they are rules (I6).
    registry_ids: dict[str, RegistryIds] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _replicas_suffice(self) -> Self:
        if self.min_insync_replicas > self.replication_factor:
            raise ValueError("min_insync_replicas is above replication_factor: nothing could be written")
        if self.security_protocol.startswith("SASL") and not self.sasl_mechanism:
            raise ValueError("security_protocol asks for SASL, but sasl_mechanism is empty")
        return self


class TopicsSettings(Section):
    """Partition counts, fixed when a topic is made (W3), and how long records stay."""

    commands_partitions: Partitions = 4
    results_partitions: Partitions = 4
    lanes: Partitions = 4  # partitions of a shard's topic, where the shard says no other number
    dead_letters_partitions: Partitions = 1
    archived_partitions: Partitions = 1
    commands_retention_days: Days = 7
    shard_retention_days: Days = 30
    results_retention_days: Days = 30
    dead_letters_retention_days: Days = 30
    archived_retention_days: Days = 7

    _powers = field_validator(
        "commands_partitions", "results_partitions", "lanes", "dead_letters_partitions", "archived_partitions"
    )(refuse_other_than_powers_of_two)


class ShardSettings(Section):
    """One MySQL database. Its id is the key under ``shards``."""

    host: str = LOOPBACK
    port: PortOrStack = 0  # 0: the native stack
    stack_server: Annotated[int, Field(ge=1, le=SECOND_MYSQL)] = 1  # which MySQL server of it, where the port is 0
    user: str = "balance"
    password: SecretStr | None = None
    password_file: Path | None = None
    database: Identifier
    # Always sent: the client's own default (PREFERRED) stays in clear text without a word.
    ssl_mode: Literal["DISABLED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"] = "DISABLED"
    ssl_ca_file: Path | None = None
    replica_host: str = ""  # whom the read API asks instead; empty: the database itself
    replica_port: PortOrStack = 0  # 0: the same port
    lanes: Partitions | None = None  # of a new shard; None: topics.lanes

    _powers = field_validator("lanes")(refuse_other_than_powers_of_two)

    @field_validator("host")
    @classmethod
    def _is_in_the_network(cls, host: str) -> str:
        if host in {"", "localhost"}:
            raise ValueError(f"{host!r} means the machine's own socket, whatever the port: write 127.0.0.1")
        return host

    def read_password(self) -> str:
        """Return the database user's password; empty where none is set."""
        return read_secret(self.password, self.password_file, name=f"the password of database {self.database}")


class CassandraSettings(Section):
    """How to reach the archive."""

    hosts: tuple[str, ...] = (LOOPBACK,)
    port: PortOrStack = 0  # 0: the native stack
    keyspace: Identifier = "balance"
    local_dc: str = "datacenter1"
    replication_factor: Annotated[int, Field(ge=1, le=7)] = 1
    username: str = ""  # may hold PROCESS, as password_file may
    password: SecretStr | None = None
    password_file: Path | None = None
    tls_ca_file: Path | None = None  # set: connections are encrypted and the server is verified against it


class RulesSettings(Section):
    """What a new shard's ``rules`` row says; afterwards only SET_RULES records change it (I6)."""

    window_ms: int = 6 * HOUR_MS
    skew_ms: int = 300_000
    future_limit_ms: int = DAY_MS
    refund_period_ms: int = 180 * DAY_MS
    longest_hold_ms: int = 30 * DAY_MS

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        reason = why_unfit(LedgerRules(version=1, **self.model_dump()))
        if reason is not None:
            raise ValueError(reason)
        return self


class WorkerSettings(Section):
    """Limits of the shard worker."""

    batch_commands_max: Annotated[int, Field(ge=1, le=4_000)] = 4_000  # L8
    batch_sql_bytes_max: Annotated[int, Field(ge=65_536, le=4 * 1024 * 1024)] = 4 * 1024 * 1024  # L8
    statement_keys_max: Annotated[int, Field(ge=1, le=2_000)] = 2_000  # L8
    book_accounts_max: Annotated[int, Field(ge=10_000)] = 100_000  # about 1 KiB each: 100 MB a lane at most
    queue_batches_max: Annotated[int, Field(ge=1, le=64)] = 4  # between two stages; more only adds latency
    stop_deadline_ms: Milliseconds = 10_000  # SIGTERM to exit: one batch, its publication, and air
    session_timeout_ms: Annotated[int, Field(ge=6_000, le=300_000)] = 6_000  # P4: the broker's minimum
    # I2: an override counts on what is two minutes ahead of it, so that no worker has decided that by its stamp before.
    clock_ahead_max_ms: Annotated[int, Field(ge=1, le=60_000)] = 60_000


class RouterSettings(Section):
    """Limits of the router."""

    batch_records_max: Annotated[int, Field(ge=1, le=100_000)] = 4_000
    stop_deadline_ms: Milliseconds = 10_000


class ExpirerSettings(Section):
    """How often overdue holds are looked for and idle lanes are moved on."""

    tick_ms: Milliseconds = 5_000  # docs/design.md, Money: an idle lane's time is kept moving
    holds_max: Annotated[int, Field(ge=1, le=100_000)] = 2_000  # EXPIRE_HOLD records a lane and tick


class SinkSettings(Section):
    """Limits of the sink; large reads group better (docs/design.md, The archive)."""

    batch_rows_max: Annotated[int, Field(ge=1, le=100_000)] = 20_000
    batch_wait_ms: Milliseconds = 500
    requests_max: Annotated[int, Field(ge=1, le=1_024)] = 32  # writes on the way to Cassandra at once
    stop_deadline_ms: Milliseconds = 30_000


class RecallerSettings(Section):
    """Limits of the recaller."""

    batch_records_max: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    retry_ms: Milliseconds = 1_000  # until coverage has reached the refund's own result (H4)
    stop_deadline_ms: Milliseconds = 10_000


class RemoverSettings(Section):
    """How often slices are looked at, and made."""

    interval_ms: Milliseconds = 60_000
    stop_deadline_ms: Milliseconds = 30_000


class AuditorSettings(Section):
    """How often a shard is proven, and at what cost."""

    interval_ms: Milliseconds = 60_000
    load_percent: Annotated[int, Field(ge=1, le=100)] = 10  # of the time, a proof works; the rest it rests
    stop_deadline_ms: Milliseconds = 30_000


class HealthSettings(Section):
    """Where each process answers ``/healthz``, ``/readyz`` and ``/metrics``."""

    host: str = LOOPBACK
    port: Annotated[int, Field(ge=0, le=65_535)] = 0  # the first process's; 0: a free one, which the log names


class Settings(BaseSettings):
    """All settings, complete and checked. Made by ``load_settings``."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        nested_model_default_partial_update=False,
    )

    root: Path  # where relative paths start; the folder that holds config/
    profile: str
    process: str  # whose logins these are: the name in its log, or `operator`
    instance: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,64}$")] = "local"  # P4: unique, the same after a restart
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "console"] = "json"
    keys_file: Path = Path(".stack/secrets/signing-keys.json")  # W1: made by `balance init`, mode 0600
    home_shard: Identifier = "s1"  # generation 0 of every placement key
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicsSettings = TopicsSettings()
    shards: Annotated[dict[Identifier, ShardSettings], Field(min_length=1)]
    cassandra: CassandraSettings = CassandraSettings()
    rules: RulesSettings = RulesSettings()
    worker: WorkerSettings = WorkerSettings()
    router: RouterSettings = RouterSettings()
    expirer: ExpirerSettings = ExpirerSettings()
    sink: SinkSettings = SinkSettings()
    recaller: RecallerSettings = RecallerSettings()
    remover: RemoverSettings = RemoverSettings()
    auditor: AuditorSettings = AuditorSettings()
    health: HealthSettings = HealthSettings()
    api: ApiSettings = ApiSettings()
    stack: StackSettings = StackSettings()

    @model_validator(mode="after")
    def _home_exists(self) -> Self:
        if self.home_shard not in self.shards:
            raise ValueError(f"home_shard is {self.home_shard}, which is not one of shards: {', '.join(self.shards)}")
        return self

    @model_validator(mode="after")
    def _databases_differ(self) -> Self:
        known: dict[tuple[str, int, str], str] = {}
        for name, shard in self.shards.items():
            other = known.setdefault((shard.host, shard.port, shard.database), name)
            if other != name:
                raise ValueError(f"shards {other} and {name} are given the same database: each needs its own")
        return self

    def lanes_of(self, shard: str) -> int:
        """Return how many lanes a shard has: its own number, or ``topics.lanes``."""
        return self.shards[shard].lanes or self.topics.lanes

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what ``load_settings`` has merged and nothing else (pydantic's hook)."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    def changed(self, **sections: Any) -> Settings:
        """Return a copy with some values replaced, checked anew.

        >>> load_settings(environment={}).changed(kafka={"topic_prefix": "t1-"}).kafka.topic_prefix
        't1-'
        """
        return _checked(_merged(self.model_dump(), sections))


def load_settings(
    profile: str | None = None,
    *,
    root: Path | None = None,
    environment: Mapping[str, str] | None = None,
    **overrides: Any,
) -> Settings:
    """Read the settings of a profile.

    Args:
        profile: Names ``config/<profile>.toml``; by default ``BALANCE_PROFILE``, else ``local``.
        root: The folder that holds ``config/``; by default ``BALANCE_ROOT``, else the checkout, else (an installation)
            the folder of the process. Where it has no ``default.toml``, the one that ships with the code counts.
        environment: Variables to read instead of the process's own.
        overrides: Sections, e.g. ``kafka={"topic_prefix": "t1-"}``; they win over everything.

    Raises:
        Misconfigured: A file is missing, a name is unknown, a value is out of range, or a secret stands in a file.
            The text has one line a finding, each with the setting's name and what to do.
    """
    variables = os.environ if environment is None else environment
    chosen = profile or variables.get(PROFILE_VARIABLE, "local")
    base = (root or Path(variables.get(ROOT_VARIABLE, shipped.home()))).resolve()
    values: dict[str, Any] = {}
    for name in ("default", chosen):
        layer = _from_toml(shipped.settings_file(base, name))
        values = _merged(_without_other_shards(values, layer), layer)
    values = _merged(values, _from_environment(variables))
    values = _merged(values, overrides)
    return _checked(_merged(_without_gaps(values, base), {"root": base, "profile": chosen, "process": OPERATOR}))


def _from_toml(file: Path) -> dict[str, Any]:
    if not file.is_file():
        known = ", ".join(sorted(each.stem for each in file.parent.glob("*.toml"))) or "none"
        raise Misconfigured(f"there is no {file}; profiles here: {known} ({ROOT_VARIABLE} names the folder of config/)")
    try:
        values = TomlConfigSettingsSource(Settings, file)()
    except ValueError as error:
        raise Misconfigured(f"{file} is not TOML: {error}") from error
    for path, _ in _leaves(values):
        if path[-1] in {"password", "sasl_password"}:
            name = ".".join(path)
            raise Misconfigured(f"{file} holds {name}; put it into {name}_file or {_variable(path)} instead")
    return values


def _without_other_shards(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the default file's shards that a profile with shards of its own does not name: an example by then.

    The only shard of a profile is its first one, whatever it is called.
    """
    named = above.get("shards")
    if not named:
        return below
    if len(named) == 1:
        below = {**below, "home_shard": next(iter(named))}
    return {**below, "shards": {name: place for name, place in below.get("shards", {}).items() if name in named}}


def _from_environment(variables: Mapping[str, str]) -> dict[str, Any]:
    ours = {name: value for name, value in variables.items() if name.startswith(PREFIX)}
    for name in (PROFILE_VARIABLE, ROOT_VARIABLE, compiled.SWITCH):
        ours.pop(name, None)
    known = set(Settings.model_fields) - {"root", "profile", "process"}
    for name in ours:
        first = name.removeprefix(PREFIX).lower().split("__")[0]
        if first not in known:
            raise Misconfigured(f"{name}: there is no such setting{_nearest(first, known, before=PREFIX)}")
    source = _Variables(Settings, case_sensitive=False)
    source.env_vars = {name.lower(): value for name, value in ours.items()}
    try:
        return source()
    except ValueError as error:
        raise Misconfigured(f"the environment cannot be read: {error}") from error


class _Variables(EnvSettingsSource):
    """Environment variables; a list may be written with commas, as people do, or as JSON."""

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        if isinstance(value, str) and not value.lstrip().startswith(("[", "{")):
            return tuple(part.strip() for part in value.split(",")) if field_name == "hosts" else value
        return super().decode_complex_value(field_name, field, value)


def _without_gaps(values: dict[str, Any], root: Path) -> dict[str, Any]:
    """Fill in the native stack's addresses where none is given, and root relative paths."""
    stack = stack_settings.in_force(values.get("stack", {}))
    kafka, cassandra = values.setdefault("kafka", {}), values.setdefault("cassandra", {})
    kafka["bootstrap_servers"] = kafka.get("bootstrap_servers") or f"{LOOPBACK}:{stack['kafka_port']}"
    cassandra["port"] = cassandra.get("port") or stack["cassandra_port"]
    for shard in values.get("shards", {}).values():
        shard["port"] = shard.get("port") or stack_settings.mysql_port(stack, shard.get("stack_server"))
    values.setdefault("keys_file", Settings.model_fields["keys_file"].default)
    # Resolved, so that a folder that is reached by two names is one stack.
    values["stack"] = stack | {"directory": (root / stack["directory"]).resolve()}
    for path, value in _leaves(values):
        if value and path[-1].endswith("_file"):
            _section(values, path)[path[-1]] = root / str(value).replace(STACK, str(values["stack"]["directory"]))
    return values


def _checked(values: dict[str, Any]) -> Settings:
    try:
        return Settings(**values)
    except ValidationError as error:
        lines = [_sentence(each["loc"], each["type"], each["msg"]) for each in error.errors(include_input=False)]
        raise Misconfigured("settings:\n  " + "\n  ".join(lines)) from None


def _sentence(location: tuple[int | str, ...], kind: str, message: str) -> str:
    path = tuple(str(part) for part in location if part != "[key]")
    name = ".".join(path) or "settings"
    if kind == "extra_forbidden":
        near = _nearest(path[-1], _known(path))
        return f"{name}: there is no such setting{near} (in the environment: {_variable(path)})"
    return f"{name}: {message.removeprefix('Value error, ')}"


def _known(path: tuple[str, ...]) -> set[str]:
    """Return the names that the section at ``path[:-1]`` knows."""
    model: Any = Settings
    for part in path[:-1]:
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        model = (
            ShardSettings if part == "shards" or model is ShardSettings else (field.annotation if field else Settings)
        )
    return set(model.model_fields)


def _nearest(name: str, known: set[str], *, before: str = "") -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if not near:
        return ""
    return f"; did you mean {before}{near[0].upper() if before else near[0]}?"


def _variable(path: tuple[str, ...]) -> str:
    return PREFIX + "__".join(part.upper() for part in path)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for name, value in above.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = _merged(result[name], value) if both else value
    return result


def _leaves(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    leaves: list[tuple[tuple[str, ...], Any]] = []
    for name, value in values.items():
        leaves += _leaves(value, (*path, name)) if isinstance(value, Mapping) else [((*path, name), value)]
    return leaves


def _section(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for part in path[:-1]:
        values = values[part]
    return values
