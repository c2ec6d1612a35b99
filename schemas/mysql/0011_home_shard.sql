-- Whether this is the home shard, which owns generation 0 of every placement key (R2). It decides, so it stands here and
-- in no settings; it never changes. Until now an installation had one shard.

SET @missing = (
  SELECT COUNT(*) = 0 FROM information_schema.columns
  WHERE table_schema = DATABASE() AND table_name = 'shard' AND column_name = 'home'
);
SET @change = IF(@missing, 'ALTER TABLE shard ADD COLUMN home TINYINT UNSIGNED NOT NULL DEFAULT 1', 'DO 0');
PREPARE change_shard FROM @change;
EXECUTE change_shard;
DEALLOCATE PREPARE change_shard;
