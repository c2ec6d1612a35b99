"""``python -m tests.bench``: measures everything on this machine, side by side, prints it, and keeps it in a file."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tests import servers as places
from tests.bench.compare import compare, flat, load_of_fields, write
from tests.bench.runs import OF_THE_ARCHIVE, RUNS, warm_up
from tests.bench.sizes import FULL, QUICK

RESULTS_FILE = Path("bench-results.json")
COMPARE_FILE = Path("bench-compare.json")
GOALS = (
    ("hot / raw insert", "hot_partner_commands_per_s", "raw_insert_rows_per_s", 0.5),
    ("1,000 partners / raw insert", "partners_1000_commands_per_s", "raw_insert_rows_per_s", 0.45),
    ("hot / row lock", "hot_partner_commands_per_s", "row_lock_payments_per_s", 15.0),
)
P99_AT_1000_MS_MAX = 150.0
WALLETS_RATIO_MIN = 0.6
REPLAY_RATIO_MIN = 3.0

console = Console()


def bench(
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="A quarter of the work: figures that only show a trend.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option("--only", help="Fields to measure; may be given again.")] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", help="A commit to measure in turn with this checkout: writes bench-compare.json."),
    ] = None,
) -> None:
    """Measure the service on the servers that run, and write bench-results.json."""
    wanted = set(only or [])
    unknown = wanted - {field for fields in RUNS.values() for field in fields}
    if unknown:
        console.print(f"no such field: {', '.join(sorted(unknown))}")
        raise typer.Exit(2)
    servers = places.from_settings()
    if servers is None or places.silent(servers):
        console.print("the servers do not answer: `make bench` starts them")
        raise typer.Exit(3)
    if base is not None:
        _compare(base, [fields[0] for fields in RUNS.values() if not wanted or wanted & set(fields)], quick=quick)
        return
    chosen = [run for run, fields in RUNS.items() if not wanted or wanted & set(fields)]
    found: dict[str, Any] = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "quick": quick,
        # Of each run at its end: runnable processes over the last minute; far above the cores, others were at work too.
        "load_average": {},
    }
    with console.status("warming the servers up"):
        warm_up(servers, archive=bool(OF_THE_ARCHIVE.intersection(chosen)))
    for run in chosen:
        began_s = time.monotonic()
        with console.status(f"{run.__name__}: {(run.__doc__ or '').partition(chr(10))[0]}"):
            for field, value in run(servers, QUICK if quick else FULL).items():
                found[field] = {**found[field], **value} if field in found else value
        found["load_average"][run.__name__] = round(os.getloadavg()[0], 1)
        console.print(f"[dim]{run.__name__} took {time.monotonic() - began_s:.0f} s[/dim]")
        RESULTS_FILE.write_text(json.dumps(found, indent=2) + "\n")
    console.print(_table(found))
    console.print(_goals(found))
    console.print(f"written to {RESULTS_FILE}")


def _compare(base: str, runs: list[str], *, quick: bool) -> None:
    found = compare(base, runs, quick=quick, say=lambda what: console.print(f"[dim]{what}[/dim]"))
    table = Table("figure", base, "here", "ratio", "load", title=f"{base} and this checkout, in turn")
    for figure, each in found.items():
        ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
        sides = (", ".join(f"{value:,}" for value in side) for side in (each.base, each.here))
        table.add_row(figure, *sides, ratio, str(each.load))
    console.print(table)
    console.print(f"load: the greatest load average, on {os.cpu_count()} cores")
    write(found, COMPARE_FILE)
    console.print(f"written to {COMPARE_FILE}")


def _table(found: dict[str, Any]) -> Table:
    loads = load_of_fields(found["load_average"], {run.__name__: fields for run, fields in RUNS.items()})
    table = Table(
        "field", "figure", "load", title=f"{found['cores']} cores, everything on them, {found['measured_at']}"
    )
    for field, value in flat(found):
        told = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        table.add_row(field, told, loads.get(field.partition(" ")[0], ""))
    return table


def _goals(found: dict[str, Any]) -> Table:
    table = Table("goal", "wanted", "measured", "")
    for name, above, below, least in GOALS:
        if above in found and below in found:
            ratio = found[above] / max(found[below], 1)
            table.add_row(name, f">= {least}", f"{ratio:.2f}", _verdict(met=ratio >= least))
    wallets = found.get("wallets_commands_per_s")
    if wallets is not None:
        few, many = wallets.values()
        ratio = many / max(few, 1)
        wanted = f">= {WALLETS_RATIO_MIN}"
        table.add_row("all wallets / 1,000", wanted, f"{ratio:.2f}", _verdict(met=ratio >= WALLETS_RATIO_MIN))
    for after, live in found.get("live_commands_per_s", {}).items():
        ratio = found["replay_commands_per_s"][after] / max(live, 1)
        wanted = f">= {REPLAY_RATIO_MIN}"
        table.add_row(f"replay / live, {after}", wanted, f"{ratio:.2f}", _verdict(met=ratio >= REPLAY_RATIO_MIN))
    p99 = found.get("latency_ms", {}).get("1000", {}).get("p99")
    if p99 is not None:
        table.add_row(
            "p99 at 1,000 a second", f"<= {P99_AT_1000_MS_MAX} ms", f"{p99} ms", _verdict(met=p99 <= P99_AT_1000_MS_MAX)
        )
    return table


def _verdict(*, met: bool) -> str:
    return "[green]reached[/green]" if met else "[red]not reached[/red]"


if __name__ == "__main__":
    typer.run(bench)
