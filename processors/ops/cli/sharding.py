"""The operators' commands for shards: add one, list them, look at one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from processors.faults import Misconfigured
from processors.ops.assembly.adopting import AdoptionPlan, adopt, plan_adoption
from processors.ops.assembly.proving import target_address
from processors.ops.cli.operating import print_lanes
from processors.ops.cli.terminal import JsonOption, notes, page, print_json, print_table, say, settings
from processors.ops.exits import EXIT_FAULT, EXIT_GOOD, EXIT_REJECTED
from processors.ops.sharding import add_shard
from processors.ops.shards import ShardShown, read_shard, read_shards
from processors.settings import Settings
from processors.stores.addresses import MysqlAddress

ShardArgument = Annotated[str, typer.Argument(metavar="SHARD", help="Its id, such as s2.", show_default=False)]


def add(
    *,
    shard: ShardArgument,
    dsn: Annotated[
        str | None,
        typer.Option(
            "--dsn",
            metavar="DSN",
            help="mysql://user:password@host:port/database; user and password default to the home shard's.",
            show_default="as shards.SHARD of the settings says",
        ),
    ] = None,
    lanes: Annotated[
        int | None,
        typer.Option("--lanes", metavar="NUMBER", min=1, help="A power of two.", show_default="topics.lanes"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a further shard (database, schema, topic, lanes, rules) and write it into the directory. Safe to run again.

    Its processes read their settings, not the directory: what is to be added to the settings' file is printed.
    """
    chosen = _with_shard(settings(), shard, dsn, lanes)
    done: list[str] = []

    def note(line: str) -> None:
        done.append(line)
        say(line)

    add_shard(chosen, shard, note)
    entry = [] if shard in settings().shards else _entry(chosen, shard)
    if as_json:
        print_json({"shard": shard, "done": done, "add_to_settings": entry})
        return
    if not done:
        page.print(f"shard {shard} is there already")
    if entry:
        file = chosen.root / "config" / f"{chosen.profile}.toml"
        page.print(f"before you start its processes, add to {file} on every machine:", soft_wrap=True)
        page.print("\n".join(entry), soft_wrap=True)
    page.print(
        f"next: run a worker, an expirer, a remover and an auditor of {shard} (docs/operations.md, Shards)",
        soft_wrap=True,
    )


def _with_shard(chosen: Settings, shard: str, dsn: str | None, lanes: int | None) -> Settings:
    """Return the settings with what the options say of the shard.

    Raises:
        BadParameter: Neither they nor the settings say where it is, or they contradict each other.
    """
    if dsn is None and shard not in chosen.shards:
        raise typer.BadParameter(
            f"config/{chosen.profile}.toml says nothing of shard {shard}: add a table [shards.{shard}] with host, "
            "port, user, password_file and database, and run this again; or say --dsn"
        )
    try:
        if dsn is not None:
            chosen = _at(chosen, shard, dsn)
        return chosen if lanes is None else chosen.changed(shards={shard: {"lanes": lanes}})
    except Misconfigured as fault:
        raise typer.BadParameter(str(fault)) from None


def _at(chosen: Settings, shard: str, dsn: str) -> Settings:
    place = target_address(chosen, chosen.home_shard, dsn, option="--dsn")
    known = chosen.shards.get(shard)
    if known is not None and (known.host, known.port, known.database) != (place.host, place.port, place.database):
        raise Misconfigured(
            f"the settings have shard {shard} at {known.host}:{known.port}/{known.database}, and --dsn says "
            f"{place.host}:{place.port}/{place.database}: correct one of them, or leave --dsn out"
        )
    if known is not None:
        return chosen
    home = chosen.shards[chosen.home_shard]
    wanted: dict[str, Any] = {"host": place.host, "port": place.port, "user": place.user, "database": place.database}
    wanted |= {"password": place.password or None, "password_file": place.password_file}
    return chosen.changed(shards={shard: {**wanted, "ssl_mode": home.ssl_mode, "ssl_ca_file": home.ssl_ca_file}})


def _entry(chosen: Settings, shard: str) -> list[str]:
    """Return what the settings' file must have of a shard; a password never stands there."""
    place = chosen.shards[shard]
    lines = [
        f"[shards.{shard}]",
        f'host = "{place.host}"',
        f"port = {place.port}",
        f'user = "{place.user}"',
        f'database = "{place.database}"',
    ]
    if place.ssl_mode != "DISABLED":
        lines.append(f'ssl_mode = "{place.ssl_mode}"')
    if place.ssl_ca_file is not None:
        lines.append(f'ssl_ca_file = "{place.ssl_ca_file}"')
    if place.password is None and place.password_file is not None:
        return [*lines, f'password_file = "{place.password_file}"']
    return [*lines, f'password_file = "..."   # or BALANCE_SHARDS__{shard.upper()}__PASSWORD in the environment']


def adopt_shard(
    *,
    shard: ShardArgument,
    dsn: Annotated[
        str,
        typer.Option(
            "--dsn", metavar="DSN", help="What `replay shard --into` wrote; user and password default to the shard's."
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else only say what would be.")] = False,
    unproven: Annotated[
        bool, typer.Option("--unproven", help="Even where nothing says what some lanes had published.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Put a rebuilt database in the place of a shard's own, once it is proven to be what was published.

    Stop the shard's workers, expirer, remover and auditor before. What is to be changed in the settings is printed.
    """
    chosen = settings()
    try:
        target = target_address(chosen, shard, dsn, option="--dsn")
    except Misconfigured as fault:
        raise typer.BadParameter(str(fault)) from None
    planned = plan_adoption(chosen, shard, target)
    good = planned.proof.difference is None
    if yes and good:
        adopt(target, planned, unproven=unproven)
    entry = _entry(chosen.changed(shards={shard: _place_of(target)}), shard)
    if as_json:
        print_json({**asdict(planned), "adopted": yes and good, "settings": entry})
    else:
        _print_plan(planned)
        _print_adopted(planned, entry, shard, done=yes and good)
    if not good:
        raise typer.Exit(EXIT_REJECTED)


def _place_of(target: MysqlAddress) -> dict[str, Any]:
    return {"host": target.host, "port": target.port, "user": target.user, "database": target.database}


def _print_plan(planned: AdoptionPlan) -> None:
    rows = [
        (lane, planned.decided.get(lane, 0), planned.published.get(lane, "unknown"), end)
        for lane, end in sorted(planned.ends.items())
    ]
    columns = ("lane", "decided here", "published", "log's end")
    print_table("", columns, rows, right=columns)
    for told in planned.proof.not_compared:
        page.print(f"not compared: {told}", style="yellow", markup=False, soft_wrap=True)


def _print_adopted(planned: AdoptionPlan, entry: list[str], shard: str, *, done: bool) -> None:
    difference = planned.proof.difference
    if difference is not None:
        page.print(f"{difference.what} is not what was published", style="red", markup=False)
        page.print(f"published: {difference.live}\nhere:      {difference.replayed}", markup=False, soft_wrap=True)
        return
    if not done:
        page.print("nothing was changed: --yes does it")
        return
    page.print(f"it is live. On every machine shard {shard} is now at:", soft_wrap=True)
    page.print("\n".join(entry), markup=False, soft_wrap=True)
    page.print(f"then start workers, expirer, remover and auditor of {shard} (docs/recovery.md)", soft_wrap=True)


def list_shards(*, as_json: JsonOption = False) -> None:
    """List the shards of the directory and of the settings; exit status 3 where one does not take part."""
    found = read_shards(settings())
    if as_json:
        print_json([asdict(each) for each in found])
    else:
        _print_shards(found)
    raise typer.Exit(_status(found))


def show(*, shard: ShardArgument, as_json: JsonOption = False) -> None:
    """Show a shard: where it is, its topic, where its lanes stand; exit status 3 where it does not take part."""
    found = read_shard(settings(), shard)
    if as_json:
        print_json(asdict(found))
    else:
        _print_shards([found])
        page.print(f"topic {found.topic}, id {found.topic_id or 'none yet'}; database {found.database or 'unknown'}")
        if found.progress:
            print_lanes(found.progress)
    raise typer.Exit(_status([found]))


def _status(found: Sequence[ShardShown]) -> int:
    return EXIT_FAULT if any(each.state for each in found) else EXIT_GOOD


def _print_shards(found: Sequence[ShardShown]) -> None:
    columns = ("shard", "home", "lanes", "undecided", "rules release", "state")
    rows = (
        (
            each.shard,
            "home" if each.home else "",
            each.lanes,
            sum(lane.undecided or 0 for lane in each.progress) if each.progress else "unknown",
            " to ".join(map(str, sorted({*each.releases[:1], *each.releases[-1:]}))) or "unknown",
            "takes part" if not each.state else "see below",
        )
        for each in found
    )
    print_table("", columns, rows, right=("lanes", "undecided"))
    for each in found:
        if each.state:
            notes.print(f"{each.shard}: {each.state}", style="red", soft_wrap=True)
