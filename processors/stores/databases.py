"""Makes a shard's database, whose tables ``migrations`` makes, and checks that a replay may fill one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from processors.faults import Misconfigured
from processors.stores.addresses import MysqlAddress
from processors.stores.migrations import ShardRow, read_shard
from processors.stores.mysql import Session
from processors.stores.snapshot_rows import LOAD_MARKS, TARGET_MARK
from processors.stores.sql_text import text_literal
from processors.wire.positions import LanePoint

# A replay that was killed is gone for the server within a second or so.
TARGET_LOCK_WAIT_S = 3
REPLAY_MAX_S = 31_536_000  # a year: the connection is silent while lanes are decided
_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}", re.ASCII)  # as the settings have it; written into a statement below


def create_database(address: MysqlAddress) -> bool:
    """Make the database that an address names, unless it is there; say whether it was made.

    Raises:
        Misconfigured: The name is none.
        Refused: The user may not make it: then an administrator must.
        Unavailable: The server does not answer.
    """
    if not _NAME.fullmatch(address.database):
        raise Misconfigured(f"{address.database!r} is no database's name: a-z, 0-9 and _, at most 48")
    session = Session(replace(address, database="information_schema"), lane=False)
    try:
        ((known,),) = session.query(
            f"SELECT COUNT(*) FROM schemata WHERE schema_name = {text_literal(address.database)}",
            "looking for databases",
        )
        if known:
            return False
        session.execute(f"CREATE DATABASE {address.database}", f"making database {address.database}")
        return True
    finally:
        session.close()


def known_shard(address: MysqlAddress) -> ShardRow | None:
    """Return the shard that a database holds; None where there is no database, no schema or no shard yet.

    Raises:
        Refused: The server refuses the login.
        Unavailable: The server does not answer.
    """
    session = Session(replace(address, database="information_schema"), lane=False)
    try:
        ((known,),) = session.query(
            f"SELECT COUNT(*) FROM tables WHERE table_schema = {text_literal(address.database)} "
            "AND table_name = 'shard'",
            "looking for a shard",
        )
    finally:
        session.close()
    if not known:
        return None
    session = Session(address, lane=False)
    try:
        return read_shard(session)
    finally:
        session.close()


def known_topics(address: MysqlAddress) -> set[bytes]:
    """Return the ids of the topics that a shard's lanes were decided from, 16 bytes each; none where none has begun.

    Raises:
        Unavailable: The server does not answer.
    """
    session = Session(address, lane=False)
    try:
        return {topic_id for (topic_id,) in session.query("SELECT DISTINCT topic_id FROM progress", "reading topics")}
    finally:
        session.close()


def claim_target(target: MysqlAddress, live: MysqlAddress | None) -> None:
    """Mark an empty database as a replay's, or find that mark there; refuse any other, before anything is written.

    A replay takes over the lanes of its target. If the target were the live database, under whatever name, that would
    fence the workers. If it were a copy of the live database, it would be found equal although nothing was decided.

    Args:
        target: Where the replay is to write.
        live: The shard's own database, which is only read; None where it is lost. A live database has no mark, so that
            even then it is refused, under whatever name.

    Raises:
        Misconfigured: It is the live one, or it holds tables that no replay made.
        Unavailable: A server does not answer.
    """
    session = Session(target, lane=False)
    try:
        if live is not None and _identity(session) == _identity_of(live):
            raise Misconfigured(f"{target} is the live database, {live}: give an empty one")
        rows = session.query(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()", "looking for tables"
        )
        tables = {name for (name,) in rows}
        if tables and TARGET_MARK not in tables:
            raise Misconfigured(f"{target} is neither empty nor a target that a replay began: give an empty database")
        if not tables:
            session.execute(f"CREATE TABLE {TARGET_MARK} (here TINYINT) ENGINE = InnoDB", "marking the target")
    finally:
        session.close()


class TargetLock:
    """A replay's right to write into its target, which one at a time has: a lock of the server, by the database's name.

    The server gives it back when the connection ends, however the process ends. For one thread; close it after use.
    """

    def __init__(self, target: MysqlAddress) -> None:
        """Take it.

        Raises:
            Misconfigured: Another replay writes there.
            Unavailable: The server does not answer.
        """
        self._session = Session(target, lane=False)
        name = "CONCAT('balance.replay.', LEFT(SHA2(DATABASE(), 256), 40))"  # 64 characters at most
        try:
            self._session.execute(f"SET SESSION wait_timeout = {REPLAY_MAX_S}", "setting the session")
            ((taken,),) = self._session.query(f"SELECT GET_LOCK({name}, {TARGET_LOCK_WAIT_S})", "taking a target")
            ((holder,),) = self._session.query(f"SELECT IS_USED_LOCK({name})", "looking who has the target")
        except BaseException:
            self._session.close()
            raise
        if taken != 1:
            self._session.close()
            raise Misconfigured(
                f"another replay is writing into {target} (MySQL's connection {holder}): wait for its end, or give "
                "another database"
            )

    def close(self) -> None:
        """Give it back."""
        self._session.close()


def note_published(target: MysqlAddress, borders: Mapping[int, LanePoint]) -> None:
    """Store in a replay's target up to where its lanes' results were published, as ``progress`` has it (L4).

    Args:
        target: Nobody else writes to it.
        borders: By lane the last batch border up to which everything is published, and proven to be what was.

    Raises:
        Fault: The server; do it again.
    """
    session = Session(target, lane=False)
    try:
        session.begin()
        for lane, at in borders.items():
            session.execute(
                f"UPDATE progress SET published_offset = {at.next_offset}, published_time_ms = {at.lane_time_ms} "
                f"WHERE lane = {lane} AND published_offset < {at.next_offset}",
                "noting what is published",
            )
        session.commit()
    finally:
        session.close()


def is_target(address: MysqlAddress) -> bool:
    """Say whether a database is a replay's target, which nobody serves from."""
    session = Session(address, lane=False)
    try:
        ((marked,),) = session.query(
            "SELECT COUNT(*) FROM information_schema.tables "
            f"WHERE table_schema = DATABASE() AND table_name = '{TARGET_MARK}'",
            "looking for a replay's mark",
        )
    finally:
        session.close()
    return bool(marked)


def make_live(target: MysqlAddress) -> None:
    """Take a replay's marks away, all or none: from here on it is a shard's own database."""
    session = Session(target, lane=False)
    try:
        session.execute(f"DROP TABLE IF EXISTS {', '.join(LOAD_MARKS)}, {TARGET_MARK}", "making the target live")
    finally:
        session.close()


def _identity_of(address: MysqlAddress) -> tuple[str, str]:
    session = Session(address, lane=False)
    try:
        return _identity(session)
    finally:
        session.close()


def _identity(session: Session) -> tuple[str, str]:
    """Return what tells a database from every other, by whatever name its server was called."""
    ((server, name),) = session.query("SELECT @@server_uuid, DATABASE()", "reading which database this is")
    return server, name
