"""The types of settings' values: units and ranges that several sections share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from processors.ledger.trust import REGISTRY_ID_MAX

PARTITIONS_MAX = 65_536  # W3: a partition is the low bits of a 16-bit bucket
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

Port = Annotated[int, Field(ge=1, le=65_535)]
PortOrStack = Annotated[int, Field(ge=0, le=65_535)]  # 0: the native stack's port
Milliseconds = Annotated[int, Field(ge=1, le=3_650 * DAY_MS)]
Days = Annotated[int, Field(ge=1, le=3_650)]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]


class Section(BaseModel):
    """A part of the settings that refuses names it does not know and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def refuse_other_than_powers_of_two(count: int | None) -> int | None:
    """Refuse a partition count that is no power of two; None says none."""
    if count is not None and count & (count - 1):
        raise ValueError("must be a power of two, since a key's partition is the low bits of its bucket (W3)")
    return count


def _listed(value: Any) -> Any:
    """Take one number, or several with commas between, as an environment variable has them."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.strip("[]").split(","))
    return (value,) if isinstance(value, int) else value


RegistryIds = Annotated[
    tuple[Annotated[int, Field(ge=0, le=REGISTRY_ID_MAX)], ...], Field(min_length=1), BeforeValidator(_listed)
]
Partitions = Annotated[int, Field(ge=1, le=PARTITIONS_MAX)]
