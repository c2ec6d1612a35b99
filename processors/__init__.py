"""Payment balances on Kafka, MySQL and Cassandra: every command decided once."""
