"""A statement's balances as a line: whole numbers throughout, since they are money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from processors.ops.money import show_money
from processors.wire.statement_chunk import StatementRow

WIDTH, HEIGHT = 720, 120
_MARGIN = 4  # the line is two wide
_POINTS_AT_A_PLACE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A line in a box of ``width`` by ``height``; ``zero`` is where the balance is 0, None where that is outside."""

    points: str
    zero: int | None
    least: str
    most: str
    width: int = WIDTH
    height: int = HEIGHT


def chart_of(opening: int, rows: Sequence[StatementRow], currency: str) -> Chart | None:
    """Return how the balance went, in steps over time; None where it cannot be drawn: nothing changed.

    Args:
        opening: Minor units, before the first row.
        rows: In order.
        currency: Of the amounts.
    """
    if not rows:
        return None
    balances = [opening, *(row.balance for row in rows)]
    least, most = min(balances), max(balances)
    begins_ms, span_ms = rows[0].lane_time_ms, max(1, rows[-1].lane_time_ms - rows[0].lane_time_ms)

    def height_of(balance: int) -> int:
        return HEIGHT - _MARGIN - (balance - least) * (HEIGHT - 2 * _MARGIN) // max(1, most - least)

    points = [(0, height_of(opening))]
    for row in rows:
        across = (row.lane_time_ms - begins_ms) * WIDTH // span_ms
        points += [(across, points[-1][1]), (across, height_of(row.balance))]
    points.append((WIDTH, points[-1][1]))
    return Chart(
        points=" ".join(f"{across},{down}" for across, down in _thinned(points)),
        zero=height_of(0) if least <= 0 <= most else None,
        least=show_money(least, currency),
        most=show_money(most, currency),
    )


def _thinned(points: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the points that can be told apart: at each place across the first, the extremes and the last."""
    by_place: dict[int, list[int]] = {}
    for across, down in points:
        by_place.setdefault(across, []).append(down)
    kept: list[tuple[int, int]] = []
    for across, downs in by_place.items():
        wanted = downs if len(downs) <= _POINTS_AT_A_PLACE else [downs[0], min(downs), max(downs), downs[-1]]
        kept += [(across, down) for down in wanted]
    return [point for number, point in enumerate(kept) if number == 0 or point != kept[number - 1]]
