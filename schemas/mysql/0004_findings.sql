-- What is not as it should be, until someone has looked. One row a subject, however often it is seen.

CREATE TABLE IF NOT EXISTS finding (
  id             BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  kind           VARBINARY(64)   NOT NULL,
  subject        VARBINARY(255)  NOT NULL,
  detail         VARBINARY(2000) NOT NULL,
  raised_at_ms   BIGINT          NOT NULL,
  resolved_at_ms BIGINT          NULL,
  PRIMARY KEY (id),
  UNIQUE KEY by_subject (kind, subject)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
