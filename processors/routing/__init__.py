"""Which bucket, partition, lane and shard a root belongs to. Pure."""
