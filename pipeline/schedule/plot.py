"""How a previewed schedule is shown: a table of its phases, a chart in the terminal, a page."""

from rich.table import Table
from rich.text import Text

from pipeline.schedule.chart import Curve, chart
from pipeline.schedule.preview import Leg, Preview
from pipeline.terminal import short

TRUNK, BRANCH = "cyan", "yellow"
MAX_WIDTH, HEIGHT = 110, 14  # characters of the chart
MARGIN = 12  # for the axis to its left


def phases_table(found: Preview) -> Table:
    """One row for each phase of each update: tokens from and to, learning rate from and to."""
    caption = "From and to count tokens of the lineage."
    if any(leg.branch for leg in found.legs):
        caption += " An anneal is a branch: the next update starts where the trunk ended."
    if found.assumed:
        caption += f" The recipe has no budget: {found.legs[0].steps:,} steps of training are assumed each (--tokens)."
    table = Table(title=heading(found), caption=caption, title_justify="left", caption_justify="left")
    for name in ("update", "phase", "shape"):
        table.add_column(name, no_wrap=True)
    for name in ("from", "to", "steps", "learning rate", "→"):
        table.add_column(name, justify="right", no_wrap=True)
    for leg in found.legs:
        for number, piece in enumerate(leg.pieces()):
            steps = (piece.end - piece.start) * leg.steps / (leg.end - leg.start)
            cells = [piece.phase, piece.shape, short(piece.start), short(piece.end), f"{steps:,.4g}"]
            name = "" if number else leg.name
            rates = [f"{piece.initial:.3g}", f"{piece.final:.3g}"]
            table.add_row(name, *cells, *rates, style=BRANCH if piece.branch else None)
        table.add_section()
    return table


def heading(found: Preview) -> str:
    """What is shown, in a line."""
    updates = len(found.legs) - (0 if found.imported else 1)
    counted = f"{updates} update{'' if updates == 1 else 's'}"
    return f"{found.recipe}: {found.kind} schedule, " + (
        f"{counted} of an imported model" if found.imported else f"a base and {counted}"
    )


def terminal_chart(found: Preview, width: int) -> Text:
    """The learning rate over the lineage's tokens, for a terminal of ``width`` characters."""
    curves = [Curve(trunk_points(found.legs), TRUNK)]
    curves += [Curve(leg.points(branch=True), BRANCH) for leg in found.legs if leg.branch]
    marks = [(float(leg.start), f"{leg.name}, {short(leg.end - leg.start)}") for leg in found.legs]
    drawn = chart(curves, max(20, min(MAX_WIDTH, width - MARGIN)), HEIGHT, marks, ".3g")
    drawn.append("\n\ntrunk", style=TRUNK)
    if len(curves) > 1:
        drawn.append("  anneal (a branch)", style=BRANCH)
    return drawn.append("   learning rate over tokens\n")


def trunk_points(legs: tuple[Leg, ...]) -> list[tuple[float, float]]:
    """The trunk from the first leg to the last, in one line."""
    return [point for leg in legs for point in leg.points(branch=False)]


def page(found: Preview) -> str:
    """One HTML file with the plot, which needs no network (about 5 MB, nearly all of it the plotting library)."""
    import plotly.graph_objects as go

    hover = "%{x:,.0f} tokens: %{y:.4g}<extra>%{fullData.name}</extra>"
    figure = go.Figure()
    for leg in found.legs:
        figure.add_vline(leg.start, line={"width": 1, "color": "#bbb"}, annotation_text=leg.name)
    trunk = trunk_points(found.legs)
    lines = [("trunk", trunk, {"color": "#1f6f8b", "width": 2})]
    dashed = {"color": "#c77d0a", "width": 2, "dash": "dash"}
    lines += [("anneal", leg.points(branch=True), dashed) for leg in found.legs if leg.branch]
    for number, (name, points, style) in enumerate(lines):
        figure.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            name=name,
            legendgroup=name,
            showlegend=number < 2,
            line=style,
            hovertemplate=hover,
        )
    figure.update_layout(
        title=heading(found),
        template="plotly_white",
        xaxis_title="tokens of the lineage",
        yaxis={"title": "learning rate", "rangemode": "tozero", "exponentformat": "e"},
    )
    return str(figure.to_html(include_plotlyjs=True, div_id="schedule"))
