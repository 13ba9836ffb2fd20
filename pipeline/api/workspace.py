"""A workspace in Python: its losses as data frames, the report's figures, its releases as models."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewarm.pipeline.api import studies
from rewarm.pipeline.api import updates as commands
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.verify import refuse_damaged
from rewarm.pipeline.lineage.weights import require_weights
from rewarm.pipeline.lineage.workspace import Workspace as StoredWorkspace
from rewarm.pipeline.record import UpdateRecord
from rewarm.pipeline.report.from_lineage import report_record
from rewarm.pipeline.terminal import Terminal

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Paths = str | Path | Sequence[str | Path]
Data = Mapping[str, Paths]
Settings = Mapping[str, Any]


class Workspace:
    """An existing workspace, in a local folder or a bucket.

    Every method reads the workspace's records anew, so an object stays valid while updates run. Raises ``UsageError``
    if there is no workspace at ``path``.
    """

    def __init__(self, path: str | Path) -> None:
        self._stored = StoredWorkspace.open(str(path))

    def __repr__(self) -> str:
        """Return the path and the current release."""
        lineage = Lineage(self._stored)
        return f"Workspace({self._stored.folder.uri!r}: {len(lineage.entries)} updates, release {lineage.release})"

    @property
    def release(self) -> str | None:
        """The id of the current release; None if no update has been released."""
        return Lineage(self._stored).release

    @property
    def updates(self) -> list[UpdateRecord]:
        """The records of the finished updates, oldest first."""
        return list(Lineage(self._stored).updates)

    def losses(self, of: str = "release", unit: str = "nats") -> "pd.DataFrame":
        """Return the validation losses: a row for each update, a column for each dataset, NaN if not measured.

        ``of`` is ``release`` or ``trunk``. ``unit`` is ``nats`` (per token) or ``bits`` (per byte of UTF-8 text).
        """
        import pandas as pd

        part = {"nats": "losses", "bits": "bits_per_byte"}.get(unit)
        if part is None or of not in ("release", "trunk"):
            raise ValueError(f"of={of!r}, unit={unit!r}: expected release or trunk, and nats or bits")
        records = self.updates
        rows = {record.id: dict(getattr(record, part).get(of, {})) for record in records}
        return pd.DataFrame.from_dict(rows, orient="index", dtype="float64").rename_axis("update")

    def forgetting(self) -> "pd.DataFrame":
        """Return how much each update raised the loss of each earlier dataset, in nats per token."""
        import pandas as pd

        rows = {record.id: dict(record.forgetting) for record in self.updates}
        return pd.DataFrame.from_dict(rows, orient="index", dtype="float64").rename_axis("update")

    def figures(self) -> "dict[str, go.Figure]":
        """Return the report's figures over the lineage by name; a notebook shows them inline."""
        from rewarm.pipeline.report.figures import workspace_figures
        from rewarm.pipeline.report.plotly_figures import draw

        figures = workspace_figures(report_record(Lineage(self._stored), {}))
        return {figure.id: draw(figure) for figure in figures if figure.traces}

    def load(
        self, update: str | int | None = None, **options: Any
    ) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        """Load a release as a model in evaluation mode and its tokenizer; the current release by default.

        ``options`` are those of ``AutoModelForCausalLM.from_pretrained``, such as ``dtype`` and ``device_map``. Raises
        ``DamagedError`` if the files differ from the record, and ``UsageError`` if the weights have been pruned.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        record = Lineage(self._stored).find(None if update is None else str(update))
        folder = require_weights(self._stored, record.id)
        refuse_damaged(self._stored, record)
        path = folder.local()
        model = AutoModelForCausalLM.from_pretrained(path, local_files_only=True, **options)
        model.eval()  # type: ignore[no-untyped-call]
        return model, AutoTokenizer.from_pretrained(path, local_files_only=True)


def init(
    path: str | Path,
    data: Data | None = None,
    *,
    recipe: str = "tiny",
    model: str | Path | None = None,
    settings: Settings | None = None,
    quiet: bool = False,
) -> Workspace:
    """Create a workspace and its base: pre-trained on ``data``, or imported from ``model``.

    ``model`` is a Hugging Face folder, or the name of a model on the Hub (ORG/NAME).

    ``recipe`` is the name of a preset or the path of a YAML file. ``settings`` override it by dotted key, as
    ``{"replay.share": 0.1}``. Raises ``UsageError`` if the base is refused before anything is spent.
    """
    with Terminal(quiet) as terminal:
        commands.init(str(path), recipe, assigned(data or {}), model, overrides(settings), False, terminal)
    return Workspace(path)


def update(
    path: "str | Path | Workspace", data: Data, *, settings: Settings | None = None, quiet: bool = False
) -> Workspace:
    """Ingest an arrival, update the model, and promote the release if it passes the gate.

    ``data`` maps names of new datasets to files or folders. An update that was interrupted resumes. The verdict is
    ``workspace.updates[-1].state``.
    """
    with Terminal(quiet) as terminal:
        commands.update(address(path), assigned(data), overrides(settings), False, terminal)
    return Workspace(address(path))


def plan(
    path: "str | Path | Workspace", data: Data, *, settings: Settings | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Measure the shift of an arrival and return the plan of its update with its estimated cost; nothing is written."""
    with Terminal(quiet) as terminal:
        return commands.plan(address(path), assigned(data), overrides(settings), None, terminal)


def study(
    path: "str | Path | Workspace",
    data: Data,
    *,
    grid: Mapping[str, Sequence[Any]],
    seeds: int = 1,
    name: str | None = None,
    settings: Settings | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train an arrival under every combination of the values in ``grid``, without promoting any; return the results.

    ``grid`` maps dotted keys of settings to values, as ``{"replay.share": [0.01, 0.05, 0.25]}``.
    """

    axes = [f"{key}={','.join(map(str, values))}" for key, values in grid.items()]
    with Terminal(quiet) as terminal:
        asked = studies.StudyRequest(assigned(data), axes, seeds=seeds, name=name, sets=overrides(settings))
        _, results = studies.study(address(path), asked, False, terminal)
    return results


def address(path: "str | Path | Workspace") -> str:
    """Return the address of a workspace that is given by path or as an object."""
    return path._stored.folder.uri if isinstance(path, Workspace) else str(path)  # of this module


def assigned(data: Data) -> list[str]:
    """Return datasets as the command line takes them: NAME=PATH, a name once for each path."""
    pairs = ((name, [paths] if isinstance(paths, str | Path) else paths) for name, paths in data.items())
    return [f"{name}={path}" for name, paths in pairs for path in paths]


def overrides(settings: Settings | None) -> list[str]:
    """Return settings as the command line takes them: KEY=VALUE, values in YAML's flow style."""
    import yaml

    def flow(value: Any) -> str:
        return yaml.safe_dump(value, default_flow_style=True, width=10**6).strip().removesuffix("...").strip()

    return [f"{key}={flow(value)}" for key, value in (settings or {}).items()]
