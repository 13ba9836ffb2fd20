"""Renders the record as one HTML file that needs nothing else: no network, no folder beside it."""

from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from pipeline.report import formats, tables
from pipeline.report.figures import Figure, dataset_names, figures, stages
from pipeline.report.record import WorkspaceRecord

BARS = 10  # languages, hosts … that are shown of a dataset


def render(record: WorkspaceRecord) -> str:
    """The report as one self-contained HTML document (about 5 MB, of which nearly all is the plotting library).

    A pure function of ``record``. All text of the record is escaped, so names may hold any character. Records of a
    workspace without updates, without training or with an unfinished update give a report of what there is.
    """
    folder = Path(__file__).parent
    plots = {figure.id: figure for figure in figures(record)}
    names = dataset_names(record)
    replays = [update for update in record.updates if update.replay and update.replay.by_dataset]
    return (
        _environment(folder)
        .get_template("page.html")
        .render(
            record=record,
            generated=_moment(record.generated),
            verdict=tables.verdict(record),
            names=names,
            matrix=tables.matrix(record),
            measured=tables.measured(record),
            scores=tables.scores(tables.measured(record)),
            replays=replays,
            replayed={name for update in replays if update.replay for name in update.replay.by_dataset},
            gaps=[update for update in record.updates[1:] if update.gap],
            stages=stages(record),
            texts=[dataset for dataset in record.datasets if dataset.text],
            lengths=tables.lengths,
            qualities=tables.qualities,
            shown_bars=BARS,
            figures=plots,
            data=_data(plots),
            style=_file(folder / "page.css"),
            script=_file(folder / "page.js"),
            plotly=Markup(get_plotlyjs()),
        )
    )


def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (
        formats.number,
        formats.score,
        formats.change,
        formats.direction,
        formats.count,
        formats.exact,
        formats.share,
        formats.duration,
        formats.setting,
    )
    environment.filters.update({function.__name__: function for function in filters})
    return environment


def _data(plots: dict[str, Figure]) -> dict[str, object]:
    """The figures that hold something, for page.js; the template's ``tojson`` escapes ``<``, ``>`` and ``&``."""
    return {name: asdict(figure) for name, figure in plots.items() if figure.traces}


def _file(path: Path) -> Markup:
    return Markup(path.read_text("utf-8"))


def _moment(iso: str) -> str:
    """``2026-03-01 14:05 UTC`` from an ISO 8601 time; anything else as it came."""
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".strip()
