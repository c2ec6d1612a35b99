"""Bytes to commands and back to results, and what is no command. Pure."""
