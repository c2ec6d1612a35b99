"""The journal of the release before is brought into this release's tables: all of it, once, also where it is killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from processors.faults import Misconfigured
from processors.ids import SLICES_MAX
from processors.stores.journal_filling import BEFORE, fill_journal
from processors.stores.migrations import NARROW, check_database, migrate, read_migrations
from processors.stores.mysql import Session
from tests.chaos.tripwire import Tripwire
from tests.integration.journal_before import Before, apply_file, assert_brought_over, make_before
from tests.integration.mysql_shard import RULES, SHARD, rows_of
from tests.servers import Servers
from tests.simulation.fakes.clock import START_MS


def bring_over(before: Before) -> list[str]:
    return migrate(before.address, SHARD, {0: RULES}, now_ms=START_MS)


@pytest.mark.rule("I3")
def test_the_journal_of_the_release_before_is_brought_over(servers: Servers, fresh_database: Callable[[], str]) -> None:
    before = make_before(servers, fresh_database, records=700)
    with pytest.raises(Misconfigured, match="run `balance migrate`"):
        check_database(before.address, "s1")

    done = bring_over(before)

    assert done[0] == f"applied 0016_narrow_journal: brought over {len(before.rows)} rows of the journal"
    assert check_database(before.address, "s1") == SHARD
    assert_brought_over(before)
    assert bring_over(before) == []


@pytest.mark.rule("I3")
def test_rows_are_brought_over_whatever_part_of_them_is_read_at_once(
    servers: Servers, fresh_database: Callable[[], str]
) -> None:
    before = make_before(servers, fresh_database, records=700)
    session = Session(before.address, lane=False)
    apply_file(session, read_migrations()[NARROW - 1])

    told: list[int] = []
    brought = fill_journal(session, slices_max=SLICES_MAX, on_rows=told.append, rows_at_once=3)

    session.close()
    assert brought == len(before.rows) == told[-1]
    assert told == sorted(set(told))
    assert_brought_over(before)


CUT_OFF_AT = (
    b"EXECUTE change_journal",
    b"CREATE TABLE IF NOT EXISTS journal_chunk",
    b"ADD PARTITION",
    b"TRUNCATE PARTITION",
    b"INSERT INTO journal_step",
    b"COMMIT",
    b"DROP PARTITION",
    b"DROP TABLE journal_before",
    b"INSERT INTO migration",
)


@pytest.mark.rule("I3")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("text", CUT_OFF_AT, ids=lambda text: text.decode().replace(" ", "_"))
def test_a_run_that_is_killed_anywhere_brings_over_each_row_once(
    servers: Servers, fresh_database: Callable[[], str], text: bytes, when: str
) -> None:
    before = make_before(servers, fresh_database, records=150)
    if text.startswith(b"TRUNCATE"):
        kill_at(servers, before, b"DROP PARTITION", "before")  # which leaves a slice to be emptied
    kill_at(servers, before, text, when)
    is_noted = (text, when) == (CUT_OFF_AT[-1], "after")
    assert len(rows_of(before.address, f"SELECT 1 FROM migration WHERE number = {NARROW}")) == is_noted
    if not is_noted:
        with pytest.raises(Misconfigured, match="run `balance migrate`"):
            check_database(before.address, "s1")

    bring_over(before)

    assert check_database(before.address, "s1") == SHARD
    assert_brought_over(before)


def test_a_row_that_no_lane_can_have_written_is_named_and_stays(
    servers: Servers, fresh_database: Callable[[], str]
) -> None:
    before = make_before(servers, fresh_database, records=60)
    session = Session(before.address, lane=False)
    session.execute("UPDATE journal SET type = 'GIFT' WHERE lane_offset = 30", "as if damaged")
    session.close()

    with pytest.raises(Misconfigured, match=f"of {BEFORE} has a row of the unknown type 'GIFT'"):
        bring_over(before)

    assert rows_of(before.address, f"SELECT COUNT(*) FROM {BEFORE} WHERE type = 'GIFT'") == [(1,)]


def kill_at(servers: Servers, before: Before, text: bytes, when: str) -> None:
    """Have rows brought over by a process that is killed at the first statement with a text."""
    killed: list[subprocess.Popen[bytes]] = []

    def kill() -> None:
        killed[0].kill()

    host, port = servers.mysql_host, servers.mysql_port
    with Tripwire(host, port, text=text, behind=b"", when=when, spring=kill) as proxy:
        words = [sys.executable, "-m", "tests.integration.migrate_process", before.address.database, str(proxy.port)]
        killed.append(subprocess.Popen(words))
        assert killed[0].wait(timeout=60) < 0, "it came to its end"
