"""The command line: parse, call, print. ``rewarm --help``."""

from pipeline.cli import data, monitoring, updates, views
from pipeline.cli.app import app, main

__all__ = ["app", "data", "main", "monitoring", "updates", "views"]
