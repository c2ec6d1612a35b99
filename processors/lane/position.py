"""Up to where a lane's results are known to be published, and where answering again begins (L4)."""

from __future__ import annotations

from typing import Protocol

from processors.faults import LaneStopped, StopCode
from processors.lane.standing import LaneContext, Standing, standing_at
from processors.stores.rows import Border, LaneState
from processors.wire.positions import LANE_START, GroupPosition, decode_metadata


class Borders(Protocol):
    """The lane's batch borders, as its store knows them."""

    def last_border(self, at_most: int) -> Border | None:
        """Return the lane's state at the last batch border up to an offset, if one is still known."""


def published_position(
    borders: Borders, committed: tuple[int, str] | None, state: LaneState, context: LaneContext
) -> GroupPosition:
    """Return P: the group's commit where it is ours and not behind, else what ``progress`` says (L4).

    Args:
        borders: Of the lane's database.
        committed: The group's offset and metadata, None where there is none.
        state: As it was taken over.
        context: The lane's.

    Raises:
        LaneStopped: DIGEST_DIFFERS: results were published up to D, and not those that the database has.
    """
    progress = state.progress
    ours = _our_position(committed, context)
    if ours is not None and ours.at.next_offset >= progress.published_offset:
        if ours.at.next_offset == progress.at.next_offset:
            refuse_other_digest(ours, progress.at.digest)
        return ours
    return standing_up_to(borders, progress.published_offset).position(context)


def standing_up_to(borders: Borders, offset: int) -> Standing:
    """Return the lane's state at the last batch border at or before an offset; the lane's first record is one, too.

    The offset itself need not be a border: a database that was replayed, or restored and decided on from there, has its
    borders at other offsets than the one from which the results were published.
    """
    border = borders.last_border(offset) or Border(at=LANE_START, ingress={})
    return standing_at(border.at, version_us=0, ingress=border.ingress)


def refuse_other_digest(published: GroupPosition, digest: bytes) -> None:
    """Stop the lane if its database does not have, up to P, what was published; nothing more is published then (L4)."""
    if digest != published.at.digest:
        raise LaneStopped(
            StopCode.DIGEST_DIFFERS,
            f"offset {published.at.next_offset} was published with digest {published.at.digest.hex()}, "
            f"the database has {digest.hex()} there",
        )


def _our_position(committed: tuple[int, str] | None, context: LaneContext) -> GroupPosition | None:
    """Return the group's commit where this service wrote it for this lane and topic, else None (L4)."""
    if committed is None:
        return None
    offset, metadata = committed
    position = decode_metadata(offset, metadata)
    if position is None or position.topic_id != context.identity.incarnation or position.lane != context.lane:
        return None
    return position
