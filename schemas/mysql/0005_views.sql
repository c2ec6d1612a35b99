-- For people with an SQL prompt: the same rows with ids, text and times cast (L14).

CREATE OR REPLACE SQL SECURITY INVOKER VIEW account_text AS
SELECT
  CONVERT(address USING utf8mb4)  AS address,
  CONVERT(currency USING utf8mb4) AS currency,
  balance,
  held,
  CAST(balance AS DECIMAL(38, 0)) - held + overdraft_limit AS available,
  overdraft_limit,
  CONVERT(policy USING utf8mb4)   AS policy,
  CONVERT(status USING utf8mb4)   AS status,
  sequence,
  open_count,
  IF(JSON_VALID(CONVERT(metadata USING utf8mb4)), CAST(CONVERT(metadata USING utf8mb4) AS JSON), NULL) AS metadata
FROM account;

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
FROM hold;

CREATE OR REPLACE SQL SECURITY INVOKER VIEW journal_text AS
SELECT
  slice,
  lane,
  lane_offset,
  lane_index,
  BIN_TO_UUID(command_id)         AS command_id,
  CONVERT(root USING utf8mb4)     AS root,
  BIN_TO_UUID(transaction_id)     AS transaction_id,
  CONVERT(type USING utf8mb4)     AS type,
  CONVERT(status USING utf8mb4)   AS status,
  CONVERT(reason USING utf8mb4)   AS reason,
  CONVERT(address USING utf8mb4)  AS address,
  CONVERT(currency USING utf8mb4) AS currency,
  amount_minor,
  source_partition,
  source_offset,
  FROM_UNIXTIME(lane_time_ms / 1000) AS lane_time,
  version_us,
  rules_version,
  result_version,
  IF(JSON_VALID(CONVERT(metadata USING utf8mb4)), CAST(CONVERT(metadata USING utf8mb4) AS JSON), NULL) AS metadata
FROM journal;

CREATE OR REPLACE SQL SECURITY INVOKER VIEW progress_text AS
SELECT
  lane,
  HEX(topic_id) AS topic_id,
  next_offset,
  leader_epoch,
  owner_epoch,
  FROM_UNIXTIME(last_time_ms / 1000) AS lane_time,
  HEX(digest) AS digest,
  published_offset,
  FROM_UNIXTIME(published_time_ms / 1000) AS published_time,
  CONVERT(stop_code USING utf8mb4)   AS stop_code,
  CONVERT(stop_detail USING utf8mb4) AS stop_detail,
  FROM_UNIXTIME(stopped_at_ms / 1000) AS stopped_at
FROM progress;

CREATE OR REPLACE SQL SECURITY INVOKER VIEW finding_text AS
SELECT
  id,
  CONVERT(kind USING utf8mb4)    AS kind,
  CONVERT(subject USING utf8mb4) AS subject,
  CONVERT(detail USING utf8mb4)  AS detail,
  FROM_UNIXTIME(raised_at_ms / 1000)   AS raised_at,
  FROM_UNIXTIME(resolved_at_ms / 1000) AS resolved_at
FROM finding;
