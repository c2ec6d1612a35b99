"""What people and machines start: the command line, the supervisor."""
