"""Each shard's MySQL server killed in the middle of a move, and started again: it ends as if nothing had been.

The servers are a native stack of this module's own, on other ports, so that no other test meets what happens to them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from devtools import stack
from devtools.stack import Server
from processors.settings import Settings, load_settings
from tests.chaos.load import Load
from tests.chaos.two_shards import TwoShardService
from tests.integration.test_stack import variables
from tests.servers import Place

ROOT = "acme"
DOWN_S = 2.0
BACK_S = 150.0  # a server's start, and the transactions in doubt before it (L6)
SERVERS = (Server.MYSQL, Server.MYSQL_2)  # of s1 and s2


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A stack whose servers may be killed, and a service with a shard on each MySQL server."""
    folder = tmp_path_factory.mktemp("stack")
    environment = {
        **variables(folder),
        "BALANCE_SHARDS__S2__STACK_SERVER": "2",
        "BALANCE_SHARDS__S2__DATABASE": "balance_s2",
        "BALANCE_SHARDS__S2__PASSWORD_FILE": str(folder / "secrets/mysql-password"),
        "BALANCE_KEYS_FILE": str(folder / "signing-keys.json"),
        "BALANCE_EXPIRER__TICK_MS": "500",
        "BALANCE_LOG_FORMAT": "json",
    }
    settings = load_settings(environment=environment)
    stack.up(settings)
    yield Place(environment=environment, settings=settings)
    stack.down(settings)


@pytest.mark.rule("L4")
@pytest.mark.rule("L6")
@pytest.mark.rule("M4")
def test_a_move_ends_by_itself_whichever_shards_server_is_killed_meanwhile(place: Place) -> None:
    service = TwoShardService(place)
    try:
        with service.processes():
            with Load(service, 1, (ROOT, "acme:vn", "other"), commands=20) as load:
                load.await_batches(20)
                for server in SERVERS:  # the source's, twice
                    killed_while_moving(service, place.settings, server)
                service.move(ROOT)
                for server in SERVERS:  # the target's, twice
                    killed_while_moving(service, place.settings, server)
                load.await_batches(5)
            service.await_answers()
            service.assert_as_if_nothing_had_moved()
            service.assert_books_balance()
            service.assert_nothing_in_between()
    finally:
        service.close()


def killed_while_moving(service: TwoShardService, settings: Settings, server: Server) -> None:
    placed = service.send_marker(ROOT)
    service.flush()
    stack.kill(settings, server)
    time.sleep(DOWN_S)
    stack.start(settings, server)
    service.await_moved(placed, BACK_S)
