"""Copies of a shard in a folder: taken while it works, told from one that was cut off, and loaded again (rule V1).

A snapshot is a folder of its own, with a file for each table and slice. Its manifest has each file's rows, bytes and
checksum. It is written last, and takes its name by a rename: without it the folder is what a run that was cut off left.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from processors.faults import Misconfigured, Unavailable
from processors.stores.migrations import ShardRow
from processors.stores.rows import Progress
from processors.stores.snapshot_rows import CopiedTable
from processors.wire.snapshot_file import Column, ColumnKind, read_rows, write_rows

MANIFEST = "manifest.json"
FORMAT = 1
HASHED_BYTES = 1024 * 1024
Counting = Callable[[str, int], None]
"""Told which table is at how many rows."""


class Source(Protocol):
    """A shard's database as of one moment (``stores.snapshot_rows``)."""

    row: ShardRow

    def schema(self) -> int:
        """Return the schema's number."""

    def positions(self) -> dict[int, Progress]:
        """Return each lane's progress."""

    def tables(self) -> list[CopiedTable]:
        """Return what is copied, in order."""

    def rows(self, table: CopiedTable) -> Iterator[tuple[Any, ...]]:
        """Yield a table's rows."""

    def refuse_dropped(self) -> None:
        """Refuse a copy of which a slice was removed meanwhile."""


class Target(Protocol):
    """The database into which a snapshot is loaded (``stores.snapshot_rows``)."""

    def begin(self, numbers: Iterable[int]) -> None:
        """Empty all tables and make the journal's slices."""

    def load(self, table: CopiedTable, rows: Iterable[tuple[Any, ...]]) -> int:
        """Insert a table's rows."""

    def end(self) -> None:
        """Say that all is loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiedFile:
    """A file of a snapshot: what it has, and what proves it; ``sha256`` is hexadecimal."""

    file: str
    table: CopiedTable
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneCopied:
    """Where a lane stood when the snapshot was taken; the digest is hexadecimal."""

    next_offset: int
    published_offset: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a snapshot is. ``taken_at_ms`` is the wall clock's, before the first row was read."""

    row: ShardRow
    schema: int
    topic_id: bytes
    taken_at_ms: int
    lanes: dict[int, LaneCopied]
    files: tuple[CopiedFile, ...]

    @property
    def rows(self) -> int:
        """Return how many rows it has."""
        return sum(each.rows for each in self.files)

    @property
    def bytes(self) -> int:
        """Return how many bytes its files have."""
        return sum(each.bytes for each in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A folder that a snapshot was taken into.

    ``manifest`` is None where it was cut off, or is being taken, and where what is there is no manifest: then ``bad``
    says why.
    """

    folder: Path
    manifest: Manifest | None
    bad: str = ""


def take(source: Source, folder: Path, *, now_ms: int, on_progress: Counting) -> Snapshot:
    """Copy a shard into a new folder below ``folder``.

    If the power goes: before the manifest has its name, the folder has none, and is never taken for a snapshot; after
    that everything is on disk.

    Args:
        source: The shard as of one moment.
        folder: Has a folder for each shard, which is made where it is missing.
        now_ms: The wall clock.
        on_progress: Told which table is at how many rows.

    Raises:
        Misconfigured: The lanes are of several topics, or none was begun: there is nothing to go on from.
        Unavailable: The folder cannot be written.
        Fault: The database's; nothing counts of what was copied.
    """
    positions = source.positions()
    topics = {progress.topic_id for progress in positions.values()}
    if len(topics) != 1:
        raise Misconfigured(f"the lanes of shard {source.row.shard} are of {len(topics)} topics, and must be of one")
    with _files_as_faults(folder):
        place = _new_folder(folder / source.row.shard, now_ms)
        files = tuple(_copy(source, table, place, on_progress) for table in source.tables())
        source.refuse_dropped()
        on_progress(MANIFEST, len(files))
        manifest = Manifest(
            row=source.row,
            schema=source.schema(),
            topic_id=topics.pop(),
            taken_at_ms=now_ms,
            lanes={lane: _lane(progress) for lane, progress in positions.items()},
            files=files,
        )
        _write_manifest(place, manifest)
    return Snapshot(folder=place, manifest=manifest)


def _lane(progress: Progress) -> LaneCopied:
    at = progress.at
    return LaneCopied(next_offset=at.next_offset, published_offset=progress.published_offset, digest=at.digest.hex())


def _new_folder(of_shard: Path, now_ms: int) -> Path:
    name = datetime.fromtimestamp(now_ms / 1_000, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    place = of_shard / name
    place.mkdir(parents=True)  # not there: its name has the microsecond
    return place


def _copy(source: Source, table: CopiedTable, place: Path, on_progress: Counting) -> CopiedFile:
    name = f"{table.name}.avro" if table.slice is None else f"{table.name}.{table.slice}.avro"
    count = 0

    def counted() -> Iterator[tuple[Any, ...]]:
        nonlocal count
        for row in source.rows(table):
            count += 1
            if count % 1_000 == 0:
                on_progress(table.name, count)
            yield row

    on_progress(table.name, 0)
    with (place / name).open("wb") as raw:
        file = _Hashed(raw)
        write_rows(cast("BinaryIO", file), table.name, table.columns, counted())
        raw.flush()
        os.fsync(raw.fileno())
    return CopiedFile(file=name, table=table, rows=count, bytes=file.bytes, sha256=file.digest.hexdigest())


class _Hashed:
    """A file that is written once, from its beginning, and its checksum."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self.bytes = 0
        self.digest = hashlib.sha256()

    def seekable(self) -> bool:
        return False

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.bytes += len(data)
        return self._raw.write(data)

    def flush(self) -> None:
        self._raw.flush()


def _write_manifest(place: Path, manifest: Manifest) -> None:
    part = place / f"{MANIFEST}.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump(_told(manifest), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(place)  # the tables' names are on disk before the manifest has its own
    part.rename(place / MANIFEST)
    for folder in (place, place.parent, place.parent.parent):
        _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def snapshots_in(folder: Path, shard: str) -> list[Snapshot]:
    """Return the snapshots of a shard, the newest first, with what was cut off and those with a bad manifest.

    Raises:
        Unavailable: The folder cannot be read.
    """
    of_shard = folder / shard
    with _files_as_faults(of_shard):
        places = sorted((each for each in of_shard.iterdir() if each.is_dir()), reverse=True)
        return [_snapshot(place) for place in places]


def _snapshot(place: Path) -> Snapshot:
    try:
        return Snapshot(folder=place, manifest=_read_manifest(place))
    except Misconfigured as fault:  # one that cannot be read must not hide the others
        return Snapshot(folder=place, manifest=None, bad=str(fault))


def prove(snapshot: Snapshot, *, on_progress: Counting) -> Manifest:
    """Prove that a snapshot is whole: each file has the bytes, the checksum and the rows of its manifest.

    Raises:
        Misconfigured: It was cut off, or a file is not what was written; the text says which.
        Unavailable: It cannot be read.
    """
    manifest = snapshot.manifest
    if manifest is None:
        raise Misconfigured(snapshot.bad or f"{snapshot.folder} was cut off: it has no {MANIFEST}")
    with _files_as_faults(snapshot.folder):
        for each in manifest.files:
            _prove_bytes(snapshot.folder, each)
            rows = sum(1 for _ in _rows(snapshot.folder, each))
            on_progress(each.table.name, rows)
            if rows != each.rows:
                raise Misconfigured(f"{snapshot.folder / each.file} has {rows} rows, its manifest says {each.rows}")
    return manifest


def load(snapshot: Snapshot, target: Target, *, on_progress: Counting) -> None:
    """Load a snapshot into a target, each file once its bytes are proven; one that was cut off is begun anew.

    Args:
        snapshot: One with a manifest.
        target: A database of the same schema, shard entered, in which nothing counts yet.
        on_progress: Told which table has how many rows.

    Raises:
        Misconfigured: A file is not what was written, or the schema differs; the target is then to be loaded again.
        Fault: The database's, or the folder's; load again.
    """
    manifest = snapshot.manifest
    assert manifest is not None, "a snapshot that was cut off is never loaded"
    with _files_as_faults(snapshot.folder):
        target.begin({each.table.slice for each in manifest.files if each.table.slice is not None})
        for each in manifest.files:
            _prove_bytes(snapshot.folder, each)
            rows = target.load(each.table, _rows(snapshot.folder, each))
            on_progress(each.table.name, rows)
            if rows != each.rows:
                raise Misconfigured(f"{snapshot.folder / each.file} has {rows} rows, its manifest says {each.rows}")
        on_progress(MANIFEST, len(manifest.files))
        target.end()


def remove_older(folder: Path, shard: str, *, keep: int) -> list[Path]:
    """Remove all but the newest snapshots of a shard, and what was cut off before the newest; return what is gone.

    One with a bad manifest stays: somebody must look at it, and perhaps only its manifest is damaged. A snapshot loses
    its manifest first: half of one is never taken for a whole.

    Args:
        folder: Has a folder for each shard.
        shard: Its id.
        keep: How many stay; at least 1.
    """
    assert keep >= 1, "the last snapshot is never removed"
    found = snapshots_in(folder, shard)
    whole = [each.folder for each in found if each.manifest is not None]
    stays = set(whole[:keep])
    gone = [each.folder for each in found if _may_go(each, stays) and whole and each.folder < whole[0]]
    with _files_as_faults(folder):
        for place in gone:
            (place / MANIFEST).unlink(missing_ok=True)
            _sync_folder(place)
            shutil.rmtree(place)
    return gone


def _may_go(snapshot: Snapshot, stays: set[Path]) -> bool:
    return snapshot.folder not in stays and not snapshot.bad


def _rows(folder: Path, each: CopiedFile) -> Iterator[tuple[Any, ...]]:
    with (folder / each.file).open("rb") as file:
        yield from read_rows(file, each.table.columns)


def _prove_bytes(folder: Path, each: CopiedFile) -> None:
    digest, size = hashlib.sha256(), 0
    with (folder / each.file).open("rb") as file:
        while data := file.read(HASHED_BYTES):
            digest.update(data)
            size += len(data)
    if (size, digest.hexdigest()) != (each.bytes, each.sha256):
        raise Misconfigured(
            f"{folder / each.file} is not what was written: {size} bytes with SHA-256 {digest.hexdigest()}, the "
            f"manifest says {each.bytes} with {each.sha256}"
        )


@contextmanager
def _files_as_faults(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"{error.filename or folder}: {error.strerror}") from error


def _told(manifest: Manifest) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "shard": asdict(manifest.row),
        "schema": manifest.schema,
        "topic_id": manifest.topic_id.hex(),
        "taken_at_ms": manifest.taken_at_ms,
        "lanes": {str(lane): asdict(each) for lane, each in manifest.lanes.items()},
        "files": [
            {
                "file": each.file,
                "table": each.table.name,
                "slice": each.table.slice,
                "columns": [[column.name, column.kind.name, column.nullable] for column in each.table.columns],
                "rows": each.rows,
                "bytes": each.bytes,
                "sha256": each.sha256,
            }
            for each in manifest.files
        ],
    }


def _read_manifest(place: Path) -> Manifest | None:
    try:
        text = (place / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        told = json.loads(text)
        if told["format"] != FORMAT:
            raise Misconfigured(f"{place} is of format {told['format']}, this release reads {FORMAT}")
        return Manifest(
            row=ShardRow(**told["shard"]),
            schema=told["schema"],
            topic_id=bytes.fromhex(told["topic_id"]),
            taken_at_ms=told["taken_at_ms"],
            lanes={int(lane): LaneCopied(**each) for lane, each in told["lanes"].items()},
            files=tuple(map(_file, told["files"])),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Misconfigured(f"{place / MANIFEST} is no manifest of a snapshot: {error}") from error


def _file(told: dict[str, Any]) -> CopiedFile:
    columns = tuple(Column(name=name, kind=ColumnKind[kind], nullable=null) for name, kind, null in told["columns"])
    table = CopiedTable(name=told["table"], columns=columns, slice=told["slice"])
    return CopiedFile(
        file=Path(told["file"]).name, table=table, rows=told["rows"], bytes=told["bytes"], sha256=told["sha256"]
    )
