-- A lane that is fed by more than 3,276 ingress partitions has more sources than a BLOB holds.

ALTER TABLE batch_digest MODIFY sources MEDIUMBLOB NOT NULL;
