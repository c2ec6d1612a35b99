"""Makes a shard's database where there is none; its tables are ``stores.migrations``'."""

from __future__ import annotations

import re
from dataclasses import replace

from processors.faults import Misconfigured
from processors.stores.mysql import MysqlAddress, Session
from processors.stores.sql_text import text_literal

_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}", re.ASCII)  # as the settings have it; written into a statement below


def create_database(address: MysqlAddress) -> bool:
    """Make the database that an address names, unless it is there; say whether it was made.

    Raises:
        Misconfigured: The name is none, or the user may not make it: then an administrator must.
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
