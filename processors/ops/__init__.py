"""What people and machines start: the command line, the supervisor, the native servers."""
