"""Payment balances on Kafka, MySQL and Cassandra: every command decided once, every cent accounted for.

A gateway writes payment commands to ``balance.commands``, keyed by partner. The router takes each to its shard's
topic; a shard worker applies each partition of that topic, a *lane*, one command after the other, in locked MySQL
transactions of many commands each; every command has exactly one result on ``balance.results``. A sink copies
results to Cassandra, and what is proven there leaves MySQL. ``docs/design.md`` says why this is right,
``docs/protocol.md`` has the rules that code and tests name (``# L3``).

The order to read in:

1. ``ids``, ``faults``: what an id carries, and the kinds of trouble; beside them ``metrics``, ``telemetry`` and
   ``troubles``, how a process is heard of.
2. ``ledger/``: ``commands`` and ``outcomes`` are the words; ``decide`` is the one entry; ``postings`` the only
   place where money changes; ``book`` the rows in memory. Pure: no I/O, no clock.
3. ``routing/``: which partition, lane and shard a root belongs to; ``directory`` has who lives where. Pure.
4. ``wire/``: bytes to commands and back; ``admission`` is what a lane sees first, ``results`` what it answers,
   ``forwarding`` what the router makes of a record, ``markers`` of one that moves a partner. Pure.
5. ``lane/``: ``deciding`` (a batch, in memory), ``committing`` (one batch is written while the next is decided),
   ``lane`` (from assignment to results, exactly once), ``answering`` (what was perhaps not published, again),
   ``runner`` (a lane's threads). Of partners who move: ``placements`` (whom a lane has), ``moving`` (decides what
   seals, brings and unparks them), ``handing_over`` (carries them). ``sending`` (legs of transfers). Then
   ``workers/``: ``shard`` runs the lanes of one process; ``router``, ``expirer``, ``sink``, ``recaller``, ``remover``:
   one file is one process, and ``archive/`` has what the last three share.
6. ``stores/`` and ``streams/``: the only SQL and CQL, the only Kafka.
7. ``recovery/``: a shard decided again from its topic, and proven equal; the books verified. ``lookup/``: what people
   ask, of all shards and the archive.
8. ``client`` for programs that send commands; ``ops/`` for people: settings meet processes in ``assembly``, the
   command line is ``ops/cli``, ``ops/api`` answers over HTTP and ``ops/page`` shows it in a browser; ``stages`` are
   those of a move, ``moving`` begins one.
"""

from processors import compiled

compiled.prefer()
