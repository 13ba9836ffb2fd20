"""Presentation of a study: the papers' table in the terminal, and a page with plots."""

from pathlib import Path
from typing import Any

from rich.table import Table

from rewarm.pipeline.shift.objective import mean_loss
from rewarm.pipeline.study.results import Difference, Row, Spread, Study
from rewarm.pipeline.terminal import SafeConsole, compact, figures, names, short

PAGE = "index.html"
BITS = "bits/byte {}"  # of a dataset
BEHIND = "behind ★"
LESS_TELLING = ("seconds", "FLOPs", "tokens", "seeds", BEHIND)  # columns that go first on a narrow terminal, after BITS
BEFORE = "before the update"
WIDE = 10_000  # columns of a console on which every table has its natural width


def head(study: Study) -> list[str]:
    """The table's columns."""
    return [
        "row",
        "seeds",
        *(f"L({name})" for name in [*study.earlier, *study.arrivals]),
        "mean",
        *([BEHIND] if any(study.behind(row) for row in study.rows) else []),
        *(["score"] if scored_otherwise(study) else []),
        *tasks(study),
        *bits(study),
        "share",
        "tokens",
        "FLOPs",
        "seconds",
    ]


def scored_otherwise(study: Study) -> bool:
    """Return whether the rows are scored by another mean than the papers', in which old and new count half each."""
    alike = study.old_weight is None and len(study.earlier) == len(study.arrivals)
    return study.old_weight != 0.5 and not alike


def tasks(study: Study) -> list[str]:
    """The named lm-eval tasks that any row was asked."""
    return list(dict.fromkeys(task for row in study.rows for task in row.lm_eval))


def bits(study: Study) -> list[str]:
    """Return the columns of bits per byte; none if no row has them."""
    has = any(row.bits_per_byte for row in study.rows)
    return [BITS.format(name) for name in [*study.earlier, *study.arrivals]] if has else []


def behind(found: Difference | None) -> str:
    """``+0.012 ± 0.004``."""
    if found is None:
        return ""
    return f"{found.mean:+.3f}" + ("" if found.half is None else f" ± {found.half:.3f}")


def notes(study: Study) -> list[str]:
    """Return caveats of the table: baselines that differ from the papers', and unequal compute."""
    named = [f"{row.name}: {row.meaning}" for row in study.rows if row.meaning]
    lifted = [
        f"{row.name}: {row.share.mean:.2%} of the tokens were replayed, not {asked:.2%} (replay.floor, or rounding)"
        for row in study.rows
        if row.share is not None
        and isinstance(asked := row.settings.get("replay.share"), int | float)
        and abs(row.share.mean - asked) > max(0.1 * asked, 0.001)
    ]
    return [*named, *lifted, *study.objective, *([study.compute] if study.compute else [])]


def body(study: Study) -> list[list[str]]:
    """One line a row, the best one with a star."""
    return [cells(study, row) for row in study.rows]


def ordered(study: Study) -> list[list[str]]:
    """One line a row as people read them: the best one, the release before the update, and the others."""
    lines, best = body(study), study.best
    first = [line for line, row in zip(lines, study.rows, strict=True) if best is not None and row.name == best.name]
    return [*first, *([cells_before(study)] if study.before else []), *(line for line in lines if line not in first)]


def cells_before(study: Study) -> list[str]:
    """The cells of the release before the update, in the columns that it has."""
    names = [*study.earlier, *study.arrivals]
    halves = mean_loss(study.before, study.arrivals, 0.5)
    known = {f"L({name})": f"{study.before[name]:.3f}" for name in names if name in study.before}
    known |= {BITS.format(name): f"{study.bits_before[name]:.3f}" for name in names if name in study.bits_before}
    known |= {"row": BEFORE, "mean": f"{halves:.3f}"}
    known |= {"score": f"{mean_loss(study.before, study.arrivals, study.old_weight):.3f}"}
    return [known.get(title, "") for title in head(study)]


def cells(study: Study, row: Row) -> list[str]:
    """A row's cells as text."""
    losses = [row.losses.get(name) for name in [*study.earlier, *study.arrivals]]
    scored = [f"{row.score:.3f}"] if scored_otherwise(study) else []
    best = study.best is not None and row.name == study.best.name
    marks = [" ★"] if best else []
    marks += [" †"] if row.meaning else []
    marks += [f" ({row.stopped} stopped early)"] if row.stopped else []
    return [
        f"{row.name}{''.join(marks)}",
        str(len(row.seeds)),
        *(shown(loss) for loss in losses),
        shown(Spread(row.mean, row.mean_spread)),
        *([behind(study.behind(row))] if BEHIND in head(study) else []),
        *scored,
        *(shown(row.lm_eval.get(task)) for task in tasks(study)),
        *(shown(row.bits_per_byte.get(name)) for name in [*study.earlier, *study.arrivals] if bits(study)),
        "" if row.share is None else f"{row.share.mean:.2%}",
        short(row.tokens),
        f"{row.flops:.2e}",
        f"{row.seconds:.0f}",
    ]


def shown(value: Spread | None) -> str:
    """``4.512 ± 0.004``."""
    if value is None:
        return ""
    return f"{value.mean:.3f}" + ("" if value.spread is None else f" ± {value.spread:.3f}")


def table(study: Study, width: int = 200) -> Table:
    """Return the table for a terminal of ``width`` columns; what has no room is left out, and named below."""
    left_out: list[str] = []
    made = laid_out(study, left_out)
    for title in (*bits(study), *LESS_TELLING):
        if SafeConsole(width=WIDE).measure(made).maximum > width:
            left_out.append(title)
            made = laid_out(study, left_out)
    return made


def laid_out(study: Study, left_out: list[str]) -> Table:
    """Return the table without some of its columns."""
    caption = [
        "Loss of the release, nats per token of the full validation split; mean ± standard deviation over seeds",
        *(
            [f"{BEHIND}: mean difference over the seeds of both rows ± half its 95 % interval (Student's t)"]
            if any((one := study.behind(row)) is not None and one.half is not None for row in study.rows)
            else []
        ),
        *(f"† {note}" if note.split(":")[0] in marked(study) else note for note in notes(study)),
        *([f"not shown for lack of room: {', '.join(left_out)} (--json has them)"] if left_out else []),
    ]
    made = compact(f"Study {study.name}", "\n".join(caption))
    kept = [number for number, title in enumerate(head(study)) if title not in left_out]
    names(made, head(study)[0])
    figures(made, *(head(study)[number] for number in kept[1:]))
    for line in ordered(study):
        made.add_row(*(line[number] for number in kept))
    return made


def marked(study: Study) -> set[str]:
    """The rows that are not what the papers call by their names."""
    return {row.name for row in study.rows if row.meaning}


def page(study: Study, forecast: list[str]) -> str:
    """Return the study as one self-contained HTML file."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        study=study,
        plots=plots(study),
        head=head(study),
        body=ordered(study),
        best=study.best.name if study.best else None,
        notes=notes(study),
        forecast=forecast,
        style=Markup((folder.parent / "report" / "page.css").read_text("utf-8")),
        plotly=Markup(get_plotlyjs()),
        script=Markup((folder / "page.js").read_text("utf-8")),
    )


def plots(study: Study) -> list[dict[str, Any]]:
    """Loss against every setting of the grid that is a number, and all rows as old against new."""
    made = [{"title": f"Loss against {key}", "html": against(study, key)} for key in numbers(study)]
    if study.earlier:
        made.append({"title": "Forgetting against learning", "html": trade(study)})
    return made


def numbers(study: Study) -> list[str]:
    """Settings that take two numbers or more in the grid."""
    rows = [row.settings for row in study.rows if row.kind == "grid"]
    keys = dict.fromkeys(key for settings in rows for key in settings)
    return [
        key
        for key in keys
        if len({row[key] for row in rows if isinstance(row.get(key), int | float)}) > 1
        and all(isinstance(row.get(key), int | float) for row in rows)
    ]


def against(study: Study, key: str) -> Any:
    """Plot losses over one setting: one line per dataset and combination of the other settings."""
    import plotly.graph_objects as go

    figure = go.Figure()
    grid = [row for row in study.rows if row.kind == "grid"]
    others = dict.fromkeys(tuple((name, value) for name, value in row.settings.items() if name != key) for row in grid)
    for other in others:
        members = sorted(
            (row for row in grid if all(row.settings[name] == value for name, value in other)),
            key=lambda row: row.settings[key],
        )
        suffix = "".join(f", {name}={value}" for name, value in other)
        for name in [*study.earlier, *study.arrivals]:
            points = [(row.settings[key], row.losses[name]) for row in members if name in row.losses]
            figure.add_scatter(
                x=[place for place, _ in points],
                y=[loss.mean for _, loss in points],
                error_y={"type": "data", "array": [loss.spread or 0.0 for _, loss in points]},
                mode="lines+markers",
                name=name + suffix,
            )
    for row in study.rows:
        if row.kind == "joint":
            for name, loss in row.losses.items():
                figure.add_hline(y=loss.mean, line_dash="dot", line_color="#8b95a5", annotation_text=f"joint, {name}")
    return drawn(figure, key, "Loss (nats per token)")


def trade(study: Study) -> Any:
    """Every row as a point: mean loss of the earlier datasets against that of the arrival."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for row in study.rows:
        old = [row.losses[name].mean for name in study.earlier if name in row.losses]
        new = [row.losses[name].mean for name in study.arrivals if name in row.losses]
        if old and new:
            where = {"x": [sum(new) / len(new)], "y": [sum(old) / len(old)]}
            figure.add_scatter(**where, mode="markers", name=row.name, marker={"size": 10})
    return drawn(figure, "Loss on the arrival (nats per token)", "Loss on earlier data (nats per token)")


def drawn(figure: Any, x_title: str, y_title: str) -> Any:
    """A plotly figure as HTML without the library, transparent so that it works on light and dark backgrounds."""
    from markupsafe import Markup

    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "#7d8797"},
        margin={"l": 64, "r": 14, "t": 20, "b": 60},
        height=420,
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        xaxis={"title": x_title, "gridcolor": "rgba(128,128,128,0.25)", "zeroline": False},
        yaxis={"title": y_title, "gridcolor": "rgba(128,128,128,0.25)", "zeroline": False},
    )
    html: str = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True}
    )
    return Markup(html)
