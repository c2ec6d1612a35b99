"""The nemesis of rolling upgrades: releases to and fro, rules raised, keys and registry ids changed, files lost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from processors.faults import StopCode
from processors.ledger.control import set_rules_of
from processors.ledger.rules import RULES_RELEASE
from processors.ledger.trust import TrustedKey, read_keys, write_keys, write_registry_ids
from processors.wire.commands import encode_command
from processors.wire.signature import fingerprint, trusted_keys
from tests.simulation.deployment import EVERY_KEY, LATER_KEYS, REGISTRY_IDS, SETTINGS
from tests.simulation.outside_actors import write_to_lane
from tests.simulation.run_options import result_versions_of
from tests.simulation.worker_process import Actor, WorkerProcess
from tests.simulation.workload import KEYRING

if TYPE_CHECKING:
    from tests.simulation.environment import Environment

_MENDED = (StopCode.UNKNOWN_VERSION, StopCode.KEY_MISSING)


class UpgradeNemesis(Actor):
    """Upgrades and downgrades workers, changes what the log says of keys and registry ids, and loses files."""

    def __init__(self, environment: Environment) -> None:
        super().__init__("upgrade nemesis", None)
        self._environment = environment

    def step(self) -> None:
        environment, rng = self._environment, self._environment.rng
        if environment.healed:
            self._finish()
            return
        if rng.random() < 0.3:
            self._mend()
        if environment.stop_codes:  # a log that lost records may have lost rules: nothing is built on them
            return
        lane = rng.randrange(environment.options.lanes)
        rng.choice((self._rule, self._rule, self._file, self._stray, self._stray, self._roll))(lane)
        every = [environment.checker.rules_at_end(each) for each in range(environment.options.lanes)]
        environment.deployment.is_named = all(rules.keys is not None for rules in every)

    # ------------------------------------------------------------------ the log

    def _rule(self, lane: int) -> None:
        """Raise the rules of a lane, in two records; once they are, change what they name."""
        environment, rng = self._environment, self._environment.rng
        rules = environment.checker.rules_at_end(lane)
        if rules.release == 1 or (rules.release < RULES_RELEASE and rng.random() < 0.3):
            release = rng.randrange(rules.release + 1, RULES_RELEASE + 1)
            fit = [version for version in result_versions_of(release) if version >= rules.result_version]
            after = replace(rules, release=release, result_version=rng.choice(fit))
        elif rules.keys is None:
            ids = write_registry_ids({number: schema.fingerprint for number, schema in SETTINGS.items()})
            after = replace(rules, keys=trusted_keys(KEYRING), registry_ids=ids)
        elif rng.random() < 0.5:
            after = replace(rules, registry_ids=rng.choice(REGISTRY_IDS))
        else:
            after = replace(rules, keys=self._other_keys(rules.keys))
        environment.note(f"upgrade nemesis: lane {lane} gets rules {after}")
        command = set_rules_of(replace(after, version=rules.version + 1), bytes(16))
        write_to_lane(environment, lane, encode_command(command, release=rules.release), keyring=KEYRING)

    def _other_keys(self, text: str) -> str:
        """Announce a key, or end one that was announced; that which operators sign with lives on."""
        name = self._environment.rng.choice(LATER_KEYS)
        keys = dict(read_keys(text) or {})
        keys[name] = TrustedKey(fingerprint(EVERY_KEY.keys[name]), ended=name in keys)
        return write_keys(keys)

    def _stray(self, lane: int) -> None:
        """Write a record of either release's schema, signed by any key."""
        environment = self._environment
        write_to_lane(
            environment, lane, environment.deployment.far_override(), keyring=environment.deployment.some_key()
        )

    # ------------------------------------------------------------------ machines

    def _file(self, _lane: int) -> None:
        """Bring a key to a worker's file, or an older file."""
        environment, rng = self._environment, self._environment.rng
        file = environment.deployment.files.setdefault(rng.choice(self._workers()).name, set())
        file.symmetric_difference_update({rng.choice(LATER_KEYS)})

    def _roll(self, _lane: int) -> None:
        """Start a worker again, as either release."""
        worker = self._environment.rng.choice(self._workers())
        if worker.alive:
            self._environment.note(f"upgrade nemesis: {worker.name} is restarted as either release")
            self._environment.kill(worker)

    def _workers(self) -> list[WorkerProcess]:
        return [process for process in self._environment.processes if isinstance(process, WorkerProcess)]

    def _mend(self) -> None:
        """Start a lane again; mostly, after the cause is gone from some machine."""
        environment, rng = self._environment, self._environment.rng
        for lane, (code, _) in list(environment.database.tables.stops.items()):
            if code in _MENDED:
                environment.note(f"upgrade nemesis: lane {lane} is started again")
                del environment.database.tables.stops[lane]
                for worker in self._workers():
                    if rng.random() < 0.5:
                        environment.deployment.files[worker.name] = set(LATER_KEYS)

    def _finish(self) -> None:
        """Bring every machine what the log needs, and start the lanes again."""
        environment = self._environment
        raised_to = environment.deployment.raised_to()
        for worker in self._workers():
            environment.deployment.files[worker.name] = set(LATER_KEYS)
            if worker.alive and worker.release < raised_to:
                environment.kill(worker)
        self._mend()
