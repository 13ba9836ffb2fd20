"""HTML rendering of the report: ``index.html`` for the workspace, and a page for each finished update.

The pages of a folder share its style, script and plotting library (``assets``); none of them needs a network. A page
that is rendered ``alone`` holds all three, so that it can be mailed or archived. Its plotting library is compressed,
and unpacked by the browser (DecompressionStream, in all browsers since 2023): 2 MB instead of 4.9.
"""

import base64
import hashlib
import re
import zlib
from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from rewarm.pipeline.escaping import visible
from rewarm.pipeline.report import formats, tables
from rewarm.pipeline.report.figures import Figure, most_telling, of_update, stages, update_figures, workspace_figures
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


def pages(record: WorkspaceRecord, wanted: Collection[str] | None = None, *, alone: bool = False) -> dict[str, str]:
    """The pages of ``wanted`` names (None: all) by their file's name; the index comes last.

    A pure function of ``record``. All text of the record is escaped, so names may hold any character. Records of a
    workspace without updates, without training or with an unfinished update give pages of what there is.
    """
    finished = {file_name(update.id): update for update in record.updates if update.state != "unfinished"}
    made = {
        name: _update_page(record, update, alone)
        for name, update in finished.items()
        if wanted is None or name in wanted
    }
    return {**made, INDEX: _index_page(record, alone)} if wanted is None or INDEX in wanted else made


@cache
def assets() -> dict[str, str]:
    """The files that the pages of a folder share, by name; a name changes with the file's content."""
    parts = {
        "page.css": (HERE / "page.css").read_text("utf-8"),
        "page.js": (HERE / "page.js").read_text("utf-8"),
        "plotly.js": get_plotlyjs(),
    }
    return {f"{Path(name).stem}-{_short(text)}{Path(name).suffix}": text for name, text in parts.items()}


def is_asset(name: str) -> bool:
    """Whether a file of that name is shared by pages of this or another version."""
    return re.fullmatch(r"(page|plotly)-[0-9a-f]{12}\.(css|js)", name) is not None


@cache
def edition() -> str:
    """A digest of all that pages are made with: templates, assets and the code of this package."""
    sources = sorted(path for path in HERE.iterdir() if path.suffix in (".html", ".css", ".js", ".py"))
    return _short("".join([*(path.read_text("utf-8") for path in sources), *assets()]))


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def file_name(update_id: str) -> str:
    """The name of an update's page."""
    return f"{update_id}.html"


def is_page(name: str) -> bool:
    """Whether a file of that name is a page of some update."""
    return re.fullmatch(r"\d{4,}-.*\.html", name) is not None


def _index_page(record: WorkspaceRecord, alone: bool) -> str:
    finished = [update for update in record.updates if update.state != "unfinished"]
    scores, left_out = tables.telling(tables.scores(tables.measured(record.updates)))
    return _render(
        "index.html",
        workspace_figures(record),
        alone,
        record=record,
        generated=record.generated,
        current=next((update for update in record.updates if update.id == record.release), None),
        notices=tables.notices(record),
        totals=tables.totals(record),
        graph=graph(record),
        matrix=tables.matrix(record),
        since=tables.since_arrival(record),
        names=most_telling(record),
        measured=tables.measured(record.updates),
        scores=scores,
        left_out=left_out,
        words=tables.WORDS,
        stages=stages(record),
        homes={name: update.id for update in finished for name in update.arrivals},
        outcome=lambda update: tables.outcome(record, update),
        compared=tables.compared,
    )


def compared_with(update: UpdateShown) -> str | None:
    """The id of the update whose scores stand beside those of this one, on its page."""
    return update.gate.against if update.gate else update.start


def neighbours(record: WorkspaceRecord, update: UpdateShown) -> tuple[str | None, str | None]:
    """The ids of the finished updates before and after this one."""
    place = record.finished.index(update.id)
    following = record.finished[place + 1 : place + 2]
    return record.finished[place - 1] if place else None, following[0] if following else None


def _update_page(record: WorkspaceRecord, update: UpdateShown, alone: bool) -> str:
    before, own = compared_with(update), of_update(record, update)
    others = [other for other in (*record.beside, *record.updates) if other.id == before]
    measured = tables.measured([*others, update])
    scores, left_out = tables.telling(tables.scores(measured) if update.lm_eval else [])
    previous, following = neighbours(record, update)
    return _render(
        "update.html",
        update_figures(record, update),
        alone,
        record=record,
        update=update,
        generated=update.finished,
        previous=previous,
        following=following,
        found=tables.outcome(own, update),
        names=own.names,
        measured=measured,
        scores=scores,
        left_out=left_out,
        promotions=[entry for entry in record.history if entry.update == update.id],
        compared=tables.compared(update),
        texts=[dataset for dataset in record.datasets if dataset.text and dataset.name in update.arrivals],
        lengths=tables.lengths,
        qualities=tables.qualities,
    )


def _render(template: str, figures: Sequence[Figure], alone: bool, **shown: Any) -> str:
    plots = {figure.id: figure for figure in figures}
    drawn = {name: asdict(figure) for name, figure in plots.items() if figure.traces}
    style, script, library = assets().items()
    return (
        _environment()
        .get_template(template)
        .render(
            **shown,
            figures=plots,
            data=drawn,  # the template's ``tojson`` escapes ``<``, ``>`` and ``&``
            shown_bars=BARS,
            alone=alone,
            style=Markup(style[1]) if alone else style[0],
            script=Markup(script[1]) if alone else script[0],
            library=(Markup(_library()) if alone else library[0]) if drawn else "",
            allowed_scripts=" ".join(_allowed(text) for text in (script[1], library[1])) if alone else "'self'",
            allowed_styles="'unsafe-inline'" if alone else "'self' 'unsafe-inline'",
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
    environment.filters["visible"] = visible
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
