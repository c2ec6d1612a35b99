-- How far `balance verify` and the auditor proved each lane: they go on from here. No decision reads it, so that a database
-- without it, or with an older one, is only proven anew. `checksum` is over the row: what was changed by hand counts for nothing.

CREATE TABLE IF NOT EXISTS lane_proof (
  lane            SMALLINT UNSIGNED NOT NULL,
  topic_id        BINARY(16)        NOT NULL,  -- of the log that was proven
  first_offset    BIGINT            NOT NULL,  -- the proof is of the rows from here
  next_offset     BIGINT            NOT NULL,  -- to here, a batch border
  digest          BINARY(32)        NOT NULL,  -- the lane's digest there (L13)
  lane_time_ms    BIGINT            NOT NULL,  -- and its time
  archived_offset BIGINT            NOT NULL,  -- the rows before it are in the archive
  results_offset  BIGINT            NOT NULL,  -- the rows before it are on the results topic
  results_time_ms BIGINT            NOT NULL,  -- lane time there
  account_sums    MEDIUMBLOB        NOT NULL,  -- of each of 256 groups of accounts, what they must be at next_offset
  system_sums     MEDIUMBLOB        NOT NULL,  -- the same of the lane's system accounts
  proven_at_ms    BIGINT            NOT NULL,  -- what was decided before is proven, by the clock of whoever proved it
  checksum        BINARY(32)        NOT NULL,
  PRIMARY KEY (lane)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
