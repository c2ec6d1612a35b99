"""Settings: where a value comes from, what is refused, and what is never shown."""

from __future__ import annotations

import tomllib
from functools import reduce
from operator import getitem
from pathlib import Path
from types import NoneType
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefinedType

from processors.faults import Misconfigured
from processors.ops.addresses import cassandra_address, kafka_address
from processors.settings import Settings, ShardSettings, load_settings
from processors.stack_settings import SECURE_PORTS_ON, StackSettings

DEFAULT = '[shards.s1]\ndatabase = "balance_s1"\n'
CHECKOUT = Path(__file__).parents[2]


def settings(profile: str | None = None, **variables: str) -> Settings:
    return load_settings(profile, root=CHECKOUT, environment=variables)


def written(root: Path, *, default: str = DEFAULT, local: str = "") -> Path:
    (root / "config").mkdir()
    (root / "config/default.toml").write_text(default)
    (root / "config/local.toml").write_text(local)
    return root


def test_the_profile_overrides_the_default_and_the_environment_overrides_both(tmp_path: Path) -> None:
    root = written(
        tmp_path,
        default=DEFAULT + '[kafka]\ntopic_prefix = "a"\nreplication_factor = 3\nsasl_username = "d"\n',
        local='[kafka]\ntopic_prefix = "b"\nreplication_factor = 2\n',
    )
    kafka = load_settings(root=root, environment={"BALANCE_KAFKA__TOPIC_PREFIX": "c"}).kafka
    assert (kafka.topic_prefix, kafka.replication_factor, kafka.sasl_username) == ("c", 2, "d")


def test_an_override_of_the_caller_wins_over_the_environment() -> None:
    loaded = load_settings(environment={"BALANCE_KAFKA__TOPIC_PREFIX": "a"}, kafka={"topic_prefix": "b"})
    assert loaded.kafka.topic_prefix == "b"


@pytest.mark.parametrize("profile", ["local", "production"])
def test_every_shipped_profile_loads(profile: str) -> None:
    assert settings(profile).profile == profile


def test_the_profile_is_taken_from_the_environment() -> None:
    assert settings(BALANCE_PROFILE="production").kafka.replication_factor == 3


def test_the_switch_of_compiled_modules_is_no_setting_and_none_is_refused_for_it() -> None:
    assert settings(BALANCE_COMPILED="0") == settings()


def test_production_is_safe_as_it_stands() -> None:
    production = settings("production")

    assert (production.kafka.security_protocol, production.kafka.ssl_ca_file is not None) == ("SASL_SSL", True)
    assert {(shard.ssl_mode, shard.ssl_ca_file is not None) for shard in production.shards.values()} == {
        ("VERIFY_IDENTITY", True)
    }
    assert production.cassandra.tls_ca_file is not None
    assert production.cassandra.replication_factor == 3
    assert production.kafka.min_insync_replicas == 2
    assert not production.keys_file.is_relative_to("/run")  # which is empty after a restart of the machine
    assert production.health.host == "127.0.0.1"


def test_a_profile_without_a_file_is_named_with_those_there_are() -> None:
    with pytest.raises(Misconfigured, match=r"nowhere\.toml; profiles here: default, local, production"):
        settings("nowhere")


def test_an_unknown_name_in_a_file_is_refused_with_its_place_and_the_nearest_one(tmp_path: Path) -> None:
    root = written(tmp_path, local="[topics]\nlane = 8\n")
    with pytest.raises(Misconfigured, match=r"topics\.lane: there is no such setting; did you mean lanes\?"):
        load_settings(root=root, environment={})


def test_an_unknown_section_in_a_file_is_refused(tmp_path: Path) -> None:
    root = written(tmp_path, local="[kafak]\nreplication_factor = 3\n")
    with pytest.raises(Misconfigured, match=r"kafak: there is no such setting; did you mean kafka\?"):
        load_settings(root=root, environment={})


@pytest.mark.parametrize(
    ("variable", "finding"),
    [
        (
            "BALANCE_KAFAK__TOPIC_PREFIX",
            r"BALANCE_KAFAK__TOPIC_PREFIX: there is no such setting; did you mean .*KAFKA\?",
        ),
        ("BALANCE_ROUTERS", r"BALANCE_ROUTERS: there is no such setting"),
        (
            "BALANCE_KAFKA__TOPIC_PREFIXES",
            r"kafka\.topic_prefixes: .*did you mean topic_prefix\?.*BALANCE_KAFKA__TOPIC_P",
        ),
        ("BALANCE_SHARDS__S1__PASWORD", r"shards\.s1\.pasword: .*did you mean password\?"),
    ],
)
def test_an_unknown_environment_variable_is_refused(variable: str, finding: str) -> None:
    with pytest.raises(Misconfigured, match=finding):
        settings(**{variable: "x"})


def test_other_programs_variables_are_none_of_ours() -> None:
    assert settings(KAFKA_HOME="/opt", BALANCED="1").kafka == settings().kafka


def test_every_finding_is_told_at_once() -> None:
    with pytest.raises(Misconfigured) as caught:
        settings(BALANCE_TOPICS__LANES="3", BALANCE_WORKER__BATCH_COMMANDS_MAX="4001")
    assert str(caught.value).splitlines() == [
        "settings:",
        "  topics.lanes: must be a power of two, since a key's partition is the low bits of its bucket (W3)",
        "  worker.batch_commands_max: Input should be less than or equal to 4000",
    ]


@pytest.mark.parametrize(
    ("variable", "value", "finding"),
    [
        ("BALANCE_KAFKA__MIN_INSYNC_REPLICAS", "2", "above replication_factor"),
        ("BALANCE_KAFKA__SECURITY_PROTOCOL", "SASL_SSL", "sasl_mechanism is empty"),
        ("BALANCE_RULES__SKEW_MS", "86400001", "above future_limit_ms"),
        ("BALANCE_RULES__FUTURE_LIMIT_MS", "1800000000", "more than 900 slices"),
        ("BALANCE_RULES__WINDOW_MS", f"{940 * 3_600_000}", "more than 900 slices"),
        ("BALANCE_RULES__REFUND_PERIOD_MS", f"{5 * 3_600_000}", "below window_ms"),
        ("BALANCE_RULES__LONGEST_HOLD_MS", "0", "longest_hold_ms"),
        ("BALANCE_HOME_SHARD", "s9", "not one of shards: s1"),
        ("BALANCE_STACK__MYSQL_PORT", "19092", "the same port"),
        ("BALANCE_WORKER__SESSION_TIMEOUT_MS", "5999", "greater than or equal to 6000"),
        ("BALANCE_WORKER__CLOCK_AHEAD_MAX_MS", "60001", "less than or equal to 60000"),
        ("BALANCE_INSTANCE", "a b", "should match pattern"),
    ],
)
def test_values_that_do_not_fit_are_refused(variable: str, value: str, finding: str) -> None:
    with pytest.raises(Misconfigured, match=finding):
        settings(**{variable: value})


SECRETS = {
    "BALANCE_SHARDS__S1__PASSWORD": "hunter2",
    "BALANCE_KAFKA__SASL_PASSWORD": "hunter2",
    "BALANCE_CASSANDRA__PASSWORD": "hunter2",
}


def test_secrets_are_read_but_not_shown() -> None:
    loaded = settings(**SECRETS)
    read = (
        loaded.shards["s1"].read_password(),
        kafka_address(loaded).password(),
        cassandra_address(loaded).read_password(),
    )
    assert read == ("hunter2",) * 3
    for shown in (repr(loaded), str(loaded), loaded.model_dump_json(), repr(loaded.shards), f"{loaded.kafka}"):
        assert "hunter2" not in shown


def test_each_process_may_log_in_as_itself(tmp_path: Path) -> None:
    for process in ("router", "sink", "operator"):
        for server in ("kafka", "cassandra"):
            (tmp_path / f"{server}-{process}").write_text(f"word of {process}\n")
    loaded = settings(
        BALANCE_KAFKA__SASL_USERNAME="balance-{process}",
        BALANCE_KAFKA__SASL_PASSWORD_FILE=f"{tmp_path}/kafka-{{process}}",
        BALANCE_CASSANDRA__USERNAME="balance-{process}",
        BALANCE_CASSANDRA__PASSWORD_FILE=f"{tmp_path}/cassandra-{{process}}",
    )
    kafka, cassandra = kafka_address(loaded), cassandra_address(loaded)
    assert (kafka.sasl_username, kafka.password()) == ("balance-operator", "word of operator")
    assert (cassandra.username, cassandra.read_password()) == ("balance-operator", "word of operator")
    assert kafka_address(loaded.changed(process="router")).password() == "word of router"
    assert cassandra_address(loaded.changed(process="sink")).read_password() == "word of sink"


def test_the_secured_stack_stands_beside_the_plain_one() -> None:
    plain, secured = settings(BALANCE_STACK__KAFKA_PORT="20000"), settings("secure", BALANCE_STACK__KAFKA_PORT="20000")
    assert secured.stack.directory == plain.stack.directory / "secure"
    ports = [
        getattr(secured.stack, name) - getattr(plain.stack, name)
        for name in StackSettings.model_fields
        if "port" in name
    ]
    assert ports == [SECURE_PORTS_ON] * 6
    assert secured.kafka.bootstrap_servers == "127.0.0.1:20005"
    assert secured.shards["s1"].port == secured.stack.mysql_port
    assert secured.kafka.ssl_ca_file == secured.stack.directory / "secrets/ca.pem"


def test_a_finding_does_not_show_a_secret() -> None:
    with pytest.raises(Misconfigured) as caught:
        settings(**SECRETS, BALANCE_SHARDS__S1__SECRET="hunter2", BALANCE_SHARDS__S1__PORT="hunter2")
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_a_secret_in_a_file_of_settings_is_refused_unseen(tmp_path: Path) -> None:
    root = written(tmp_path, local='[shards.s1]\npassword = "hunter2"\n')
    with pytest.raises(Misconfigured, match=r"shards\.s1\.password; put it into shards\.s1\.password_file") as caught:
        load_settings(root=root, environment={})
    assert "hunter2" not in str(caught.value)


def test_a_secrets_file_is_read_when_it_is_needed(tmp_path: Path) -> None:
    shard = settings(BALANCE_SHARDS__S1__PASSWORD_FILE=str(tmp_path / "password")).shards["s1"]
    with pytest.raises(
        Misconfigured, match=r"the password of database balance_s1 cannot be read from .*password: No such file"
    ):
        shard.read_password()
    (tmp_path / "password").write_text("hunter2\n")
    assert shard.read_password() == "hunter2"


def test_the_environments_secret_goes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from the file\n")
    loaded = settings(
        BALANCE_SHARDS__S1__PASSWORD="from the environment",
        BALANCE_SHARDS__S1__PASSWORD_FILE=str(tmp_path / "password"),
    )
    assert loaded.shards["s1"].read_password() == "from the environment"


def test_addresses_that_nobody_names_are_the_native_stacks() -> None:
    ports = {"KAFKA_PORT": "21000", "MYSQL_PORT": "21001", "CASSANDRA_PORT": "21002"}
    loaded = settings(**{f"BALANCE_STACK__{name}": port for name, port in ports.items()})
    assert loaded.kafka.bootstrap_servers == "127.0.0.1:21000"
    assert (loaded.shards["s1"].port, loaded.cassandra.port) == (21001, 21002)


def test_relative_paths_begin_at_the_folder_that_holds_config(tmp_path: Path) -> None:
    root = written(tmp_path, local='keys_file = "keys.json"\n[shards.s1]\npassword_file = "/etc/password"\n')
    loaded = load_settings(root=root, environment={})
    assert (loaded.keys_file, loaded.stack.directory) == (root / "keys.json", root / ".stack")
    assert loaded.shards["s1"].password_file == Path("/etc/password")


def test_a_list_in_the_environment_may_be_written_with_commas_or_as_json() -> None:
    for text in ("a, b", '["a", "b"]'):
        assert settings(BALANCE_CASSANDRA__HOSTS=text).cassandra.hosts == ("a", "b")


def test_a_profile_that_names_shards_has_no_others(tmp_path: Path) -> None:
    root = written(tmp_path, local='home_shard = "s2"\n[shards.s2]\ndatabase = "balance_s2"\n')
    assert list(load_settings(root=root, environment={}).shards) == ["s2"]


def test_a_profile_that_names_a_shard_of_the_default_file_changes_it(tmp_path: Path) -> None:
    root = written(tmp_path, local='[shards.s1]\nhost = "db1"\n[shards.s2]\ndatabase = "balance_s2"\n')
    loaded = load_settings(root=root, environment={})
    assert {name: (shard.host, shard.database) for name, shard in loaded.shards.items()} == {
        "s1": ("db1", "balance_s1"),
        "s2": ("127.0.0.1", "balance_s2"),
    }


def test_the_local_profile_has_two_shards_on_two_servers_of_the_stack() -> None:
    loaded = settings(BALANCE_STACK__MYSQL_PORT="21001", BALANCE_STACK__MYSQL_2_PORT="21002")
    assert {name: (shard.host, shard.port) for name, shard in loaded.shards.items()} == {
        "s1": ("127.0.0.1", 21001),
        "s2": ("127.0.0.1", 21002),
    }
    assert settings(BALANCE_SHARDS__S2__STACK_SERVER="1").shards["s2"].port == 13306
    moved = settings(BALANCE_STACK__DIRECTORY="/srv/stack")
    files = {shard.password_file for shard in moved.shards.values()}
    assert files == {Path("/srv/stack/secrets/mysql-password")}  # no other variable is needed


def test_a_shard_has_its_own_number_of_lanes_or_that_of_all() -> None:
    loaded = settings(BALANCE_SHARDS__S2__LANES="16", BALANCE_TOPICS__LANES="8")
    assert [loaded.lanes_of(shard) for shard in ("s1", "s2")] == [8, 16]
    with pytest.raises(Misconfigured, match=r"shards\.s2\.lanes: must be a power of two"):
        settings(BALANCE_SHARDS__S2__LANES="3")


def test_two_shards_in_one_database_are_refused() -> None:
    with pytest.raises(Misconfigured, match="shards s1 and s2 are given the same database"):
        settings(BALANCE_SHARDS__S2__DATABASE="balance_s1", BALANCE_SHARDS__S2__STACK_SERVER="1")


def test_a_further_shard_may_come_from_the_environment() -> None:
    loaded = settings(BALANCE_SHARDS__S2__DATABASE="balance_s2", BALANCE_SHARDS__S2__HOST="db2")
    assert sorted(loaded.shards) == ["s1", "s2"]
    assert loaded.shards["s2"].host == "db2"


def test_a_changed_copy_is_checked_and_keeps_the_secrets() -> None:
    loaded = settings(**SECRETS)
    copy = loaded.changed(shards={"s1": {"database": "balance_copy"}}, kafka={"topic_prefix": "t1-"})
    assert (copy.shards["s1"].database, copy.shards["s1"].read_password()) == ("balance_copy", "hunter2")
    assert (copy.kafka.topic_prefix, loaded.kafka.topic_prefix) == ("t1-", "")
    with pytest.raises(Misconfigured, match="power of two"):
        loaded.changed(topics={"lanes": 3})


def test_settings_never_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings().kafka.topic_prefix = "x"  # type: ignore[misc]


def defaults_in_code() -> dict[tuple[str, ...], Any]:
    """Every setting with a default of its own: not what is required, nor secrets and files, none at first."""
    sections: dict[tuple[str, ...], Any] = {(): Settings, ("shards", "s1"): ShardSettings}
    sections |= {(name,): field.annotation for name, field in Settings.model_fields.items()}
    values: dict[tuple[str, ...], Any] = {}
    for path, section in sections.items():
        if isinstance(section, type) and issubclass(section, BaseModel):
            values |= {(*path, name): field.get_default() for name, field in section.model_fields.items()}
    return {
        path: value
        for path, value in values.items()
        if not isinstance(value, BaseModel | NoneType | PydanticUndefinedType)
    }


def test_the_default_file_names_every_setting_with_the_codes_own_default() -> None:
    """People read the file as the reference; one that differs from the code would lie."""
    file: Any = tomllib.loads((CHECKOUT / "config/default.toml").read_text())
    for path, default in defaults_in_code().items():
        value = reduce(getitem, path, file)
        assert type(default)(value) == default, path


def test_the_only_shard_of_a_profile_is_the_first_one_whatever_it_is_called(tmp_path: Path) -> None:
    root = written(tmp_path, local='[shards.eu_west]\ndatabase = "balance_eu"\n')
    loaded = load_settings(root=root, environment={"BALANCE_SHARDS__EU_WEST__PASSWORD": "p"})

    assert (loaded.home_shard, list(loaded.shards)) == ("eu_west", ["eu_west"])
