"""A shard decided again from its topic, the books verified, the archive mended."""
