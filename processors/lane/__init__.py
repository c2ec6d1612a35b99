"""A lane from its assignment to its results: each record decided once, in order, and answered."""
