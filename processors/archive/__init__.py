"""What sink, recaller and remover share: waiting for Cassandra, what is proven there, what is asked of it."""
