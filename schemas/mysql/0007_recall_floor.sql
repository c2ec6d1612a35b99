-- Recalls have a floor of their own: a change of the rules must not end refunds that still wait for the archive (H3).

SET @missing = (
  SELECT COUNT(*) = 0 FROM information_schema.columns
  WHERE table_schema = DATABASE() AND table_name = 'rules' AND column_name = 'recall_floor_ms'
);
SET @change = IF(@missing, 'ALTER TABLE rules ADD COLUMN recall_floor_ms BIGINT NOT NULL', 'DO 0');
PREPARE change_rules FROM @change;
EXECUTE change_rules;
DEALLOCATE PREPARE change_rules;

-- Until now the refunds' floor was the recalls': rows of originals before it may have been deleted already.
UPDATE rules SET recall_floor_ms = refund_floor_ms WHERE recall_floor_ms < refund_floor_ms;
