from __future__ import annotations

import pytest

from processors.faults import Misconfigured
from processors.ops import assembly
from processors.settings import load_settings
from processors.wire.schemas import schema_of


def test_a_schema_registrys_ids_come_from_the_settings() -> None:
    settings = load_settings(environment={"BALANCE_KAFKA__REGISTRY_IDS__PAY": "7"})
    assert assembly.confluent_ids(settings) == {7: schema_of("pay")}


def test_an_id_for_a_schema_that_is_no_commands_is_refused_by_name() -> None:
    settings = load_settings(environment={"BALANCE_KAFKA__REGISTRY_IDS__RESULT": "7"})
    with pytest.raises(Misconfigured, match=r"kafka\.registry_ids names result"):
        assembly.confluent_ids(settings)
