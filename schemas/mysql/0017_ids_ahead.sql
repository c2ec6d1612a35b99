-- Ids of the window may go ahead of a move, so that a large partner does not wait for them (M6).

SET @missing = (
  SELECT COUNT(*) = 0 FROM information_schema.columns
  WHERE table_schema = DATABASE() AND table_name = 'placement' AND column_name = 'ahead_generation'
);
SET @change = IF(@missing, 'ALTER TABLE placement
  ADD COLUMN ahead_generation INT UNSIGNED NOT NULL DEFAULT 0,
  ADD COLUMN ahead_offset BIGINT NOT NULL DEFAULT 0', 'DO 0');
PREPARE change_placement FROM @change;
EXECUTE change_placement;
DEALLOCATE PREPARE change_placement;
