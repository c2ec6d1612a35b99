"""Commands with everything defaulted, so that what a test says is what it is about."""

from __future__ import annotations

from typing import Any

from processors.ids import root_of
from processors.ledger.commands import (
    Adjust,
    CaptureHold,
    Collect,
    Direction,
    ExpireHold,
    GetBalance,
    OpenAccount,
    Pay,
    PlaceHold,
    Recalled,
    RecallOriginal,
    Refund,
    TopUp,
    Transfer,
    TransferCompleted,
    TransferCredit,
    TransferReturn,
    UpdateAccount,
    VoidHold,
)
from processors.ledger.outcomes import Contra, Posting
from processors.ledger.transfers import credit_id, end_id
from tests.unit.ledger.lane import START_MS, Ids, SerialLane, expiry_id, recall_id

IDS = Ids()


def _given(wishes: dict[str, Any], **defaults: Any) -> Any:
    common = {"command_id": IDS.at(START_MS), "address": "acme", "currency": "USD"}
    return {**common, **defaults, **wishes}


def open_account(**wishes: Any) -> OpenAccount:
    return OpenAccount(**_given(wishes))


def update_account(**wishes: Any) -> UpdateAccount:
    return UpdateAccount(**_given(wishes))


def top_up(**wishes: Any) -> TopUp:
    return TopUp(**_given(wishes, amount_minor=100))


def collect(**wishes: Any) -> Collect:
    return Collect(**_given(wishes, amount_minor=100))


def adjust(**wishes: Any) -> Adjust:
    return Adjust(**_given(wishes, amount_minor=100, direction=Direction.CREDIT, explanation="counted again"))


def pay(**wishes: Any) -> Pay:
    return Pay(**_given(wishes, amount_minor=10))


def place_hold(**wishes: Any) -> PlaceHold:
    return PlaceHold(**_given(wishes, amount_minor=10, expires_in_ms=60_000))


def capture_hold(hold: PlaceHold, **wishes: Any) -> CaptureHold:
    return CaptureHold(**_given(wishes, hold_id=hold.command_id))


def void_hold(hold: PlaceHold, **wishes: Any) -> VoidHold:
    return VoidHold(**_given(wishes, hold_id=hold.command_id))


def expire_hold(hold: PlaceHold, **wishes: Any) -> ExpireHold:
    return ExpireHold(**_given(wishes, hold_id=hold.command_id, command_id=expiry_id(hold.command_id)))


def refund(**wishes: Any) -> Refund:
    return Refund(**_given(wishes, original_id=IDS.at(START_MS), amount_minor=10))


def recall(wish: Refund, **wishes: Any) -> RecallOriginal:
    """Find a payment of 10 on the refund's own account."""
    return RecallOriginal(
        **_given(
            wishes,
            command_id=recall_id(wish.command_id),
            refund_id=wish.command_id,
            original_id=wish.original_id,
            recalled=Recalled.FOUND,
            original_type="PAY",
            original_accepted=True,
            original_address=wish.address,
            original_currency=wish.currency,
            original_amount_minor=10,
            original_levels=1,
        )
    )


def transfer(**wishes: Any) -> Transfer:
    return Transfer(**_given(wishes, to_address="acme:vn", amount_minor=10))


def credit(sent: Transfer | None = None, **wishes: Any) -> TransferCredit:
    """Carry the money of a transfer to ``beta``, where none is given."""
    sent = sent or transfer(to_address="beta")
    return TransferCredit(
        **_given(
            wishes,
            command_id=credit_id(root_of(sent.address), sent.command_id),
            address=sent.to_address,
            from_address=sent.address,
            transfer_id=sent.command_id,
            amount_minor=sent.amount_minor,
        )
    )


def completed(sent: Transfer | None = None, **wishes: Any) -> TransferCompleted:
    sent = sent or transfer(to_address="beta")
    return TransferCompleted(**_given(wishes, **_end_of(sent, "TRANSFER_COMPLETED")))


def returned(sent: Transfer | None = None, reason: str = "ACCOUNT_CLOSED", **wishes: Any) -> TransferReturn:
    sent = sent or transfer(to_address="beta")
    return TransferReturn(**_given(wishes, **_end_of(sent, "TRANSFER_RETURN"), reason=reason))


def _end_of(sent: Transfer, type_name: str) -> dict[str, Any]:
    id_ = end_id(type_name, root_of(sent.address), sent.command_id)
    return {"command_id": id_, "to_address": sent.to_address, "transfer_id": sent.command_id}


def get_balance(**wishes: Any) -> GetBalance:
    return GetBalance(**_given(wishes))


def posting(address: str = "acme", contra: Contra = Contra.SETTLEMENT, **changes: Any) -> Posting:
    fields = {"balance_change": 0, "held_change": 0, "balance": 0, "held": 0, "overdraft_limit": 0, "sequence": 1}
    return Posting(address, contra, **{**fields, **changes})


def lane_with(*addresses: str, balance: int = 100, **rules: Any) -> SerialLane:
    """Return a lane where accounts in USD are open, with a balance."""
    lane = SerialLane(**rules)
    for address in addresses or ("acme",):
        lane.send(open_account(address=address))
        if balance:
            lane.send(top_up(address=address, amount_minor=balance))
    return lane
