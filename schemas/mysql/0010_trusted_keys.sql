-- Whose signatures count, and what a schema registry's ids stand for, as texts; NULL while the log does not say (I6).

SET @missing = (
  SELECT COUNT(*) = 0 FROM information_schema.columns
  WHERE table_schema = DATABASE() AND table_name = 'rules' AND column_name = 'signing_keys'
);
SET @change = IF(
  @missing,
  'ALTER TABLE rules ADD COLUMN signing_keys VARBINARY(8192) NULL, ADD COLUMN registry_ids VARBINARY(8192) NULL',
  'DO 0'
);
PREPARE change_rules FROM @change;
EXECUTE change_rules;
DEALLOCATE PREPARE change_rules;
