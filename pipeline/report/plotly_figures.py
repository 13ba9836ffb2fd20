"""The report's figures as Plotly objects, for notebooks; the pages draw the same data with page.js."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.colors import qualitative

from rewarm.pipeline.report.figures import Figure, Trace

DASHES = {"dashed": "dash", "faint": "solid", "solid": "solid", "hatched": "solid"}
TONES = {"accent": "#b3361e", "muted": "#8a8a8a"}
SYMBOLS = ("circle", "square", "diamond", "cross", "x", "triangle-up", "star", "hexagon")


def draw(figure: Figure) -> go.Figure:
    """Return a figure of the report with its axes, regions and legend."""
    draw_trace = bar if figure.form == "bars" else line
    plot = go.Figure([draw_trace(trace) for trace in figure.traces])
    plot.update_layout(
        xaxis_title=figure.x_title,
        yaxis_title=figure.y_title,
        barmode="stack",
        template="plotly_white",
        margin={"t": 30},
        legend={"orientation": "h", "y": 1.1},
        meta={"summary": figure.summary},
    )
    if figure.x_scale == "log":
        plot.update_xaxes(type="log")
    if figure.form == "lines":
        plot.update_yaxes(hoverformat=figure.y_format)
    for region in figure.regions:
        plot.add_vrect(region.start, region.end, annotation_text=region.short, opacity=0.05, fillcolor="black")
    return plot


def line(trace: Trace) -> go.Scatter:
    """Return one line; it breaks where a value is None."""
    style: dict[str, Any] = {"mode": "lines"}
    if trace.marker is not None:
        style = {"mode": "lines+markers", "marker": {"symbol": SYMBOLS[trace.marker % len(SYMBOLS)]}}
    return go.Scatter(
        x=trace.x,
        y=trace.y,
        name=trace.name,
        line={"color": colour(trace.tone), "dash": DASHES[trace.style]},
        opacity=0.35 if trace.style == "faint" else 1.0,
        connectgaps=False,
        **hover(trace.labels),
        **grouped(trace),
        **style,
    )


def bar(trace: Trace) -> go.Bar:
    """Return one kind of horizontal bar."""
    pattern = {"shape": "/"} if trace.style == "hatched" else {}
    return go.Bar(
        x=trace.x,
        y=trace.y,
        name=trace.name,
        orientation="h",
        marker={"color": colour(trace.tone), "pattern": pattern},
        **hover(trace.labels),
        **grouped(trace),
    )


def colour(tone: str) -> str:
    """Return the colour of a role: ``accent``, ``muted`` or ``series-N``."""
    series = qualitative.Safe
    return TONES[tone] if tone in TONES else series[int(tone.removeprefix("series-")) % len(series)]


def hover(labels: Sequence[str]) -> dict[str, Any]:
    """Return what hovering shows instead of the bare number."""
    return {"text": list(labels), "hoverinfo": "name+text"} if labels else {}


def grouped(trace: Trace) -> dict[str, Any]:
    """Return the options by which traces of one group share an entry of the legend."""
    return {"legendgroup": trace.group} if trace.group else {}
