"""The command line: parse, call, print. ``rewarm --help``."""

from pipeline.cli import data, releases, updates, views
from pipeline.cli.app import app, main

__all__ = ["app", "data", "main", "releases", "updates", "views"]
