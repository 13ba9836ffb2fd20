"""Make a plan, and put its choices where a recipe says ``auto``.

rewarm plan WORKSPACE --data NAME=PATH
"""

import json
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import prod
from typing import Any

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.plan.cost import Forecast, History, Work, forecast, retraining, storage
from rewarm.pipeline.plan.studied import SHARE, studied_share
from rewarm.pipeline.plan.survey import Survey, survey
from rewarm.pipeline.recipe.recipe import Recipe, apply_settings, evaluation_places
from rewarm.pipeline.record import Training, UpdateRecord
from rewarm.pipeline.shift.choices import Choice, Situation, base_choices, choose
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.core.temporary import temporary
from rewarm.stages.ingest import InputFile
from rewarm.stages.ingest.removals import describe
from rewarm.stages.train import DECAYING, check_length

AUTO = "auto"
AUTOMATIC = ("replay.share", "schedule.kind")  # settings that take ``auto``


@dataclass(frozen=True)
class Plan:
    """Measurements, choices and predictions of a plan."""

    survey: Survey
    choices: dict[str, Choice]
    predicted: Forecast
    storage: dict[str, float | None]
    retrain: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return JSON types, with shift, choices and predictions at the top level."""
        predicted = asdict(self.predicted)
        return {
            "shift": asdict(self.survey.shift),
            "choices": {name: asdict(choice) for name, choice in self.choices.items()},
            **predicted,
            "storage": self.storage,
            "retrain": self.retrain,
            "arrival": asdict(self.survey.amount),
            "removals": [removal.to_json() for removal in self.survey.removals],
        }


def make_plan(
    lineage: Lineage,
    inputs: Mapping[str, Sequence[InputFile]],
    recipe: Recipe,
    given: Collection[str] | None,
    progress: Progress,
) -> Plan:
    """Sample the arrival, measure its shift, choose and predict; needs Ray; writes only temporary files.

    ``given`` names settings that stay as the recipe has them, whatever the plan would choose; None: all but those that
    it leaves open. Raises ``UsageError`` if the lineage has no base, or the arrival no documents.
    """
    require_base(lineage)
    check_length(lineage.trunk().local(), recipe.train.seq_len)
    with scratch_of(lineage) as scratch:
        found = survey(lineage, inputs, recipe, scratch, progress)
    for removal in found.removals:
        over = removal.counts_against > recipe.ingest.max_removed
        progress.note(f"of what was read, {describe(removal)}" + (": an update would be refused" if over else ""))
    choices = choose(found.shift, situation(lineage, recipe))
    for name in choices if given is None else choices.keys() & set(given):
        choices[name] = kept(setting(recipe, name), choices[name])
    return predict(lineage, recipe, found, choices)


def require_base(lineage: Lineage) -> None:
    """Raise ``UsageError`` if the lineage has no base from which an update could start."""
    if lineage.head is None:
        raise UsageError(
            f"{lineage.workspace.folder}: the workspace has no base yet; finish `rewarm init` before planning an update"
        )


def kept(value: Any, choice: Choice) -> Choice:
    """Return a given value with the plan's own choice as a remark, or the choice if both are the same."""
    if value in (AUTO, choice.value):
        return choice
    return Choice(value, f"as given; the plan's own choice is {json.dumps(choice.value)}: {choice.because}")


@contextmanager
def scratch_of(lineage: Lineage) -> Iterator[Folder]:
    """Provide a temporary folder; on a cluster of several machines it is next to the workspace, visible to all."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if len(nodes) == 1:
        with temporary("plan") as scratch:
            yield Folder(scratch)
        return
    beside = lineage.workspace.folder.at(f"../rewarm-plan-{uuid.uuid4().hex}")
    try:
        yield beside
    finally:
        beside.delete()


def predict(lineage: Lineage, recipe: Recipe, found: Survey, choices: dict[str, Choice]) -> Plan:
    """Predict an update with these choices."""
    assert lineage.head is not None
    amount, workers = found.amount, recipe.train.num_workers
    gpus, _ = evaluation_places(recipe)
    imported = not lineage.entries[0].facts.schedule
    brought = {name: lineage.read(entry.id).data[name] for name, entry in lineage.datasets().items()}
    validation = sum(part.tokenize.validation_tokens for part in brought.values())
    work = Work(
        tokens=amount.tokens,
        text_bytes=amount.text_bytes,
        validation_tokens=validation + amount.validation_tokens,
        share=choices["replay.share"].value if lineage.datasets() else 0.0,
        budget=recipe.budget.update_tokens,
        anneal_share=0.0 if choices["schedule.kind"].value in DECAYING else choices["anneal.share"].value,
        inside=Fraction(0) if choices["schedule.kind"].value in DECAYING else recipe.anneal.inside,
        seq_len=recipe.train.seq_len,
        global_batch=recipe.train.global_batch,
        workers=workers,
        scales=gpus,
    )
    predicted = forecast(work, history(lineage), recipe.cost)
    planned = predicted.tokens["new"] + predicted.tokens["replayed"]
    weights, parameters = weigh(lineage.trunk())
    return Plan(
        found,
        choices,
        predicted,
        storage(
            amount.tokens + amount.validation_tokens,
            amount.token_bytes,
            amount.text_bytes * amount.stored_share,
            weights,
            parameters,
            recipe.train.keep_checkpoints,
            recipe.cost,
        ),
        retraining(lineage.position, imported, planned, predicted.tokens_per_second, workers, recipe.cost),
    )


def situation(lineage: Lineage, recipe: Recipe) -> Situation:
    """Return the facts about the lineage that the rules need."""
    trained = [entry for entry in lineage.learned if entry.facts.schedule]
    return Situation(
        has_data=bool(lineage.datasets()),
        follows=trained[-1].facts.schedule if trained else None,
        budget=recipe.budget.update_tokens,
        anneal_share=recipe.anneal.share,
    )


def history(lineage: Lineage) -> History | None:
    """Return the measurements of the last trained update."""
    learned = lineage.learned
    trained = [place for place, entry in enumerate(learned) if entry.facts.schedule]
    if not trained:
        return None
    measured = [lineage.read(entry.id) for entry in learned[: trained[-1] + 1]]
    last, train = measured[-1], measured[-1].train or Training()
    return History(
        update=last.id,
        tokens=last.tokens.new + last.tokens.replayed,
        steps=train.steps,
        annealed=last.tokens.annealed,
        tokens_per_second=train.tokens_per_second,
        world_size=train.world_size,
        seconds=last.seconds,
        text_bytes=sum(part.ingest.num_bytes + part.ingest.validation_bytes for part in last.data.values()),
        validation_tokens=sum(validation_tokens(update) for update in measured),
    )


def validation_tokens(update: UpdateRecord) -> int:
    """Tokens of the validation splits that were new in an update."""
    return sum(part.tokenize.validation_tokens for part in update.data.values())


def weigh(model: Folder) -> tuple[int, int]:
    """Bytes of a model's folder, and its parameters."""
    from safetensors import safe_open

    path = model.local()
    parameters = 0
    for file in path.glob("*.safetensors"):
        with safe_open(file, "np") as tensors:
            parameters += sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return sum(file.stat().st_size for file in path.iterdir()), parameters


# -- auto --------------------------------------------------------------------------------------------------------


def setting(recipe: Recipe, name: str) -> Any:
    """Return a setting by its dotted name; ``auto`` if the recipe has no such setting."""
    part, _, field = name.partition(".")
    return getattr(getattr(recipe, part, None), field, AUTO)


def left_open(recipe: Recipe) -> list[str]:
    """Return the settings that the recipe leaves to the plan."""
    return [name for name in AUTOMATIC if setting(recipe, name) == AUTO]


def resolve(recipe: Recipe, choices: Mapping[str, Choice]) -> Recipe:
    """Return the recipe with each ``auto`` replaced by the plan's value."""
    return apply_settings(recipe, [f"{name}={json.dumps(choices[name].value)}" for name in left_open(recipe)])


def resolve_auto(
    lineage: Lineage,
    inputs: Mapping[str, Sequence[InputFile]],
    recipe: Recipe,
    stored: dict[str, Any] | None,
    progress: Progress,
    digests: Mapping[str, str] | None = None,
) -> tuple[Recipe, dict[str, Any] | None]:
    """Return the recipe with every ``auto`` resolved, and the plan as JSON; None if nothing was planned.

    ``stored`` is the plan that an unfinished update began with; it is kept, so that resuming gives the same values.
    ``digests``, of the arrival's files, find a study of the same arrival, whose share goes before the plan's.
    """
    if not left_open(recipe):
        return recipe, stored
    if stored is not None:
        return resolve(recipe, {name: Choice(**choice) for name, choice in stored["choices"].items()}), stored
    if not lineage.entries:
        return resolve(recipe, base_choices()), None
    plan = make_plan(lineage, inputs, recipe, None, progress)
    if digests is not None and (measured := studied_share(lineage, digests)) is not None:
        plan.choices[SHARE] = measured
    for name in left_open(recipe):
        progress.note(f"plan: {name} = {plan.choices[name].value}: {plan.choices[name].because}")
    return resolve(recipe, plan.choices), plan.to_json()
