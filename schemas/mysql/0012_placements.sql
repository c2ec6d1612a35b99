-- What a move needs (M1 to M7): which placement keys are here, what waits for one that is not here yet, and the ids that
-- came along.

-- By lane; the lane's owner has all of its rows in memory. A placement key without a row is at generation 0, which the home
-- shard owns.
CREATE TABLE IF NOT EXISTS placement (
  lane              SMALLINT UNSIGNED NOT NULL,
  placement_key     VARBINARY(64)     NOT NULL,  -- a root placed by hand, or 'bucket:17'
  generation        INT UNSIGNED      NOT NULL,  -- owned here, arriving, or the one with which the key went away
  state             VARBINARY(16)     NOT NULL,  -- AWAY, ARRIVING, OWNED, SEALED, LEFT
  other_shard       VARBINARY(48)     NOT NULL,  -- where it comes from, or went to
  since_offset      BIGINT            NOT NULL,  -- lane offset of the record that brought the key into this state
  since_time_ms     BIGINT            NOT NULL,  -- lane time there
  version_us        BIGINT            NOT NULL,  -- of the seal's journal row (A2)
  parts             INT UNSIGNED      NOT NULL,  -- of the hand-off, that have come
  rest              MEDIUMBLOB        NOT NULL,  -- a row whose end comes with the next part
  digest            BINARY(32)        NOT NULL,  -- chained over the rows that have come (M4)
  parked            INT UNSIGNED      NOT NULL,  -- records that wait
  ids_since_ms      BIGINT            NOT NULL,  -- from which time on all ids are known here (M6)
  refunds_since_ms  BIGINT            NOT NULL,  -- the same of what was given back
  sealed_ids_since_ms     BIGINT      NOT NULL,  -- both as the hand-off has them: what has left the window stays behind
  sealed_refunds_since_ms BIGINT      NOT NULL,
  sealed_from_offset      BIGINT      NOT NULL,  -- from which lane offset on the journal has what was decided before the seal
  PRIMARY KEY (lane, placement_key)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- Records that came before the placement key did, as they were read (M1). A row stays until the answer is published (L4).
CREATE TABLE IF NOT EXISTS parked (
  lane             SMALLINT UNSIGNED NOT NULL,
  lane_offset      BIGINT            NOT NULL,
  placement_key    VARBINARY(64)     NOT NULL,
  topic            VARBINARY(249)    NOT NULL,
  record_key       VARBINARY(64)     NOT NULL,
  record_value     MEDIUMBLOB        NOT NULL,
  headers          BLOB              NOT NULL,  -- packed (stores/packing.py)
  timestamp_ms     BIGINT            NOT NULL,  -- the broker's
  leader_epoch     INT               NOT NULL,
  is_move_out      TINYINT UNSIGNED  NOT NULL,
  unparked_offset  BIGINT            NULL,      -- of the record with which it was decided; its own: it was refused at once
  unparked_index   INT UNSIGNED      NULL,      -- of its answer there
  PRIMARY KEY (lane, lane_offset),
  KEY by_key (lane, placement_key, unparked_offset, lane_offset),
  KEY by_unparked (lane, unparked_offset)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- What another shard decided within the window, by id: the results' bytes (M6).
CREATE TABLE IF NOT EXISTS moved_id (
  root        VARBINARY(64)     NOT NULL,
  command_id  BINARY(16)        NOT NULL,
  bucket      SMALLINT UNSIGNED NOT NULL,
  result      MEDIUMBLOB        NOT NULL,
  PRIMARY KEY (root, command_id),
  KEY by_age (command_id),  -- the id begins with its time: what has left the window is deleted
  KEY by_bucket (bucket)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
