"""A shard's database goes back to a backup while partners move, and the other shards' databases do not."""

from __future__ import annotations

import pytest

from tests.simulation.fakes.tables import Tables
from tests.simulation.move_mutations import NOTHING, MoveMutation
from tests.simulation.test_moves_at_random import FINDINGS, RandomRun, check
from tests.simulation.two_shards import HOME, Shard

SEEDS = range(40)  # a tenth of a second each, or two
SEEDS_TO_FIND_A_MUTATION = 400  # about one in thirty finds it
BACKUPS = 0.2  # of the steps
RESTORES = 0.2
LOST_OFFSETS = 0.9  # of the restores


class RunWithRestores(RandomRun):
    """Now and then a shard's database goes back, and perhaps its group has no offset any more.

    There is more of what that may meet than in other runs: moves, repetitions, and frozen rows deleted at once.
    """

    def __init__(self, seed: int, mutation: MoveMutation = NOTHING) -> None:
        super().__init__(seed, mutation)
        self.moves = self.repeats = 0.3
        self.removes = 0.9
        self.backups: dict[str, list[Tables]] = {name: [] for name in self.shards.of}

    def step(self, shard: Shard) -> None:
        backups = self.backups[shard.shard]
        if self.rng.random() < BACKUPS:
            backups.append(shard.database.tables.backup())
        if backups and self.rng.random() < RESTORES:
            self.restore(shard, backups)
        super().step(shard)
        if self.rng.random() < self.removes:
            self.remove(shard)

    def restore(self, shard: Shard, backups: list[Tables]) -> None:
        """Have a database go back; what was backed up later was never there."""
        self._settle(shard)
        del backups[self.rng.randrange(len(backups)) + 1 :]
        shard.database.restore(backups[-1])
        self.crashed[shard.shard], self.assigned[shard.shard] = True, False
        if self.rng.random() < LOST_OFFSETS:
            self.shards.broker.group(f"workers-{shard.shard}").offsets.clear()

    def help_on(self) -> None:
        """Have what a restored source handed over otherwise sent again, as an operator does."""
        for key in ("acme", HOME):
            self.shards.send_again(key)


class RunWithAHastyRemover(RunWithRestores):
    """M7 published: the remover deletes frozen rows whose seal is not published yet."""

    def remove(self, shard: Shard) -> None:
        shard.delete_what_left(unpublished=True)


@pytest.mark.rule("L4")
@pytest.mark.rule("M7")
@pytest.mark.rule("M8")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_shard_that_went_back_ends_as_if_it_had_not(seed: int) -> None:
    check(seed, make=RunWithRestores)


def test_a_run_with_restores_finds_rows_that_are_deleted_before_their_seal_is_published() -> None:
    for seed in range(SEEDS_TO_FIND_A_MUTATION):
        try:
            check(seed, make=RunWithAHastyRemover)
        except FINDINGS:
            return
    pytest.fail(f"no seed of {SEEDS_TO_FIND_A_MUTATION} found it")
