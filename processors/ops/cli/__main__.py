"""``python -m processors.ops.cli``: the command line without its installed name."""

from processors.ops.cli import main

main()
