-- An expired hold's row stays for a window, with nothing left in it, so that a late capture is told HOLD_EXPIRED (H2).
--
-- The expirer asks for open holds every few seconds: the index separates them from those that are only remembered, of
-- which there may be many more; the remover finds these by it.

SET @missing = (
  SELECT COUNT(*) = 0 FROM information_schema.columns
  WHERE table_schema = DATABASE() AND table_name = 'hold' AND column_name = 'is_open'
);
SET @change = IF(@missing,
  'ALTER TABLE hold
     ADD COLUMN is_open TINYINT UNSIGNED AS (remaining_minor > 0) VIRTUAL,
     DROP INDEX by_expiry,
     ADD INDEX by_expiry (lane, is_open, expires_at_ms)',
  'DO 0');
PREPARE change_hold FROM @change;
EXECUTE change_hold;
DEALLOCATE PREPARE change_hold;

CREATE OR REPLACE SQL SECURITY INVOKER VIEW hold_text AS
SELECT
  CONVERT(root USING utf8mb4)     AS root,
  BIN_TO_UUID(transaction_id)     AS transaction_id,
  CONVERT(address USING utf8mb4)  AS address,
  CONVERT(currency USING utf8mb4) AS currency,
  amount_minor,
  remaining_minor,
  levels,
  FROM_UNIXTIME(expires_at_ms / 1000) AS expires_at
FROM hold
WHERE is_open = 1;
