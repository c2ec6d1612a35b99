from __future__ import annotations

import threading
from pathlib import Path

import pytest

from processors.faults import Misconfigured
from processors.ops import assembly
from processors.ops.assembly import router
from processors.settings import load_settings
from processors.wire.schemas import schema_of


def test_a_schema_registrys_ids_come_from_the_settings() -> None:
    settings = load_settings(environment={"BALANCE_KAFKA__REGISTRY_IDS__PAY": "7"})
    assert assembly.confluent_ids(settings) == {7: schema_of("pay")}


def test_an_id_for_a_schema_that_is_no_commands_is_refused_by_name() -> None:
    settings = load_settings(environment={"BALANCE_KAFKA__REGISTRY_IDS__RESULT": "7"})
    with pytest.raises(Misconfigured, match=r"kafka\.registry_ids names result"):
        assembly.confluent_ids(settings)


@pytest.mark.rule("I6")
@pytest.mark.parametrize("value", ["7,12", "7, 12", "[7, 12]"])
def test_two_languages_may_register_a_schema_differently(value: str) -> None:
    settings = load_settings(environment={"BALANCE_KAFKA__REGISTRY_IDS__PAY": value})
    assert assembly.confluent_ids(settings) == dict.fromkeys((7, 12), schema_of("pay"))


@pytest.mark.rule("R3")
def test_a_router_without_a_keys_file_says_so_at_its_start(tmp_path: Path) -> None:
    settings = load_settings(environment={"BALANCE_KEYS_FILE": str(tmp_path / "keys.json")})
    with pytest.raises(Misconfigured, match=r"keys_file .*keys\.json cannot be read"):
        router.run(settings, "s1", threading.Event())


def test_an_id_that_stands_for_two_schemas_is_refused() -> None:
    variables = {"BALANCE_KAFKA__REGISTRY_IDS__PAY": "7", "BALANCE_KAFKA__REGISTRY_IDS__TOP_UP": "8,7"}
    with pytest.raises(Misconfigured, match="names 7 for"):
        assembly.confluent_ids(load_settings(environment=variables))


@pytest.mark.parametrize("text", ["pay", "pay=", "pay=x", "pay=1,", "pay=-1"])
def test_a_registry_id_that_is_mistyped_says_what_to_write(text: str) -> None:
    with pytest.raises(Misconfigured, match="write NAME=NUMBER"):
        assembly.registry_ids_of([text])


def test_a_registry_id_names_one_version_of_a_schema_whatever_later_releases_bring() -> None:
    prefixes = [schema_of("set_rules", version).fingerprint for version in (1, 2)]
    assert list(assembly.registry_ids_of(["set_rules=1", "set_rules.v2=2"]).values()) == prefixes
