"""The journal's index by bucket: there while buckets are shared out, and at no other time.

Whoever moves needs his ids of the window, and what the lane decided of others meanwhile lies between them: without an
index all of that is read for each move. With one each command would pay for it all day (measured when a row had its
result: an eighth of what that cost MySQL, and 50 bytes).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from processors.stores.addresses import MysqlAddress
from processors.stores.mysql import Session
from processors.stores.partitions import change_journal

INDEX = "by_bucket"
# A hundred million rows, at a microsecond or two each, with as much to spare again.
_MAKING_S = 600


def has_bucket_index(session: Session) -> bool:
    """Say whether the journal has the index now."""
    found = session.query(
        "SELECT 1 FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = 'journal' "
        f"AND index_name = '{INDEX}' LIMIT 1",
        "looking for the journal's index",
    )
    return bool(found)


@contextmanager
def bucket_index(address: MysqlAddress) -> Iterator[None]:
    """Have the index while the block runs; the lanes go on writing meanwhile.

    Whoever is killed in the block leaves it behind; it does no harm, and the next block takes it away.

    Raises:
        Retryable: The journal was in use each time that it was tried (A7).
        Fault: The server's.
    """
    _change(address, wanted=True)
    try:
        yield
    finally:
        _change(address, wanted=False)


def _change(address: MysqlAddress, *, wanted: bool) -> None:
    session = Session(replace(address, read_timeout_s=_MAKING_S), lane=False)
    try:
        if has_bucket_index(session) is not wanted:
            change = f"ADD KEY {INDEX} (bucket)" if wanted else f"DROP KEY {INDEX}"
            what = f"{'making' if wanted else 'dropping'} the journal's index by bucket"
            change_journal(session, f"ALTER TABLE journal {change}, ALGORITHM = INPLACE, LOCK = NONE", what)
    finally:
        session.close()
