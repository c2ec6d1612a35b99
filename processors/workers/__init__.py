"""One file is one process, and reads from top to bottom as its story."""
