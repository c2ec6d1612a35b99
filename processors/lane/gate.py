"""Says of each record of a lane what it is, a command or no command, by the rules in force at its offset (I6, W1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from processors.faults import Fault, LaneStopped, StopCode
from processors.ledger.rules import Rules
from processors.wire.admission import Admission, Gate
from processors.wire.records import Record
from processors.wire.signature import sign, why_lacking

Admit = Callable[[Record, Rules, Gate], Admission]


class LaneGate:
    """Admits a lane's records during one assignment; reads the keys file again where the log names a key it lacked."""

    def __init__(self, make_gate: Callable[[], Gate], admit: Admit, rules_since: Mapping[int, Rules]) -> None:
        """Read the keys file.

        Args:
            make_gate: Reads it, as it is then.
            admit: ``wire.admission.admit``.
            rules_since: The lane's rules by the offset from which they are in force, up to D.

        Raises:
            Misconfigured: The keys file cannot be read.
        """
        self._make_gate = make_gate
        self._admit = admit
        self._rules_since = rules_since
        self.gate = make_gate()

    def rules_at(self, offset: int) -> Rules:
        """Return the rules in force at an offset up to D."""
        return self._rules_since[max(since for since in self._rules_since if since <= offset)]

    def admit(self, record: Record, rules: Rules) -> Admission:
        """Say what a record is under some rules; a key that the file lacks is looked for in it again.

        Raises:
            LaneStopped: KEY_MISSING.
        """
        try:
            return self._admit(record, rules, self.gate)
        except LaneStopped:
            if self.lacking(rules.keys) is not None:
                raise
            return self._admit(record, rules, self.gate)

    def admit_parked(self, record: Record, rules: Rules) -> Admission:
        """Say what a record is that was parked, under the rules in force when it is unparked (M5)."""
        return self._admit(record, rules, replace(self.gate, has_verified=True))

    def sign(self, key: bytes, payload: bytes) -> bytes:
        """Return a signature, by the key of the file that signs, for a record that the lane sends by itself (W1).

        The file is looked at each time: a key that was retired, and ended since, would make the record a dead letter,
        and nobody sends it again. While the file cannot be read, the key signs that was last known to.
        """
        try:
            keyring = self._make_gate().keyring
        except Fault:
            keyring = self.gate.keyring
        return sign(keyring, key, payload)

    def admit_again(self, records: list[Record]) -> list[Admission]:
        """Say what records below D are, each under the rules of its time."""
        return [self.admit(record, self.rules_at(record.offset)) for record in records]

    def refuse_missing_keys(self, start: int) -> None:
        """Refuse a keys file that lacks what records from an offset on may be signed with.

        Raises:
            LaneStopped: KEY_MISSING.
        """
        in_force = self.rules_at(start).version
        for rules in self._rules_since.values():
            lacking = self.lacking(rules.keys) if rules.version >= in_force else None
            if lacking is not None:
                raise LaneStopped(StopCode.KEY_MISSING, lacking)

    def lacking(self, keys: str | None) -> str | None:
        """Say which of the rules' keys the keys file does not have, even where it is read again."""
        lacking = why_lacking(self.gate.keyring, keys)
        if lacking is None:
            return None
        try:
            self.gate = self._make_gate()
        except Fault as fault:
            return f"{lacking}; {fault}"
        return why_lacking(self.gate.keyring, keys)
