"""Makes the archive's keyspace and applies schemas/cassandra to it. Safe to run twice."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from processors.faults import Misconfigured
from processors.shipped import SCHEMAS
from processors.stores.addresses import CassandraAddress
from processors.stores.archive_filling import fill_packed
from processors.stores.cassandra import CassandraSession

FOLDER = SCHEMAS / "cassandra"
# The file whose tables are filled from the journal, of an archive that was written before it. It is noted as applied
# only then, so that no process of this release takes what is not there yet for absent (H4).
PACKED = 2
_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}", re.ASCII)
_NOTES = "CREATE TABLE IF NOT EXISTS migration (number int PRIMARY KEY, name text, digest blob)"
_NOTED = "SELECT number, digest FROM $migration"
_NOTE = "INSERT INTO $migration (number, name, digest) VALUES (?, ?, ?) USING TIMESTAMP ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A file of schemas/cassandra; each of its statements may be run again. ``digest`` is SHA-256 of its bytes."""

    number: int
    name: str
    statements: tuple[str, ...]
    digest: bytes


def migrate_archive(address: CassandraAddress, *, replication_factor: int) -> list[str]:
    """Bring the archive to this release's schema. From one place at a time: Cassandra has no lock for schemas.

    Args:
        address: The cluster; ``keyspace`` is made if it is missing, in ``local_dc``.
        replication_factor: Copies of each row, for a keyspace that is made now.

    Returns:
        The names of the files that were applied; empty where there was nothing to do.

    Raises:
        Misconfigured: The keyspace's name is none, a file was edited after it was applied, or the archive is of a later
            release.
        Undecodable: The archive of an earlier release has a chunk that cannot be read.
        Unavailable: Cassandra does not answer; run it again.
    """
    for name in (address.keyspace, address.local_dc):
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,48}", name):
            raise Misconfigured(f"{name!r} cannot be written into a keyspace's definition")
    if not _NAME.fullmatch(address.keyspace):
        raise Misconfigured(f"{address.keyspace!r} is no keyspace: a-z, 0-9 and _, at most 48")
    session = CassandraSession(address, keyspace=None)
    try:
        session.execute(
            f"CREATE KEYSPACE IF NOT EXISTS {address.keyspace} WITH replication = "
            f"{{'class': 'NetworkTopologyStrategy', '{address.local_dc}': {int(replication_factor)}}}"
        )
        session.use(address.keyspace)
        session.execute(_NOTES)
        done = []
        for file in _missing(session):
            for statement in file.statements:
                session.execute(statement)
            if file.number == PACKED:
                fill_packed(session)
            session.note(_NOTE, (file.number, file.name, file.digest, file.number))
            done.append(file.name)
        return done
    finally:
        session.close()


def open_archive(address: CassandraAddress, *, requests_max: int) -> CassandraSession:
    """Return a session with an archive of this release's schema.

    Raises:
        Misconfigured: The schema is missing, older or newer; the text says what to do.
        Unavailable: Cassandra does not answer.
    """
    session = CassandraSession(address, keyspace=address.keyspace, requests_max=requests_max)
    try:
        _refuse_incomplete(session, address)
    except BaseException:
        session.close()
        raise
    return session


def _refuse_incomplete(session: CassandraSession, address: CassandraAddress) -> None:
    missing = _missing(session)
    if missing:
        raise Misconfigured(f"keyspace {address.keyspace} lacks {missing[0].name}: run `balance migrate`")


def _missing(session: CassandraSession) -> list[_File]:
    """Return the files that are not applied yet, in order."""
    applied = dict(session.rows(session.prepare(_NOTED), ()))
    files = _files()
    later = sorted(set(applied) - {file.number for file in files})
    if later:
        raise Misconfigured(f"the archive's schema has number {later[-1]}, which is of a later release than this one")
    for file in files:
        if applied.get(file.number, file.digest) != file.digest:
            raise Misconfigured(f"schemas/cassandra/{file.name} was edited after it was applied: add a new one instead")
    return [file for file in files if file.number not in applied]


def _files() -> list[_File]:
    return [_file(path) for path in sorted(FOLDER.glob("*.cql"))]


def _file(path: Path) -> _File:
    text = path.read_text(encoding="utf-8")
    bare = "\n".join(line.partition("--")[0] for line in text.splitlines())
    return _File(
        number=int(path.name.partition("_")[0]),
        name=path.name,
        statements=tuple(part.strip() for part in bare.split(";") if part.strip()),
        digest=hashlib.sha256(text.encode()).digest(),
    )
