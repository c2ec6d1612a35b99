-- Ids that came along with a move lie many in a row: a row costs as much to insert as a result's bytes do not (M6).
--
-- A row has the ids of a root and a minute from `command_id` to `last_id`, with their results, packed
-- (wire/packed_ids.py). Where `last_id` is empty it has one id, and `result` is its result as it is: so are the rows from
-- before. `minute` is that of the ids' time: what has left the window is found by it, and what a command looks for.

SET @missing = (
  SELECT COUNT(*) = 0 FROM information_schema.columns
  WHERE table_schema = DATABASE() AND table_name = 'moved_id' AND column_name = 'last_id'
);
SET @change = IF(@missing,
  'ALTER TABLE moved_id
     ADD COLUMN last_id VARBINARY(16) NOT NULL DEFAULT '''',
     ADD COLUMN minute BIGINT UNSIGNED AS (CONV(HEX(LEFT(command_id, 6)), 16, 10) DIV 60000) VIRTUAL,
     DROP INDEX by_age,
     ADD INDEX by_minute (minute, root, last_id)',
  'DO 0');
PREPARE change_moved_id FROM @change;
EXECUTE change_moved_id;
DEALLOCATE PREPARE change_moved_id;
