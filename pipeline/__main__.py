"""``python -m pipeline``: the command line, as ``rewarm``."""

from rewarm.pipeline.cli import main

main()
