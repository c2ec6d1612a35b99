"""What is deployed in a run with rolling upgrades: each worker's release, keys file and registry ids (I6, W1).

While the log names no keys and no registry ids, each process goes by its file and its settings, so until then nothing
is written on which those of two processes differ. From then on it is, and files and settings must not matter.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from types import MappingProxyType
from typing import TYPE_CHECKING

from processors.faults import StopCode
from processors.lane.gate import Admit
from processors.ledger.commands import SetLaneTime
from processors.ledger.rules import RULES_RELEASE, Rules
from processors.ledger.trust import read_keys, write_registry_ids
from processors.wire.admission import Admission, Gate, admit
from processors.wire.commands import ConfluentIds, encode_command
from processors.wire.records import Record
from processors.wire.schemas import MARKER, PREFIX_BYTES, schema_of
from processors.wire.signature import SIGNATURE_HEADER, KeyRing, sign
from tests.simulation.run_options import RELEASES
from tests.simulation.workload import KEYRING, Operation

if TYPE_CHECKING:
    from tests.simulation.environment import Environment

FAR = 1 << 40  # an offset that no lane comes to
LATER_KEYS = ("k2", "k3")
EVERY_KEY = KeyRing(signing="k1", keys={**KEYRING.keys, **{name: name.encode() * 16 for name in LATER_KEYS}})
# Pays are framed with 7 from the beginning on; 9 and 12 come into use once the log names ids.
PAY, TOP_UP, COLLECT = (schema_of(name) for name in ("pay", "top_up", "collect"))
SETTINGS: ConfluentIds = MappingProxyType({7: PAY})
LATER_SETTINGS: tuple[ConfluentIds, ...] = (SETTINGS, {7: PAY, 9: PAY}, {7: PAY, 9: TOP_UP, 12: COLLECT})
REGISTRY_IDS = tuple(
    write_registry_ids({number: schema.fingerprint for number, schema in ids.items()})
    for ids in ({}, {7: PAY}, {7: PAY, 9: TOP_UP}, {7: COLLECT, 9: PAY, 12: PAY})
)
OTHER_GATE = Gate(  # of whoever replays the log later
    keyring=KeyRing(signing="k4", keys={**EVERY_KEY.keys, "k4": bytes([4]) * 32}),
    lane=0,
    lanes=1,
    confluent={7: PAY, 9: COLLECT, 12: TOP_UP},
)


def admit_of(release: int, admit_now: Admit = admit) -> Admit:
    """Return what says what a record is as a release did; the first: by its own schemas, the keys file, the settings.

    ``admit_now`` is how this release does.
    """
    if release == RULES_RELEASE:
        return admit_now

    def admit_then(record: Record, rules: Rules, gate: Gate) -> Admission:
        rules = replace(rules, release=min(rules.release, release))
        return admit(record, replace(rules, keys=None, registry_ids=None) if release == 1 else rules, gate)

    return admit_then


class Deployment:
    """The processes' files and settings, and what gateways do with keys and registry ids."""

    def __init__(self, environment: Environment) -> None:
        self.is_named = False  # whether every lane's log names keys and registry ids
        self.files: dict[str, set[str]] = {}  # which keys each worker's file has
        self._environment = environment

    @property
    def _rng(self) -> Random:
        return self._environment.rng

    def release_of_a_start(self) -> int:
        """Return which release a worker is that starts now."""
        environment = self._environment
        if not environment.options.rolling_upgrades:
            return RULES_RELEASE
        return self._rng.choice(RELEASES[self.raised_to() - 1 :] if environment.healed else RELEASES)

    def raised_to(self) -> int:
        """Return the latest release of which the log of some lane has rules."""
        environment = self._environment
        return max(environment.checker.rules_at_end(lane).release for lane in range(environment.options.lanes))

    def gate(self, worker: str, lane: int) -> Gate:
        """Read a worker's keys file and settings."""
        environment = self._environment
        names = {"k1"} | self.files.get(worker, set())
        keyring = replace(EVERY_KEY, keys={name: EVERY_KEY.keys[name] for name in names})
        confluent = self._rng.choice(LATER_SETTINGS) if environment.options.rolling_upgrades else SETTINGS
        return Gate(keyring=keyring, lane=lane, lanes=environment.options.lanes, confluent=confluent)

    def may_stop(self, lane: int) -> set[StopCode]:
        """Return what a worker of an earlier release, or without a key that the log has, may stop a lane with."""
        environment = self._environment
        if not environment.options.rolling_upgrades:
            return set()
        rules = environment.checker.rules_at_end(lane)
        keys = set(read_keys(rules.keys) or {}) if rules.keys is not None else set()
        codes = {StopCode.UNKNOWN_VERSION} if rules.release > 1 else set()
        return codes | ({StopCode.KEY_MISSING} if keys - set(KEYRING.keys) else set())

    # ------------------------------------------------------------------ gateways

    def some_key(self) -> KeyRing:
        """Return a ring that signs with any key; before the log names keys, with that which all files have."""
        return replace(EVERY_KEY, signing=self._rng.choice(("k1", *LATER_KEYS) if self.is_named else ("k1",)))

    def far_override(self) -> bytes:
        """Return an override, by the schema of either release, that tells nothing."""
        release = self._rng.choice(RELEASES)
        last = None if release == 1 else FAR
        return encode_command(SetLaneTime(bytes(16), FAR, 1, last), release=release)

    def vary(self, operation: Operation) -> Operation:
        """Have a gateway write an operation its own way: framed, signed by another key, by another type's schema."""
        rng, value = self._rng, operation.value
        if not self._environment.options.rolling_upgrades or value is None:
            return operation
        if rng.random() < 0.04:
            value = self.far_override()
        if value.startswith(MARKER) and rng.random() < 0.3:
            number = rng.choice((7, 9, 12)) if self.is_named else 7
            value = b"\0" + number.to_bytes(4, "big") + value[PREFIX_BYTES:]
        headers = operation.headers
        if any(name == SIGNATURE_HEADER for name, _ in headers) and rng.random() < 0.7:
            headers = [(SIGNATURE_HEADER, sign(self.some_key(), operation.key, value))]
        return replace(operation, value=value, headers=headers)
