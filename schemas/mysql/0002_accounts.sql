-- The partners' money, and what is open. Tables that hold a root's state carry its bucket, indexed, so that a partner's
-- rows are found when he is moved (M6).

CREATE TABLE IF NOT EXISTS account (
  address         VARBINARY(255)    NOT NULL,
  currency        VARBINARY(3)      NOT NULL,
  bucket          SMALLINT UNSIGNED NOT NULL,
  balance         BIGINT            NOT NULL,
  held            BIGINT            NOT NULL,
  overdraft_limit BIGINT            NOT NULL,
  policy          VARBINARY(16)     NOT NULL,
  status          VARBINARY(16)     NOT NULL,
  sequence        BIGINT            NOT NULL,  -- rises with each change of balance or held (H5)
  open_count      INT UNSIGNED      NOT NULL,  -- open holds, refunds and transfers that touch it (H5)
  metadata        VARBINARY(4096)   NOT NULL,  -- canonical JSON, as bytes (L14)
  PRIMARY KEY (address, currency),
  KEY by_bucket (bucket)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- Open holds only.
CREATE TABLE IF NOT EXISTS hold (
  root            VARBINARY(64)     NOT NULL,
  transaction_id  BINARY(16)        NOT NULL,
  bucket          SMALLINT UNSIGNED NOT NULL,
  lane            SMALLINT UNSIGNED NOT NULL,  -- for the expirer, which asks lane by lane (H2)
  address         VARBINARY(255)    NOT NULL,
  currency        VARBINARY(3)      NOT NULL,
  amount_minor    BIGINT            NOT NULL,
  remaining_minor BIGINT            NOT NULL,
  levels          TINYINT UNSIGNED  NOT NULL,  -- bit mask; bit 0 is the root's level (H1)
  expires_at_ms   BIGINT            NOT NULL,
  PRIMARY KEY (root, transaction_id),
  KEY by_expiry (lane, expires_at_ms),
  KEY by_bucket (bucket)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- Refunds that wait for their original (H4).
CREATE TABLE IF NOT EXISTS open_refund (
  root           VARBINARY(64)     NOT NULL,
  transaction_id BINARY(16)        NOT NULL,
  bucket         SMALLINT UNSIGNED NOT NULL,
  address        VARBINARY(255)    NOT NULL,
  currency       VARBINARY(3)      NOT NULL,
  original_id    BINARY(16)        NOT NULL,
  amount_minor   BIGINT            NOT NULL,
  levels         TINYINT UNSIGNED  NOT NULL,
  PRIMARY KEY (root, transaction_id),
  KEY by_bucket (bucket)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- Originals that have refunds: their amount, and what was given back so far (H3).
CREATE TABLE IF NOT EXISTS refunded (
  root           VARBINARY(64)     NOT NULL,
  transaction_id BINARY(16)        NOT NULL,
  bucket         SMALLINT UNSIGNED NOT NULL,
  amount_minor   BIGINT            NOT NULL,
  refunded_minor BIGINT            NOT NULL,
  PRIMARY KEY (root, transaction_id),
  KEY by_age (transaction_id),  -- the id begins with its time: what is past H3's period is deleted
  KEY by_bucket (bucket)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- The other side of every posting: a lane's own, so that they are never contended, and unbounded (L15).
CREATE TABLE IF NOT EXISTS system_account (
  lane     SMALLINT UNSIGNED NOT NULL,
  level    TINYINT UNSIGNED  NOT NULL,  -- depth in the path; the root's is 1
  name     VARBINARY(16)     NOT NULL,
  currency VARBINARY(3)      NOT NULL,
  balance  DECIMAL(38, 0)    NOT NULL,
  PRIMARY KEY (lane, level, name, currency)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
