-- A journal row says where a decision lies and what people ask for; the results lie in chunks (L14).
--
-- A row that had its result, in hex, cost much of what a payment costs MySQL; with narrow rows a payment takes half the
-- disk (docs/decisions/0032 has the figures). What the release before wrote is kept as `journal_before`, from which
-- `balance migrate` fills these tables before it notes this file as applied (stores/journal_filling.py).
--
-- The three tables have a partition for each slice, which is made in all of them and dropped from all of them (A7).

SET @is_wide = (
  SELECT COUNT(*) > 0 FROM information_schema.columns
  WHERE table_schema = DATABASE() AND table_name = 'journal' AND column_name = 'result'
);
SET @change = IF(@is_wide, 'RENAME TABLE journal TO journal_before', 'DO 0');
PREPARE change_journal FROM @change;
EXECUTE change_journal;
DEALLOCATE PREPARE change_journal;

CREATE TABLE IF NOT EXISTS journal (
  slice        INT UNSIGNED      NOT NULL,
  lane         SMALLINT UNSIGNED NOT NULL,
  lane_offset  BIGINT            NOT NULL,
  lane_index   INT UNSIGNED      NOT NULL,
  command_id   BINARY(16)        NOT NULL,
  root         VARBINARY(64)     NOT NULL,
  bucket       SMALLINT UNSIGNED NOT NULL,  -- not indexed: a move reads the window's slices whole
  type         TINYINT UNSIGNED  NOT NULL,  -- the place of its name in stores/journal_names.py, as the two below
  status       TINYINT UNSIGNED  NOT NULL,
  reason       TINYINT UNSIGNED  NOT NULL,
  currency     VARBINARY(3)      NOT NULL,
  amount_minor BIGINT            NOT NULL,
  lane_time_ms BIGINT            NOT NULL,
  PRIMARY KEY (slice, lane, lane_offset, lane_index),
  UNIQUE KEY by_command (command_id, root, slice)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC
PARTITION BY LIST (slice) (PARTITION p0 VALUES IN (0));

-- The results of a batch's rows in one slice, byte for byte what was published: a JournalChunk of schemas/avro, as the
-- archive has it, compressed by zstd. It has the rows from its first place on up to the next chunk's, all of them
-- within one window of 250 offsets (A3): so a row's result is found by two equalities and a glance.
CREATE TABLE IF NOT EXISTS journal_chunk (
  slice         INT UNSIGNED      NOT NULL,
  lane          SMALLINT UNSIGNED NOT NULL,
  offset_window BIGINT            NOT NULL,  -- its offsets divided by 250
  first_offset  BIGINT            NOT NULL,
  first_index   INT UNSIGNED      NOT NULL,
  results       MEDIUMBLOB        NOT NULL,
  PRIMARY KEY (slice, lane, offset_window, first_offset, first_index)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC
PARTITION BY LIST (slice) (PARTITION p0 VALUES IN (0));

-- The steps of transactions that another command began: captures, voids, expiries, the ends of refunds and transfers.
-- Each names its row. A row whose transaction is its own command's is found by that id, and has none here.
CREATE TABLE IF NOT EXISTS journal_step (
  transaction_id BINARY(16)        NOT NULL,
  slice          INT UNSIGNED      NOT NULL,
  lane           SMALLINT UNSIGNED NOT NULL,
  lane_offset    BIGINT            NOT NULL,
  lane_index     INT UNSIGNED      NOT NULL,
  PRIMARY KEY (transaction_id, slice, lane, lane_offset, lane_index)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC
PARTITION BY LIST (slice) (PARTITION p0 VALUES IN (0));

CREATE OR REPLACE SQL SECURITY INVOKER VIEW journal_text AS
SELECT
  slice,
  lane,
  lane_offset,
  lane_index,
  BIN_TO_UUID(command_id)         AS command_id,
  CONVERT(root USING utf8mb4)     AS root,
  bucket,
  ELT(type,
    'OPEN_ACCOUNT', 'UPDATE_ACCOUNT', 'TOP_UP', 'COLLECT', 'ADJUST', 'PAY', 'PLACE_HOLD', 'CAPTURE_HOLD',
    'VOID_HOLD', 'EXPIRE_HOLD', 'REFUND', 'RECALL_ORIGINAL', 'TRANSFER', 'GET_BALANCE', 'CONTROL', 'MOVE_PARTNER',
    'TRANSFER_CREDIT', 'TRANSFER_COMPLETED', 'TRANSFER_RETURN'
  )                               AS type,
  ELT(status,
    'ACCEPTED', 'OPEN', 'COMPLETED', 'RETURNED', 'REJECTED', 'UNKNOWN'
  )                               AS status,
  ELT(reason,
    'NONE', 'IMPLAUSIBLE_ID', 'COMMAND_TOO_OLD', 'COMMAND_ID_REUSED', 'COMMAND_FROM_FUTURE', 'TRANSFER_TOO_OLD',
    'KEY_IS_NOT_ROOT', 'INVALID_ADDRESS', 'UNKNOWN_CURRENCY', 'INVALID_AMOUNT', 'INVALID_OVERDRAFT_LIMIT',
    'INVALID_EXPIRY', 'INVALID_EXPLANATION', 'INVALID_METADATA', 'SAME_ACCOUNT', 'TRANSFER_BETWEEN_TREES',
    'MOVE_REFUSED', 'ACCOUNT_EXISTS', 'UNKNOWN_ACCOUNT', 'UNKNOWN_HOLD', 'HOLD_MISMATCH', 'HOLD_EXPIRED',
    'CAPTURE_ABOVE_HOLD', 'ORIGINAL_TOO_OLD', 'UNKNOWN_ORIGINAL', 'ORIGINAL_NOT_REFUNDABLE', 'ORIGINAL_MISMATCH',
    'REFUND_ABOVE_ORIGINAL', 'ACCOUNT_CLOSED', 'ACCOUNT_FROZEN', 'ACCOUNT_NOT_EMPTY', 'INSUFFICIENT_FUNDS',
    'BALANCE_OVERFLOW'
  )                               AS reason,
  CONVERT(currency USING utf8mb4) AS currency,
  amount_minor,
  FROM_UNIXTIME(lane_time_ms / 1000) AS lane_time
FROM journal;
