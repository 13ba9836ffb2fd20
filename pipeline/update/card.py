"""The model card of a release: the front matter for the Hugging Face Hub, and the text."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml

from rewarm.pipeline.lineage.samples import read_samples, telling
from rewarm.pipeline.lineage.workspace import CARD, Workspace
from rewarm.pipeline.recipe.settings import UNKNOWN, CardSettings
from rewarm.pipeline.record import Entry, UpdateRecord
from rewarm.pipeline.update import card_text
from rewarm.stages import ingest
from rewarm.stages.core.digests import digest_file
from rewarm.stages.core.shapes import understood
from rewarm.stages.core.storage import Folder

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from rewarm.pipeline.update.context import UpdateContext

SAMPLED = 4  # datasets whose samples are in a card
LANGUAGE_SHARE = 0.05  # share of the documents below which a detected language is likely a detection error
LANGUAGE = re.compile(r"[a-z]{2,3}")
HUB_CACHE = re.compile(r"(^|/)models--(?P<org>[\w.-]+?)--(?P<name>[\w.-]+)(/|$)")


def write_card(context: "UpdateContext", done: UpdateRecord) -> str:
    """Write the card beside the release's weights, which are complete and digested by then; returns its digest."""
    recipe = context.recipe
    imported = recipe.model.path is not None
    card = make_card(context.workspace, context.lineage.entries, done, recipe.card, imported)
    model = context.folder / "release" / "model"
    model.write(CARD, card.encode())
    return digest_file(model, CARD).digest


def make_card(
    workspace: Workspace, entries: Sequence[Entry], update: UpdateRecord, settings: CardSettings, imported: bool
) -> str:
    """Build the card of an update's release; ``entries`` are the earlier updates, some of which it builds on."""
    from huggingface_hub import ModelCardData

    earlier = parents(entries, update)
    if imported:
        settings = with_origin(settings, workspace, (earlier[0] if earlier else update).id)
    name = settings.name or f"{workspace.folder.name} {update.id}"
    datasets = [*(name for one in earlier for name in one.facts.datasets), *update.datasets]
    kinds = {"imported-base": imported, "adopted": update.adopted is not None}
    tags = ["rewarm", "continual-pretraining", *(kind for kind, holds in kinds.items() if holds), *settings.tags]
    data = ModelCardData(
        license=settings.license,
        license_name=settings.license_name,
        license_link=settings.license_link,
        language=list(settings.language) or languages(workspace, datasets) or None,
        base_model=settings.base_model,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=tags,
        model_name=name,
        eval_results=results(update) or None,
    )
    drawn = telling(read_samples(workspace, update), update.datasets, settings.samples, SAMPLED)
    parts = card_text.sections(name, earlier, update, settings.intended_use, imported, drawn)
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def with_origin(settings: CardSettings, workspace: Workspace, base: str) -> CardSettings:
    """Return the settings, with a missing licence and base model taken from the imported base.

    Both come from the card of the imported model; the base model's id also from its path in the Hub's cache,
    ``…/models--ORG--NAME/snapshots/…``.
    """
    found: dict[str, str] = {}
    said = card_data(workspace.update(base) / "trunk" / "model")
    if settings.license == UNKNOWN:
        licence = {name: said.get(name) for name in ("license", "license_name", "license_link")}
        found |= {name: value for name, value in licence.items() if isinstance(value, str)}
    if settings.base_model is None and (base_model := hub_id(workspace) or said.get("base_model")):
        found["base_model"] = base_model
    return settings.model_copy(update=found)


def card_data(model: Folder) -> dict[str, Any]:
    """Read the front matter of the card in a model's folder; empty if there is no readable card."""
    from huggingface_hub import ModelCard

    if not model.exists(CARD):
        return {}
    try:
        card: Any = ModelCard(model.read(CARD).decode(), ignore_metadata_errors=True)
    except (ValueError, yaml.YAMLError):
        return {}
    return dict(card.data.to_dict())


def hub_id(workspace: Workspace) -> str | None:
    """Return ``ORG/NAME`` of a model that was imported from the Hub's cache; None for other models."""
    path = workspace.record().get("recipe", {}).get("model", {}).get("path") or ""
    found = HUB_CACHE.search(path)
    return f"{found['org']}/{found['name']}" if found else None


def parents(entries: Sequence[Entry], update: UpdateRecord) -> list[Entry]:
    """Return the chain of updates that this one builds on, base first, without later updates."""
    places = {one.id: place for place, one in enumerate(entries)}
    before = [place for place, one in enumerate(entries) if one.number < update.number]
    place, follows, found = len(before), update.follows, list[Entry]()
    while place:
        place = places.get(follows, place - 1) if follows is not None else place - 1
        found.append(entries[place])
        follows = entries[place].facts.follows
    return found[::-1]


def languages(workspace: Workspace, datasets: Sequence[str]) -> list[str]:
    """Return the languages of the lineage's training documents, most common first."""
    counts: Counter[str] = Counter()
    for name in dict.fromkeys(datasets):
        folder = workspace.dataset(name)
        if folder.exists(ingest.ACCOUNT):
            with understood(f"{folder}/{ingest.ACCOUNT}"):
                counts.update({str(name): int(n) for name, n in folder.read_json(ingest.ACCOUNT)["languages"].items()})
    total = counts.total()
    common = [name for name, count in counts.most_common() if count >= LANGUAGE_SHARE * total]
    return [name for name in common if LANGUAGE.fullmatch(name) and name != "und"]


def results(update: UpdateRecord) -> "list[EvalResult]":
    """Return losses on every dataset's validation split and lm-eval scores, as the Hub's model-index."""
    found = []
    for name, loss in update.losses.get("release", {}).items():
        found.append(result(name, f"{name} (held-out documents)", "loss", "Loss (nats per token)", loss))
        if (bits := update.bits_per_byte.get("release", {}).get(name)) is not None:
            found.append(result(name, f"{name} (held-out documents)", "bits_per_byte", "Bits per byte", bits))
    for task, metric, value in card_text.scores(update):
        if "stderr" not in metric:
            found.append(result(task, task, metric, metric, value))
    return found


def result(kind: str, title: str, metric: str, metric_title: str, value: float) -> "EvalResult":
    """Return one metric of the model-index."""
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type="text-generation",
        task_name="Text generation",
        dataset_type=kind,
        dataset_name=title,
        metric_type=metric,
        metric_name=metric_title,
        metric_value=round(value, 6),
    )
