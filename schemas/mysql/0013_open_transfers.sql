-- Transfers whose money is on its way to another tree (T1), and what they took from each account: its room is kept, so
-- that the money can always come back (T3).

CREATE TABLE IF NOT EXISTS open_transfer (
  root           VARBINARY(64)     NOT NULL,
  transaction_id BINARY(16)        NOT NULL,
  bucket         SMALLINT UNSIGNED NOT NULL,
  address        VARBINARY(255)    NOT NULL,
  currency       VARBINARY(3)      NOT NULL,
  to_address     VARBINARY(255)    NOT NULL,
  amount_minor   BIGINT            NOT NULL,
  levels         TINYINT UNSIGNED  NOT NULL,
  PRIMARY KEY (root, transaction_id),
  KEY by_bucket (bucket)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

SET @missing = (
  SELECT COUNT(*) = 0 FROM information_schema.columns
  WHERE table_schema = DATABASE() AND table_name = 'account' AND column_name = 'in_transit_minor'
);
SET @change = IF(@missing, 'ALTER TABLE account ADD COLUMN in_transit_minor BIGINT NOT NULL DEFAULT 0', 'DO 0');
PREPARE change_account FROM @change;
EXECUTE change_account;
DEALLOCATE PREPARE change_account;
