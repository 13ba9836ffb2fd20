"""Entry point of ``python -m rewarm``, the same as ``rewarm``."""

from rewarm.pipeline.cli import main

main()
