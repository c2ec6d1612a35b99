"""Applies schemas/mysql to a shard's database, and enters the shard into it. Safe to run twice, and at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from processors.faults import Misconfigured, Retryable
from processors.ids import SLICES_MAX
from processors.ledger.rules import Rules
from processors.shipped import SCHEMAS
from processors.stores.addresses import MysqlAddress
from processors.stores.journal_filling import fill_journal
from processors.stores.mysql import Session
from processors.stores.partitions import make_room, slices_needed
from processors.stores.rules_rows import insert_rules, select_rules
from processors.stores.sql_text import text_literal

FOLDER = SCHEMAS / "mysql"
# Another migration may be making a thousand partitions, at 5 ms each; below mysql.READ_TIMEOUT_S.
LOCK_WAIT_S = 50
# The file whose tables are filled from the journal of the release before. It is noted as applied only then, so that no
# process of this release takes what is not there yet for never decided (I3).
NARROW = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRow:
    """What is fixed for a shard when it is created: its row of ``shard``. Counts are powers of two (W3).

    The ``home`` shard owns generation 0 of every placement key (R2).
    """

    shard: str
    lanes: int
    results_partitions: int
    home: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A file of schemas/mysql; ``digest`` is SHA-256 over its bytes, 32 bytes."""

    number: int
    name: str
    statements: tuple[str, ...]
    digest: bytes


def migrate(
    address: MysqlAddress,
    shard: ShardRow,
    rules: dict[int, Rules],
    *,
    now_ms: int,
    slices_max: int = SLICES_MAX,
    on_rows: Callable[[int], None] = lambda _rows: None,
) -> list[str]:
    """Bring a database to this release's schema, enter the shard and its first rules, and make the journal's slices.

    Args:
        address: An existing database, empty or an earlier state of this shard.
        shard: Entered where the database has none; it must agree where it has one.
        rules: The lanes' first rules, by the offset from which they are in force, entered where a shard is new; later
            only SET_RULES changes them (I6).
        now_ms: Wall clock, ms since the epoch; partitions are made from the lane that is furthest behind to after it
            (A7).
        slices_max: A7's limit, or ``TARGET_SLICES_MAX``.
        on_rows: Told how many rows of the release before are brought over, where there are any.

    Returns:
        What was done, in words; empty where there was nothing to do.

    Raises:
        Misconfigured: A file was edited after it was applied, the database is of a later release, or of another shard.
        Retryable: Another migration is running.
    """
    session = Session(address, lane=False)
    try:
        with _alone(session):
            done = _apply(session, slices_max, on_rows)
            if _enter_shard(session, shard, rules, now_ms):
                done.append(f"entered shard {shard.shard} with {shard.lanes} lanes")
            return done + _make_slices(session, now_ms, slices_max)
    finally:
        session.close()


def check_database(address: MysqlAddress, shard: str) -> ShardRow:
    """Prove, before a lane is taken, that a database is the shard's and keeps what it commits; return its row.

    Raises:
        Misconfigured: The server's settings (L7), the schema, or the shard are not as they must be.
        Unavailable: The server does not answer.
    """
    session = Session(address, lane=True)
    try:
        return check_schema(session, shard)
    finally:
        session.close()


def check_schema(session: Session, shard: str) -> ShardRow:
    """Return the shard that a database holds, proven to be of this release's schema.

    Raises:
        Misconfigured: The schema is missing, older or newer, or it is another shard's; the text says what to do.
    """
    ((known,),) = session.query(
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'migration'",
        "looking for the schema",
    )
    applied = _applied(session) if known else {}
    wanted = {migration.number: migration for migration in read_migrations()}
    if max(applied, default=0) < max(wanted):
        raise Misconfigured(f"{session.address}: the schema is at {max(applied, default=0)}: run `balance migrate`")
    _refuse_other_release(session, applied, wanted)
    found = read_shard(session)
    if found is None:
        raise Misconfigured(f"{session.address}: no shard was entered here: run `balance migrate`")
    if found.shard != shard:
        raise Misconfigured(f"{session.address} holds shard {found.shard}, not {shard}: look at the settings")
    return found


def read_shard(session: Session) -> ShardRow | None:
    """Return the shard that was entered, or None in a database that is new."""
    ((told,),) = session.query(
        "SELECT COUNT(*) FROM information_schema.columns "
        "WHERE table_schema = DATABASE() AND table_name = 'shard' AND column_name = 'home'",
        "looking whether the schema tells the home shard",
    )
    home = "home" if told else "1"  # a database that is not migrated yet: installations had one shard
    rows = session.query(f"SELECT shard, lanes, results_partitions, {home} FROM shard", "reading the shard")
    if not rows:
        return None
    ((shard, lanes, results_partitions, is_home),) = rows
    return ShardRow(shard=shard.decode(), lanes=lanes, results_partitions=results_partitions, home=bool(is_home))


def read_migrations(folder: Path = FOLDER) -> list[Migration]:
    """Return the files of schemas/mysql by their numbers, which have no gap."""
    found = [_read(path) for path in sorted(folder.glob("*.sql"))]
    assert [migration.number for migration in found] == list(range(1, len(found) + 1)), "schemas/mysql has a gap"
    return found


def _read(path: Path) -> Migration:
    content = path.read_bytes()
    lines = [line.partition("--")[0].rstrip() for line in content.decode().splitlines()]
    statements = (statement.strip() for statement in "\n".join(lines).split(";"))
    return Migration(
        number=int(path.name.partition("_")[0]),
        name=path.stem,
        statements=tuple(statement for statement in statements if statement),
        digest=hashlib.sha256(content).digest(),
    )


@contextmanager
def _alone(session: Session) -> Iterator[None]:
    """Hold the database's migration lock, which the server gives back when the connection ends, too."""
    name = "CONCAT('balance.migrate.', LEFT(SHA2(DATABASE(), 256), 40))"  # a lock's name has 64 characters at most
    ((taken,),) = session.query(f"SELECT GET_LOCK({name}, {LOCK_WAIT_S})", "waiting for other migrations")
    if taken != 1:
        raise Retryable(f"{session.address}: another migration has been running for {LOCK_WAIT_S} s")
    yield
    session.query(f"SELECT RELEASE_LOCK({name})", "ending the migration")


def _apply(session: Session, slices_max: int, on_rows: Callable[[int], None]) -> list[str]:
    session.execute(
        "CREATE TABLE IF NOT EXISTS migration (number INT UNSIGNED NOT NULL PRIMARY KEY, name VARBINARY(64) NOT NULL, "
        "digest BINARY(32) NOT NULL) ENGINE = InnoDB",
        "making the table of migrations",
    )
    applied = _applied(session)
    wanted = read_migrations()
    _refuse_other_release(session, applied, {migration.number: migration for migration in wanted})
    done = []
    for migration in wanted:
        if migration.number in applied:
            continue
        # DDL commits by itself: after a crash in between, the file's statements are run again, which they allow.
        for statement in migration.statements:
            session.execute(statement, f"applying {migration.name}")
        rows = fill_journal(session, slices_max=slices_max, on_rows=on_rows) if migration.number == NARROW else 0
        session.execute(
            f"INSERT INTO migration (number, name, digest) "
            f"VALUES ({migration.number}, {text_literal(migration.name)}, X'{migration.digest.hex()}')",
            f"noting {migration.name}",
        )
        done.append(f"applied {migration.name}{f': brought over {rows} rows of the journal' if rows else ''}")
    return done


def _applied(session: Session) -> dict[int, bytes]:
    return dict(session.query("SELECT number, digest FROM migration ORDER BY number", "reading migrations"))


def _refuse_other_release(session: Session, applied: dict[int, bytes], wanted: dict[int, Migration]) -> None:
    for number, digest in applied.items():
        if number not in wanted:
            raise Misconfigured(f"{session.address}: migration {number} is of a later release than this one")
        if wanted[number].digest != digest:
            raise Misconfigured(f"{session.address}: {wanted[number].name} was edited after it was applied")


def _make_slices(session: Session, now_ms: int, slices_max: int) -> list[str]:
    """Make the journal's slices, as far as they fit: an upgrade must not fail because the journal is full for now."""
    known = [each for of_lane in select_rules(session).values() for each in of_lane.values()]
    needed = slices_needed(known, from_ms=_earliest_ms(session, now_ms), to_ms=now_ms)
    room = make_room(session, needed, slices_max=slices_max)
    done = [f"made {len(room.made)} slices of the journal"] if room.made else []
    if room.lacking:
        done.append(
            f"{room.lacking} slices of the journal do not fit beside {room.slices}: the remover makes them once it has "
            "removed others; see what keeps it (docs/operations.md, What to watch)"
        )
    return done


def _earliest_ms(session: Session, now_ms: int) -> int:
    """Return the time of the lane that is furthest behind; it still has to decide ids of all the hours since."""
    ((earliest_ms,),) = session.query(
        f"SELECT LEAST({now_ms}, COALESCE(MIN(last_time_ms), {now_ms})) FROM progress WHERE last_time_ms > 0",
        "reading the lanes' times",
    )
    return int(earliest_ms)


def _enter_shard(session: Session, shard: ShardRow, rules: dict[int, Rules], now_ms: int) -> bool:
    found = read_shard(session)
    if found is None:
        session.begin()
        session.execute(
            "INSERT INTO shard (shard, lanes, results_partitions, created_at_ms, home) "
            f"VALUES ({text_literal(shard.shard)}, {shard.lanes}, {shard.results_partitions}, {now_ms}, "
            f"{int(shard.home)})",
            "entering the shard",
        )
        for lane in range(shard.lanes):
            session.execute(insert_rules(lane, rules, since_time_ms=0), "entering the rules")
        session.commit()
    elif found != shard:
        raise Misconfigured(f"{session.address} holds {found}, the settings say {shard}")
    return found is None
