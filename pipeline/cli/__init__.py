"""The command line: parse, call, print. ``rewarm --help``."""

from rewarm.pipeline.cli import compare, data, monitoring, recipe, releases, samples, show, update, watch
from rewarm.pipeline.cli.app import app, main

__all__ = ["app", "compare", "data", "main", "monitoring", "recipe", "releases", "samples", "show", "update", "watch"]
