"""Entry point of ``python -m rewarm.pipeline``, the same as ``rewarm``."""

from rewarm.pipeline.cli import main

main()
