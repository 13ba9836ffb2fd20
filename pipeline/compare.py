"""The comparison of any two models on a lineage's validation documents, by the paired tests of the gate.

A model is a release of a workspace, a Hugging Face folder, or a model on the Hub. Losses that the workspace has of both
models under the same conditions are reused; the rest is measured. Models with the lineage's tokenizer are compared in
nats per token; with any other tokenizer, each reads the documents in its own tokens, and bits per byte are compared.
"""

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from rewarm.pipeline.gate.mean_change import compare_losses
from rewarm.pipeline.gate.pairs import alike, pair_losses, pair_samples, read_losses, read_samples
from rewarm.pipeline.gate.sites import group, read_sites
from rewarm.pipeline.gate.statistics import Estimate, holm
from rewarm.pipeline.gate.verdict import LOSS_METRIC
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.recorded import recorded_copies, refuse_changed, refuse_changed_model
from rewarm.pipeline.lineage.weights import require_weights
from rewarm.pipeline.lineage.workspace import RECORD, Workspace
from rewarm.pipeline.recipe.recipe import Recipe, evaluation_places
from rewarm.pipeline.update.gate import LOSSES_DEPEND_ON
from rewarm.pipeline.update.hub import HUB, fetch, parse_model
from rewarm.pipeline.update.inputs import recipe_of
from rewarm.stages import evaluate, tokenize
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.shapes import stage_manifest
from rewarm.stages.core.storage import Folder
from rewarm.stages.evaluate.run import RELEASE, losses_file
from rewarm.stages.inference.actors import Pool, Reading
from rewarm.stages.tokenize.settings import TokenizeSettings
from rewarm.stages.train import check_length

BYTES_METRIC = "bits/byte"
OTHER = "other"  # name of the first model in a measurement of both


@dataclass(frozen=True)
class Model:
    """A model to compare."""

    name: str
    """As it was named."""
    folder: Folder
    """Hugging Face folder."""
    workspace: Workspace | None = None
    update: str = ""
    """The update whose release it is."""

    @property
    def title(self) -> str:
        """Its name, with the update of a release."""
        return f"{self.name} ({self.update})" if self.update and self.update not in self.name else self.name


@dataclass(frozen=True)
class Row:
    """Both models on one dataset or task; ``better``: a, b, or neither if no difference is significant."""

    kind: str
    name: str
    metric: str
    a: float
    b: float
    change: float
    """b − a: negative is better for losses, positive for scores."""
    p: float | None
    """Two-sided, of no difference; None: too few units."""
    p_adjusted: float | None
    """Corrected over all rows (Holm 1979)."""
    n: int
    units: int
    """Independent units among the documents or questions."""
    detectable: float | None
    """Minimum detectable effect, in the unit of ``change``; None: not finite."""
    better: str


@dataclass(frozen=True)
class Comparison:
    """The comparison of two models."""

    a: str
    b: str
    workspace: str
    alpha: float
    power: float
    rows: list[Row]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Home:
    """The lineage whose validation documents are read."""

    workspace: Workspace
    lineage: Lineage
    recipe: Recipe

    @property
    def datasets(self) -> list[str]:
        """Datasets with validation documents."""
        return [name for name in self.lineage.ingested() if self.tokens(name).files(".arrow")]

    def tokens(self, name: str) -> Folder:
        """Return the validation shards of a dataset, in the lineage's tokens."""
        return self.workspace.dataset(name) / "tokens" / "validation"

    def documents(self, name: str) -> Folder:
        """Return the validation documents of a dataset."""
        return self.workspace.dataset(name) / "validation"


def find_model(text: str, progress: Progress) -> Model:
    """Find the model that a user names; raises ``UsageError`` with what is expected."""
    for uri, update in (text, None), (text.rpartition("@")[0], text.rpartition("@")[2]):
        if uri and not text.startswith(HUB) and Folder(uri).exists(RECORD):
            workspace = Workspace.open(uri)
            found = Lineage(workspace).find(update).id
            return Model(text, workspace.update(found) / "release" / "model", workspace, found)
    if Path(text).is_dir():
        if not (Path(text) / "config.json").is_file():
            raise UsageError(f"{text}: neither a workspace ({RECORD}) nor a Hugging Face folder (config.json)")
        return Model(text, Folder(Path(text).absolute()))
    wanted = parse_model(text)
    if wanted is None:
        raise UsageError(
            f"{text}: expected a workspace (its current release), WORKSPACE@UPDATE, a Hugging Face folder, or a model "
            "on the Hub (ORG/NAME)"
        )
    return Model(text, Folder(fetch(wanted, progress).folder))


def find_home(models: Sequence[Model], on: str | None) -> Home:
    """Return the lineage whose validation documents are read: the named one, else the first model's that has one."""
    named = Workspace.open(on) if on is not None else next((one.workspace for one in models if one.workspace), None)
    if named is None:
        raise UsageError(
            "two folders have no validation documents: name the workspace that has them with --on WORKSPACE"
        )
    home = Home(named, Lineage(named), recipe_of(named))
    if not home.datasets:
        raise UsageError(f"{named.folder}: has no dataset with validation documents")
    return home


def compare(a: Model, b: Model, home: Home, scratch: Folder, progress: Progress) -> Comparison:
    """Compare two models; ``scratch`` is an empty folder that the cluster's machines can read and write."""
    kept = {name: pair for name in home.datasets if (pair := stored(home, a, b, name))}
    if kept:
        progress.note(f"losses on {', '.join(kept)}: as the workspace recorded them")
    again = [name for name in home.datasets if name not in kept]
    measured = measure(home, (a, b), again, scratch, progress) if again else {}
    found: list[tuple[str, str, str, Estimate]] = [
        ("loss", name, *paired(home, name, *(kept.get(name) or measured[name]))) for name in home.datasets
    ]
    tasks, notes = task_pairs(home, a, b)
    gate = home.recipe.gate
    rows = judged([*found, *tasks], gate.alpha, gate.power, gate.correction == "holm")
    if any(row.metric == BYTES_METRIC for row in rows):
        notes.append("bits per byte, because the models have different tokenizers: each reads the documents in its own")
    return Comparison(a.title, b.title, str(home.workspace.folder), gate.alpha, gate.power, rows, notes)


def stored(home: Home, a: Model, b: Model, name: str) -> tuple[pa.Table, pa.Table] | None:
    """Return recorded losses of both models on the same documents under the same conditions, if there are any."""
    for first in evaluations(home, a):
        for second in evaluations(home, b):
            ways = [stage_manifest(folder)["identity"]["settings"] for folder in (first, second)]
            if any(ways[0].get(key) != ways[1].get(key) for key in LOSSES_DEPEND_ON):
                continue
            tables = read_losses(first, name), read_losses(second, name)
            if tables[0] is not None and tables[1] is not None and alike(tables[0], tables[1]):
                for folder in (first, second):
                    refuse_changed(home.lineage, folder, f"losses/{losses_file(RELEASE, name)}")
                return tables[0], tables[1]
    return None


def evaluations(home: Home, model: Model) -> Iterator[Folder]:
    """Yield the evaluations of a release in its lineage: its own, and those by the gate of later updates."""
    if model.workspace is None or model.workspace.folder.uri != home.workspace.folder.uri:
        return
    folders = [home.workspace.update(entry.id) / "evaluation" for entry in home.lineage.entries]
    own = home.workspace.update(model.update) / "evaluation"
    for folder in (own, *(one / f"against-{model.update}" for one in folders)):
        if folder.committed():
            yield folder


def measure(
    home: Home, models: tuple[Model, Model], names: Sequence[str], scratch: Folder, progress: Progress
) -> dict[str, tuple[pa.Table, pa.Table]]:
    """Measure both models on datasets; the losses by document of each."""
    sets = [tokens_for(home, one, names, scratch / f"model-{place}", progress) for place, one in enumerate(models)]
    for one in models:
        check_length(one.folder.local(), home.recipe.train.seq_len)
    if sets[0] == sets[1]:
        run_evaluate(home, {OTHER: models[0], RELEASE: models[1]}, sets[0], scratch / "both", progress)
        tables = [{name: losses(scratch / "both", kind, name) for name in names} for kind in (OTHER, RELEASE)]
    else:
        tables = []
        for place, one in enumerate(models):
            out = scratch / f"model-{place}" / "evaluation"
            run_evaluate(home, {RELEASE: one}, sets[place], out, progress)
            tables.append({name: losses(out, RELEASE, name) for name in names})
    return {name: (tables[0][name], tables[1][name]) for name in names}


def losses(evaluation: Folder, model: str, dataset: str) -> pa.Table:
    """Read a model's losses by document on a dataset."""
    import pyarrow.parquet as pq

    return pq.read_table((evaluation / "losses").local(losses_file(model, dataset)))


def run_evaluate(
    home: Home, models: dict[str, Model], sets: list[evaluate.EvaluationSet], out: Folder, progress: Progress
) -> None:
    """Measure the losses of models on validation splits, without tasks."""
    recipe, lineage = home.recipe, home.lineage
    for one in models.values():
        if one.workspace is not None:
            require_weights(one.workspace, one.update)
            refuse_changed_model(Lineage(one.workspace), one.folder)
    gpus, actors = evaluation_places(recipe)
    mine = [one.folder for one in models.values() if one.workspace is home.workspace]
    recorded = recorded_copies(lineage, mine)
    settings = recipe.evaluate.model_copy(update={"tasks": (), "task_documents": 0, "samples": 0})
    with Pool(actors, gpus, evaluate.worker_environment(settings)) as pool:
        evaluate.run(
            {name: one.folder for name, one in models.items()},
            sets,
            out,
            settings,
            reading=Reading(recipe.train.seq_len, recipe.evaluate.batch_size, gpus, recorded),
            pool=pool,
            progress=progress,
        )


def tokens_for(
    home: Home, model: Model, names: Sequence[str], scratch: Folder, progress: Progress
) -> list[evaluate.EvaluationSet]:
    """Return the validation splits in a model's tokens: the lineage's shards, if its tokenizer is the lineage's."""
    same = model.workspace is not None and model.workspace.folder.uri == home.workspace.folder.uri
    tokenizer = home.workspace.tokenizer
    if not same:
        tokenizer = scratch / "tokenizer"
        tokenize.import_tokenizer(model.folder.local(), tokenizer)
        same = tokenize.tokenizer_digest(tokenizer) == tokenize.tokenizer_digest(home.workspace.tokenizer)
    if same:
        return [evaluate.EvaluationSet(name, home.tokens(name), home.documents(name)) for name in names]
    return [tokenized(home, name, tokenizer, scratch / name, progress) for name in names]


def tokenized(home: Home, name: str, tokenizer: Folder, scratch: Folder, progress: Progress) -> evaluate.EvaluationSet:
    """Tokenize a dataset's validation documents alone, with another tokenizer."""
    documents = home.documents(name)
    for file in documents.files(".parquet"):
        with documents.fetched(file) as source, (scratch / "documents").writing(file) as target:
            shutil.copyfile(source, target)
    tokenize.run(scratch, tokenizer, scratch / "tokens", TokenizeSettings(), progress)
    return evaluate.EvaluationSet(name, scratch / "tokens" / "train", documents)


def paired(home: Home, name: str, a: pa.Table, b: pa.Table) -> tuple[str, Estimate]:
    """Return the metric, and the change from ``a`` to ``b``, with the documents of a site as one unit."""
    sites = read_sites(home.documents(name)) if home.recipe.gate.units == "site" else {}
    if alike(b, a):
        return LOSS_METRIC, pair_losses(b, a, sites)
    assert a["doc_id"].equals(b["doc_id"]), name
    bits = [table["nats"].to_numpy() / math.log(2) for table in (b, a)]
    groups = group(b["doc_id"].to_pylist(), sites) if sites else None
    return BYTES_METRIC, compare_losses(bits[0], bits[1], b["num_bytes"].to_numpy(), groups)


def task_pairs(home: Home, a: Model, b: Model) -> tuple[list[tuple[str, str, str, Estimate]], list[str]]:
    """Return the tasks that both models have scores of, on the same questions, and notes on the others."""
    places = [next(evaluations(home, one), None) for one in (a, b)]
    if places[0] is None or places[1] is None:
        return [], [
            f"tasks: compared only between releases of {home.workspace.folder} that have scores of the same tasks"
        ]
    ways = [stage_manifest(folder)["identity"]["settings"] for folder in places if folder is not None]
    if any(ways[0].get(key) != ways[1].get(key) for key in ways[0] if key not in evaluate.APART):
        return [], ["tasks: the releases were evaluated under different settings, so their scores are not compared"]
    rows, missing = [], []
    for file in (places[1] / "samples").files(".jsonl"):
        task = file.removesuffix(".jsonl")
        first, second = read_samples(places[0], task), read_samples(places[1], task)
        estimate = pair_samples(second, first) if first and second else None
        if estimate is not None and second is not None:
            rows.append(("task", task, second.metric, estimate))
        elif second is not None:
            missing.append(task)
    notes = [f"tasks that {a.name} has no scores of on the same questions: {', '.join(missing)}"] if missing else []
    return rows, notes


def judged(found: Sequence[tuple[str, str, str, Estimate]], alpha: float, power: float, corrected: bool) -> list[Row]:
    """Test every pair for a difference in either direction, each at its level of the corrected ``alpha``."""
    values = [two_sided(estimate) for *_, estimate in found]
    known = [value for value in values if value is not None]
    adjusted = iter(holm(known) if corrected else known)
    level = alpha / max(1, len(known)) if corrected else alpha
    rows = []
    for (kind, name, metric, estimate), p in zip(found, values, strict=True):
        after = None if p is None else next(adjusted)
        gain = estimate.change if kind == "task" else -estimate.change
        better = ("b" if gain > 0 else "a") if after is not None and after <= alpha and gain else "neither"
        detectable = estimate.detectable(level / 2, power)
        rows.append(
            Row(
                *(kind, name, metric, estimate.current, estimate.candidate, estimate.change, p, after),
                *(estimate.n, estimate.units, detectable, better),
            )
        )
    return rows


def two_sided(estimate: Estimate) -> float | None:
    """Return p of no difference: twice the smaller one-sided p, at most 1; None: too few units."""
    above, below = estimate.p_above(0.0), estimate.p_below(0.0)
    return None if above is None or below is None else min(1.0, 2 * min(above, below))
