"""A site that names its shards as it likes, in a profile of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from processors.ops import addresses
from processors.settings import load_settings
from tests.end_to_end.conftest import balance, started
from tests.servers import Place, Servers

CONFIG = Path(__file__).parents[2] / "config"


@pytest.fixture
def site(
    servers: Servers, fresh_place: Callable[..., Place], fresh_database: Callable[[], str], tmp_path: Path
) -> Callable[[str], Place]:
    """Return a maker of places whose profile names the shard ``s2`` and no other; it takes the user's password."""

    def make(password: str) -> Place:
        environment = {
            name: value for name, value in fresh_place().environment.items() if not name.startswith("BALANCE_SHARDS")
        }
        (tmp_path / "config").mkdir()
        shutil.copy(CONFIG / "default.toml", tmp_path / "config")
        (tmp_path / "password").write_text(password)
        (tmp_path / "config/site.toml").write_text(
            'home_shard = "s2"\n[shards.s2]\n'
            f'host = "{servers.mysql_host}"\nport = {servers.mysql_port}\nuser = "{servers.mysql_user}"\n'
            f'database = "{fresh_database()}"\npassword_file = "password"\n'
        )
        environment |= {"BALANCE_ROOT": str(tmp_path), "BALANCE_PROFILE": "site"}
        return Place(environment=environment, settings=load_settings(environment=environment))

    return make


def test_the_home_shard_may_have_any_name_and_pays(servers: Servers, site: Callable[[str], Place]) -> None:
    place = site(servers.mysql_password)
    assert balance(place, "init").status == 0
    address = addresses.kafka_address(place.settings)
    listed = AdminClient(address.options()).list_topics(timeout=30).topics
    assert address.topic_prefix + "balance.shard.s2" in listed
    assert address.topic_prefix + "balance.shard.s1" not in listed

    with contextmanager(started)(place) as running:
        assert running.balance("account", "open", "acme", "USD").status == 0
        assert running.balance("topup", "acme", "2.00", "USD").status == 0
        assert running.balance("pay", "acme", "1.50", "USD").status == 0
        assert {lane["shard"] for lane in running.balance("status", "--json").json["lanes"]} == {"s2"}


def test_a_server_that_refuses_the_login_is_told_with_its_shard(site: Callable[[str], Place]) -> None:
    said = balance(site("wrong"), "init")
    assert said.status == 3
    assert "shard s2" in said.err
    assert "1045" in said.err
