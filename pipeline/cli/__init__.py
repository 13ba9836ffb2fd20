"""The command line: parse, call, print. ``rewarm --help``."""

from pipeline.cli import data, monitoring, releases, updates, views, watch
from pipeline.cli.app import app, main

__all__ = ["app", "data", "main", "monitoring", "releases", "updates", "views", "watch"]
