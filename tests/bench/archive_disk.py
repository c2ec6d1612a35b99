"""What the archive takes on disk: Cassandra's own files, once what it had in memory is written and compacted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from devtools import stack
from devtools.stack.servers import layout
from processors.ops import addresses
from processors.stores.cassandra import CassandraSession
from tests.bench.measure import with_sum
from tests.bench.service import Service

# Cassandra writes a table out that was changed so long ago. No statement has it done at once.
FLUSH_PERIOD_MS = 1_000
# All is written and compacted where nothing is being compacted and the sizes are the same in so many looks.
_SAME_LOOKS = 5
_LOOK_S = 1.0
_DEADLINE_S = 120.0


def archive_bytes_per_command(made: Service, commands: int) -> dict[str, float]:
    """Return bytes of each table's files for each archived command, of one copy, and of all tables together.

    Args:
        made: Its processes have ended, so that nothing is archived meanwhile. Its tables' settings are changed.
        commands: How many are archived.

    Returns:
        Nothing where this checkout's native stack does not run Cassandra, since the files are elsewhere then.
    """
    if stack.pid(made.settings, stack.Server.CASSANDRA) is None:
        return {}
    data = layout(made.settings, stack.Server.CASSANDRA).data / "data" / made.keyspace
    with closing(CassandraSession(addresses.cassandra_address(made.settings), keyspace=None)) as session:
        asked = session.prepare("SELECT table_name, id FROM system_schema.tables WHERE keyspace_name = ?")
        folders = {str(name): data / f"{name}-{id_.hex}" for name, id_ in session.rows(asked, [made.keyspace])}
        for table in folders:
            flush = f"memtable_flush_period_in_ms = {FLUSH_PERIOD_MS}"
            session.execute(f"ALTER TABLE {made.keyspace}.{table} WITH {flush}")
        sizes = _settled(session, made.keyspace, folders)
    return with_sum({table: round(size / commands, 1) for table, size in sizes.items()})


def _settled(session: CassandraSession, keyspace: str, folders: Mapping[str, Path]) -> dict[str, int]:
    """Wait until nothing is written or compacted any more, and return the bytes of each table's files."""
    tasks = session.prepare("SELECT keyspace_name FROM system_views.sstable_tasks")
    ends_s = time.monotonic() + _DEADLINE_S
    sizes, same = _sizes(folders), 0
    while same < _SAME_LOOKS:
        if time.monotonic() > ends_s:
            raise TimeoutError(f"Cassandra still writes or compacts {keyspace} after {_DEADLINE_S} s")
        time.sleep(_LOOK_S)
        before, sizes = sizes, _sizes(folders)
        busy = any(name == keyspace for (name,) in session.rows(tasks, []))
        same = 0 if busy or sizes != before else same + 1
    return sizes


def _sizes(folders: Mapping[str, Path]) -> dict[str, int]:
    return {table: sum(map(_size, folder.iterdir())) for table, folder in folders.items()}


def _size(file: Path) -> int:
    """Return a file's bytes; 0 of a folder, and of a file that a compaction removed just now."""
    try:
        return file.stat().st_size if file.is_file() else 0
    except FileNotFoundError:
        return 0
