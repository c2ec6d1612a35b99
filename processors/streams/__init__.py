"""The only Kafka: consumers, producers, topics, the directory's log."""
