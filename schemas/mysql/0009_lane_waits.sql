-- An operator's word on records' time is about a stretch of them, and a lane remembers that it waits for one (I2).

SET @missing = (
  SELECT COUNT(*) = 0 FROM information_schema.columns
  WHERE table_schema = DATABASE() AND table_name = 'lane_time' AND column_name = 'last_offset'
);
SET @change = IF(@missing, 'ALTER TABLE lane_time ADD COLUMN last_offset BIGINT NULL AFTER lane_offset', 'DO 0');
PREPARE change_lane_time FROM @change;
EXECUTE change_lane_time;
DEALLOCATE PREPARE change_lane_time;

-- Until now each word was about one record.
UPDATE lane_time SET last_offset = lane_offset WHERE last_offset IS NULL;

SET @missing = (
  SELECT COUNT(*) = 0 FROM information_schema.columns
  WHERE table_schema = DATABASE() AND table_name = 'progress' AND column_name = 'waiting_at'
);
SET @change = IF(@missing, 'ALTER TABLE progress ADD COLUMN waiting_at BIGINT NULL', 'DO 0');
PREPARE change_progress FROM @change;
EXECUTE change_progress;
DEALLOCATE PREPARE change_progress;
