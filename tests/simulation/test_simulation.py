"""Some thousands of seeded runs of the real lanes, router and expirer, with everything going wrong that can.

More of them: ``SIMULATION_SEEDS=100000 SIMULATION_FIRST_SEED=7000 pytest tests/simulation/test_simulation.py``, or
``python -m tests.simulation --seeds 100000``.
"""

from __future__ import annotations

import os

import pytest

from tests.simulation.seeds import quiet, replay_command, trace_of, violation_of

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "2000"))
FIRST_SEED = int(os.environ.get("SIMULATION_FIRST_SEED", "0"))


@pytest.mark.timeout(0)  # as long as the seeds that were asked for take; each run ends by itself
@pytest.mark.rule("L1")
@pytest.mark.rule("L2")
@pytest.mark.rule("L3")
@pytest.mark.rule("L4")
@pytest.mark.rule("L5")
@pytest.mark.rule("L6")
@pytest.mark.rule("L9")
@pytest.mark.rule("L10")
@pytest.mark.rule("I2")
@pytest.mark.rule("I6")
@pytest.mark.rule("I7")
@pytest.mark.rule("W1")
@pytest.mark.rule("A2")
@pytest.mark.rule("A6")
def test_every_command_is_decided_and_answered_once_whatever_goes_wrong() -> None:
    with quiet():
        for seed in range(FIRST_SEED, FIRST_SEED + SEEDS):
            violation = violation_of(seed)
            assert violation is None, f"{violation}\nreplay it with: {replay_command(seed)}"


def test_a_run_is_the_same_whenever_its_seed_is() -> None:
    with quiet():
        assert trace_of(FIRST_SEED + 5) == trace_of(FIRST_SEED + 5)
