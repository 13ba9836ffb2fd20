"""The dashboard's queries and the rules' expressions, as Prometheus is asked them."""

import json
import re
from typing import Any

import yaml

from rewarm.pipeline.monitoring.files import content
from rewarm.stages.core.metrics import EXPORTED, METRICS

NAME = re.compile(r"\bray_rewarm_[a-z0-9_]+\b")
HISTOGRAM = re.compile(r"_(bucket|sum|count)$")
# The histogram's three series count as their metric.
SERIES = {f"{EXPORTED}{name}": name for name in METRICS}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(content("grafana.json"))
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def panel_queries() -> list[tuple[str, str]]:
    """Each panel's title with each of its queries."""
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def variable_queries() -> list[str]:
    return [one["query"]["query"] for one in dashboard()["templating"]["list"] if one["type"] == "query"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(content("alerts.yaml"))["groups"] for rule in group["rules"]]


def metrics_in(expression: str) -> set[str]:
    """Names of our metrics in an expression; a name that we do not define comes back with Ray's prefix."""
    return {SERIES.get(found, SERIES.get(HISTOGRAM.sub("", found), found)) for found in NAME.findall(expression)}


def asked(expression: str) -> str:
    """A panel's query as Grafana sends it, with all workspaces and updates chosen."""
    for variable, value in {"$workspace": ".*", "$update": ".*", "$__rate_interval": "1m"}.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression
