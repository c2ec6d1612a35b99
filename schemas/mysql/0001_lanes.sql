-- The shard itself, and where each of its lanes stands.
--
-- Everywhere: text is VARBINARY (bytes are equal or not, no collation decides; 0005_views.sql casts it for people),
-- ids are the 16 bytes of a UUID, amounts are integers in minor units, times are milliseconds since the epoch, UTC.
-- Each statement may be run again: a migration that was interrupted is begun anew.

CREATE TABLE IF NOT EXISTS shard (
  one                TINYINT UNSIGNED  NOT NULL DEFAULT 1,  -- the table has one row
  shard              VARBINARY(48)     NOT NULL,
  lanes              INT UNSIGNED      NOT NULL,  -- a power of two, fixed (W3)
  results_partitions INT UNSIGNED      NOT NULL,  -- the same
  created_at_ms      BIGINT            NOT NULL,
  PRIMARY KEY (one),
  CHECK (one = 1)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

CREATE TABLE IF NOT EXISTS progress (
  lane              SMALLINT UNSIGNED NOT NULL,
  topic_id          BINARY(16)        NOT NULL,
  next_offset       BIGINT            NOT NULL,  -- D: the first record that is not decided
  leader_epoch      INT               NOT NULL,  -- of the last record decided, -1 before the first
  owner_epoch       BIGINT            NOT NULL,  -- counts owners; the fence (L1)
  last_time_ms      BIGINT            NOT NULL,  -- lane time (I2)
  version_us        BIGINT            NOT NULL,  -- of the last journal row (A2)
  digest            BINARY(32)        NOT NULL,  -- chained over all journal rows' results (L13)
  published_offset  BIGINT            NOT NULL,  -- P, as known when the row was written (L4)
  published_time_ms BIGINT            NOT NULL,
  stop_code         VARBINARY(32)     NULL,      -- NULL: the lane runs
  stop_detail       VARBINARY(2000)   NULL,
  stopped_at_ms     BIGINT            NULL,
  PRIMARY KEY (lane)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- The highest ingress offset met, by ingress partition (L10).
CREATE TABLE IF NOT EXISTS progress_source (
  lane                 SMALLINT UNSIGNED NOT NULL,
  ingress_epoch        INT UNSIGNED      NOT NULL,
  ingress_partition    INT UNSIGNED      NOT NULL,
  ingress_offset       BIGINT            NOT NULL,
  ingress_leader_epoch INT               NOT NULL,
  PRIMARY KEY (lane, ingress_epoch, ingress_partition)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- The lane's state at each batch border, so that two databases can be compared at the same offset (L13).
CREATE TABLE IF NOT EXISTS batch_digest (
  lane         SMALLINT UNSIGNED NOT NULL,
  next_offset  BIGINT            NOT NULL,
  digest       BINARY(32)        NOT NULL,
  lane_time_ms BIGINT            NOT NULL,
  sources      BLOB              NOT NULL,  -- the lane's rows of progress_source there, packed (stores/packing.py)
  PRIMARY KEY (lane, next_offset)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- What decides, by the lane offset from which it is in force (I6).
CREATE TABLE IF NOT EXISTS rules (
  lane             SMALLINT UNSIGNED NOT NULL,
  version          INT UNSIGNED      NOT NULL,
  since_offset     BIGINT            NOT NULL,
  since_time_ms    BIGINT            NOT NULL,
  rules_release    INT UNSIGNED      NOT NULL,
  window_ms        BIGINT            NOT NULL,
  skew_ms          BIGINT            NOT NULL,
  future_limit_ms  BIGINT            NOT NULL,
  refund_period_ms BIGINT            NOT NULL,
  longest_hold_ms  BIGINT            NOT NULL,
  result_version   INT UNSIGNED      NOT NULL,
  window_floor_ms  BIGINT            NOT NULL,
  refund_floor_ms  BIGINT            NOT NULL,
  PRIMARY KEY (lane, version)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- The operators' word on the time of single records (I2).
CREATE TABLE IF NOT EXISTS lane_time (
  lane        SMALLINT UNSIGNED NOT NULL,
  lane_offset BIGINT            NOT NULL,
  time_ms     BIGINT            NOT NULL,
  PRIMARY KEY (lane, lane_offset)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
