"""The only SQL and CQL: a shard's tables in MySQL, the archive in Cassandra."""
