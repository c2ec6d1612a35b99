"""Runs of the simulation, one by one or until something is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from tests.simulation.environment import Components, Environment
from tests.simulation.run_options import RunOptions
from tests.simulation.transfers_checker import Violation

CRITICAL = 50


@contextmanager
def quiet() -> Iterator[None]:
    """Have the service's own log be silent meanwhile: thousands of runs have nothing to tell an operator."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def violation_of(
    seed: int,
    *,
    components: Components | None = None,
    options: Callable[[RunOptions], RunOptions] | None = None,
    trace: Callable[[str], None] | None = None,
) -> Violation | None:
    """Run one seed; return what did not hold, or None."""
    environment = Environment(seed, components=components, options=options)
    environment.trace = trace
    try:
        environment.run()
    except Violation as violation:
        return violation
    return None


def first_violation(
    seeds: range, *, components: Components, options: Callable[[RunOptions], RunOptions] | None = None
) -> tuple[int, Violation] | None:
    """Run seeds until one finds something."""
    for seed in seeds:
        violation = violation_of(seed, components=components, options=options)
        if violation is not None:
            return seed, violation
    return None


def trace_of(seed: int) -> list[str]:
    """Return what happened in a run, line by line."""
    lines: list[str] = []
    violation_of(seed, trace=lines.append)
    return lines


def replay_command(seed: int) -> str:
    """Return what to type to see a run again."""
    return f"python -m tests.simulation --seed {seed} --trace"
