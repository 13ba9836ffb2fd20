"""``python -m pipeline``: the command line, as ``rewarm``."""

from pipeline.cli import main

main()
