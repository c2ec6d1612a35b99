"""Two shards in memory, as most tests of moves begin with them."""

from __future__ import annotations

import pytest

from tests.simulation.two_shards import TwoShards


@pytest.fixture
def shards() -> TwoShards:
    """Return them with an account of acme's on s1, which has 10.00."""
    made = TwoShards()
    made.open(1_000)
    made.serve()
    return made
