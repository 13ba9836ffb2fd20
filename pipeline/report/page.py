"""HTML rendering of the report: ``index.html`` for the workspace, and a page for each finished update.

Every page is one self-contained file that needs no network, so that an update's page can be mailed or archived
alone. The plotting library is most of it; compressed, and unpacked by the browser
(DecompressionStream, in all browsers since 2023), it takes 2 MB a page instead of 4.9.
"""

import base64
import hashlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from rewarm.pipeline.report import formats, tables
from rewarm.pipeline.report.figures import Figure, dataset_names, stages, update_figures, workspace_figures
from rewarm.pipeline.report.lineage_graph import graph
from rewarm.pipeline.report.record import UpdateShown, WorkspaceRecord

INDEX = "index.html"
HERE = Path(__file__).parent
BARS = 10  # languages, hosts … that are shown of a dataset
FILTERS = (
    formats.number,
    formats.score,
    formats.change,
    formats.direction,
    formats.count,
    formats.exact,
    formats.share,
    formats.duration,
    formats.probability,
    formats.setting,
    formats.result,
)


def pages(record: WorkspaceRecord) -> dict[str, str]:
    """All pages by their file's name, each one self-contained HTML document; the index comes last.

    A pure function of ``record``. All text of the record is escaped, so names may hold any character. Records of a
    workspace without updates, without training or with an unfinished update give pages of what there is.
    """
    finished = [update for update in record.updates if update.state != "unfinished"]
    made = {file_name(update.id): _update_page(record, finished, place) for place, update in enumerate(finished)}
    return {**made, INDEX: _index_page(record)}


def file_name(update_id: str) -> str:
    """The name of an update's page."""
    return f"{update_id}.html"


def is_page(name: str) -> bool:
    """Whether a file of that name is a page of some update."""
    return re.fullmatch(r"\d{4,}-.*\.html", name) is not None


def _index_page(record: WorkspaceRecord) -> str:
    finished = [update for update in record.updates if update.state != "unfinished"]
    return _render(
        "index.html",
        workspace_figures(record),
        record=record,
        generated=record.generated,
        current=next((update for update in record.updates if update.id == record.release), None),
        notices=tables.notices(record),
        totals=tables.totals(record),
        graph=graph(record),
        matrix=tables.matrix(record),
        since=tables.since_arrival(record),
        names=dataset_names(record),
        measured=tables.measured(record.updates),
        scores=tables.scores(tables.measured(record.updates)),
        stages=stages(record),
        homes={name: update.id for update in finished for name in update.arrivals},
        outcome=lambda update: tables.outcome(record, update),
        compared=tables.compared,
    )


def _update_page(record: WorkspaceRecord, finished: Sequence[UpdateShown], place: int) -> str:
    update = finished[place]
    before = update.gate.against if update.gate else update.start
    measured = tables.measured([other for other in finished if other.id in (before, update.id)])
    return _render(
        "update.html",
        update_figures(record, update),
        record=record,
        update=update,
        generated=update.finished,
        previous=finished[place - 1] if place else None,
        following=finished[place + 1] if place + 1 < len(finished) else None,
        found=tables.outcome(record, update),
        names=dataset_names(record),
        measured=measured,
        scores=tables.scores(measured) if update.lm_eval else [],
        promotions=[entry for entry in record.history if entry.update == update.id],
        compared=tables.compared(update),
        texts=[dataset for dataset in record.datasets if dataset.text and dataset.name in update.arrivals],
        lengths=tables.lengths,
        qualities=tables.qualities,
    )


def _render(template: str, figures: Sequence[Figure], **shown: Any) -> str:
    plots = {figure.id: figure for figure in figures}
    drawn = {name: asdict(figure) for name, figure in plots.items() if figure.traces}
    script = (HERE / "page.js").read_text("utf-8")
    return (
        _environment()
        .get_template(template)
        .render(
            **shown,
            figures=plots,
            data=drawn,  # the template's ``tojson`` escapes ``<``, ``>`` and ``&``
            shown_bars=BARS,
            style=Markup((HERE / "page.css").read_text("utf-8")),
            script=Markup(script),
            library=Markup(_library()) if drawn else "",
            allowed_scripts=" ".join(_allowed(text) for text in (script, get_plotlyjs())),
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({function.__name__: function for function in FILTERS})
    environment.filters["moment"] = _moment
    environment.filters["page"] = lambda update_id: quote(file_name(update_id))
    return environment


@cache
def _library() -> str:
    """The plotting library, compressed, in base64; page.js unpacks it."""
    return base64.b64encode(zlib.compress(get_plotlyjs().encode(), 9)).decode()


@cache
def _allowed(script: str) -> str:
    """A script by its hash, for the page's content security policy: no other script runs in it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _moment(iso: str) -> str:
    """``2026-03-01 14:05 UTC`` from an ISO 8601 time; anything else as it came."""
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".strip()
