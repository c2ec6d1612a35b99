-- One immutable row a decision. `result` is the encoded result, byte for byte what was published (L14).
--
-- A slice is an hour, and has a partition of its own, so that removal is DROP PARTITION. LIST, not RANGE: a row whose slice
-- has no partition is refused on both sides, where RANGE would put a row of a removed slice into the oldest one that is
-- left (A7). The partitions are made by `balance migrate` and the remover; slice 0, in 1970, only keeps the table's place.
-- The unique key holds over all slices, since an id's slice is a function of the id (I1).

CREATE TABLE IF NOT EXISTS journal (
  slice            INT UNSIGNED      NOT NULL,
  lane             SMALLINT UNSIGNED NOT NULL,
  lane_offset      BIGINT            NOT NULL,
  lane_index       INT UNSIGNED      NOT NULL,
  command_id       BINARY(16)        NOT NULL,
  root             VARBINARY(64)     NOT NULL,
  bucket           SMALLINT UNSIGNED NOT NULL,  -- not indexed: a move reads the window's slices whole
  transaction_id   BINARY(16)        NOT NULL,
  type             VARBINARY(32)     NOT NULL,
  status           VARBINARY(16)     NOT NULL,
  reason           VARBINARY(32)     NOT NULL,
  address          VARBINARY(255)    NOT NULL,
  currency         VARBINARY(3)      NOT NULL,
  amount_minor     BIGINT            NOT NULL,
  body_hash        BINARY(16)        NOT NULL,
  source_partition INT               NOT NULL,  -- -1: straight to the shard's topic
  source_offset    BIGINT            NOT NULL,
  lane_time_ms     BIGINT            NOT NULL,
  version_us       BIGINT            NOT NULL,
  rules_version    INT UNSIGNED      NOT NULL,
  result_version   INT UNSIGNED      NOT NULL,
  metadata         VARBINARY(4096)   NOT NULL,
  result           MEDIUMBLOB        NOT NULL,
  PRIMARY KEY (slice, lane, lane_offset, lane_index),
  UNIQUE KEY by_command (command_id, root, slice),
  KEY by_transaction (transaction_id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC
PARTITION BY LIST (slice) (PARTITION p0 VALUES IN (0));
