"""What becomes of an error of Cassandra's driver: who must do what next."""

from __future__ import annotations

from typing import Any

import pytest
from cassandra import AuthenticationFailed, InvalidRequest, OperationTimedOut
from cassandra.cluster import NoHostAvailable

from processors.faults import Fault, Misconfigured, Refused, Unavailable
from processors.stores.cassandra import fault_of

NODE = "127.0.0.1"


@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ({NODE: AuthenticationFailed("no")}, Refused),
        ({NODE: InvalidRequest("no such table")}, Misconfigured),
        ({NODE: OperationTimedOut()}, Unavailable),
        ({NODE: AuthenticationFailed("no"), "127.0.0.2": OperationTimedOut()}, Unavailable),
        ({}, Unavailable),
        ([NODE], Unavailable),  # of a session that reached no node at its start
    ],
    ids=["login", "request", "timeout", "one-of-two", "nobody-asked", "addresses"],
)
def test_what_the_nodes_said_says_what_to_do(errors: Any, kind: type[Fault]) -> None:
    assert type(fault_of(NoHostAvailable("Unable to connect to any servers", errors), "connection")) is kind
