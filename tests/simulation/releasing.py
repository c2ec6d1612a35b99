"""Who rolls releases to and fro, raises the rules, changes keys and registry ids through the log, and loses files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from processors.faults import StopCode
from processors.ledger.control import wish_of
from processors.ledger.rules import RULES_RELEASE
from processors.ledger.trust import TrustedKey, read_keys, write_keys, write_registry_ids
from processors.wire.commands import encode_command
from processors.wire.signature import fingerprint, trusted_keys
from tests.simulation.customers import KEYRING
from tests.simulation.processes import Actor, WorkerProcess
from tests.simulation.rolling import EVERY_KEY, LATER_KEYS, REGISTRY_IDS, SETTINGS
from tests.simulation.surroundings import write_straight

if TYPE_CHECKING:
    from tests.simulation.world import World

_MENDED = (StopCode.UNKNOWN_VERSION, StopCode.KEY_MISSING)


class Installer(Actor):
    """The operator of a run in which releases are rolled."""

    def __init__(self, world: World) -> None:
        super().__init__("installer", None)
        self._world = world

    def step(self) -> None:
        world, rng = self._world, self._world.rng
        if world.calm:
            self._finish()
            return
        if rng.random() < 0.3:
            self._mend()
        if world.stop_codes:  # a log that lost records may have lost rules: nothing is built on them
            return
        lane = rng.randrange(world.weather.lanes)
        rng.choice((self._rule, self._rule, self._file, self._stray, self._stray, self._roll))(lane)
        every = [world.checks.rules_at_end(each) for each in range(world.weather.lanes)]
        world.installation.is_named = all(rules.keys is not None for rules in every)

    # ------------------------------------------------------------------ the log

    def _rule(self, lane: int) -> None:
        """Raise the rules of a lane, in two records; once they are, change what they name."""
        world, rng = self._world, self._world.rng
        rules = world.checks.rules_at_end(lane)
        if rules.release < RULES_RELEASE:
            after = replace(rules, release=RULES_RELEASE)
        elif rules.keys is None:
            ids = write_registry_ids({number: schema.fingerprint for number, schema in SETTINGS.items()})
            after = replace(rules, keys=trusted_keys(KEYRING), registry_ids=ids)
        elif rng.random() < 0.5:
            after = replace(rules, registry_ids=rng.choice(REGISTRY_IDS))
        else:
            after = replace(rules, keys=self._other_keys(rules.keys))
        world.note(f"installer: lane {lane} gets rules {after}")
        wish = wish_of(replace(after, version=rules.version + 1), bytes(16))
        write_straight(world, lane, encode_command(wish, release=rules.release), keyring=KEYRING)

    def _other_keys(self, text: str) -> str:
        """Announce a key, or end one that was announced; that which operators sign with lives on."""
        name = self._world.rng.choice(LATER_KEYS)
        keys = dict(read_keys(text) or {})
        keys[name] = TrustedKey(fingerprint(EVERY_KEY.keys[name]), ended=name in keys)
        return write_keys(keys)

    def _stray(self, lane: int) -> None:
        """Write a record of either release's schema, signed by any key."""
        world = self._world
        write_straight(world, lane, world.installation.far_word(), keyring=world.installation.some_key())

    # ------------------------------------------------------------------ machines

    def _file(self, _lane: int) -> None:
        """Bring a key to a worker's file, or an older file."""
        world, rng = self._world, self._world.rng
        file = world.installation.files.setdefault(rng.choice(self._workers()).name, set())
        file.symmetric_difference_update({rng.choice(LATER_KEYS)})

    def _roll(self, _lane: int) -> None:
        """Start a worker again, as either release."""
        worker = self._world.rng.choice(self._workers())
        if worker.alive:
            self._world.note(f"installer: {worker.name} is rolled")
            self._world.kill(worker)

    def _workers(self) -> list[WorkerProcess]:
        return [process for process in self._world.processes if isinstance(process, WorkerProcess)]

    def _mend(self) -> None:
        """Start a lane again; mostly, after the cause is gone from some machine."""
        world, rng = self._world, self._world.rng
        for lane, (code, _) in list(world.database.tables.stops.items()):
            if code in _MENDED:
                world.note(f"installer: lane {lane} is started again")
                del world.database.tables.stops[lane]
                for worker in self._workers():
                    if rng.random() < 0.5:
                        world.installation.files[worker.name] = set(LATER_KEYS)

    def _finish(self) -> None:
        """Bring every machine what the log needs, and start the lanes again."""
        world = self._world
        raised = world.installation.is_raised()
        for worker in self._workers():
            world.installation.files[worker.name] = set(LATER_KEYS)
            if worker.alive and worker.release < RULES_RELEASE and raised:
                world.kill(worker)
        self._mend()
