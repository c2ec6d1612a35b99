"""Mutations of the rules P2 and T1 to T5: what a lane sends by itself, and money between trees."""

from __future__ import annotations

from dataclasses import replace

from processors.lane.decided import Gathered
from processors.lane.lane import Lane, LaneParts
from processors.lane.sending import OwnProducer
from processors.ledger.commands import Command, TransferCompleted, TransferCredit, TransferReturn
from processors.ledger.outcomes import Outcome, Reason, Status
from processors.ledger.tables import OPEN_TRANSFERS
from processors.stores.rows import BatchWrite, LaneState
from processors.wire.admission import Admission
from processors.wire.commands import decode_command, encode_command
from processors.wire.positions import GroupPosition
from processors.wire.records import OutRecord
from processors.wire.signature import SIGNATURE_HEADER
from tests.simulation.fakes.lane_store import FakeLaneStore
from tests.simulation.plain_decider import Decider


class _SenderThatHopes:
    """A producer whose acknowledgements nobody waits for."""

    def __init__(self, producer: OwnProducer) -> None:
        self._producer = producer

    def send(self, record: OutRecord) -> None:
        self._producer.send(record)

    def flush(self, deadline_s: float) -> None:
        """Believe that it will be written."""

    def close(self) -> None:
        self._producer.close()


class LaneThatHopesForItsLegs(Lane):
    """P2: commits past a leg's cause before the leg is acknowledged."""

    def __init__(self, parts: LaneParts) -> None:
        super().__init__(replace(parts, make_sender=lambda: _SenderThatHopes(parts.make_sender())))


class LaneThatSendsOnce(Lane):
    """P2: what is answered again is not sent again."""

    def _begin_at(self, published: GroupPosition, state: LaneState) -> tuple[int, int]:
        start = super()._begin_at(published, state)
        if self._again is not None:
            self._again._legs = lambda _result: []
        return start


class _DeciderOfTransfers(Decider):
    """A decider that has another rule for one leg of a transfer."""

    def before(self, command: Command, root: str) -> None:
        """Change what the book knows before a command is decided."""

    def _command(self, admission: Admission, command: Command, batch: Gathered, place: tuple[int, int]) -> None:
        self.before(command, admission.root)
        super()._command(admission, command, batch, place)


class DeciderOfForgottenCredits(_DeciderOfTransfers):
    """T2 known: a credit that was decided is decided again."""

    def before(self, command: Command, root: str) -> None:
        if isinstance(command, TransferCredit):
            self.book.decisions[root, command.command_id] = None


class DeciderOfCreditsOfAnyAge(Decider):
    """T2 too old: a credit counts however old it is."""

    def _command(self, admission: Admission, command: Command, batch: Gathered, place: tuple[int, int]) -> None:
        rules = self.book.rules
        if isinstance(command, TransferCredit):
            self.book.rules = replace(rules, window_ms=1 << 45, window_floor_ms=0)
        super()._command(admission, command, batch, place)
        self.book.rules = rules


class DeciderWithoutRowsOfRefusedCredits(Decider):
    """T2 row: a credit that is rejected leaves no row."""

    def give(self, admission: Admission, outcome: Outcome, batch: Gathered, place: tuple[int, int]) -> None:
        if isinstance(admission.command, TransferCredit) and outcome.status is Status.REJECTED:
            outcome.journalled = False
        super().give(admission, outcome, batch, place)


class DeciderThatKeepsOldCredits(Decider):
    """T2 silent: a credit that is too old has no answer."""

    def give(self, admission: Admission, outcome: Outcome, batch: Gathered, place: tuple[int, int]) -> None:
        if outcome.reason is not Reason.TRANSFER_TOO_OLD:
            super().give(admission, outcome, batch, place)


class LaneWithLegsOfTheirOwnIds(Lane):
    """T5: each sending of a leg has an id of its own."""

    _sent_legs = 0

    def _legs(self, result: bytes) -> list[OutRecord]:
        return [self._renamed(leg) for leg in super()._legs(result)]

    def _renamed(self, leg: OutRecord) -> OutRecord:
        self._sent_legs += 1
        command = decode_command(leg.value)
        assert isinstance(command, TransferCredit | TransferCompleted | TransferReturn)
        id_ = command.command_id[:8] + self._sent_legs.to_bytes(8, "big")
        payload = encode_command(replace(command, command_id=id_))
        return replace(leg, value=payload, headers=[(SIGNATURE_HEADER, self._gate.sign(leg.key or b"", payload))])


class StoreThatKeepsTransfers(FakeLaneStore):
    """T3 row: what was ended is still open for whoever reads it next."""

    def end(self, write: BatchWrite | None) -> None:
        if write is not None:
            kept = [change for change in write.changes.rows[OPEN_TRANSFERS] if change.row is not None]
            rows = {**write.changes.rows, OPEN_TRANSFERS: kept}
            write = replace(write, changes=replace(write.changes, rows=rows))
        super().end(write)
