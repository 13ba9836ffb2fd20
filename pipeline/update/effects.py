"""Settings without effect: values on the command line that another setting overrides.

They are refused before anything is written, because a requested learning rate that is silently ignored costs an update.
Only settings of the current command are checked: a recipe may have values for kinds of training that it does not use.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.recipe.recipe import Recipe, given_names, setting_of
from rewarm.pipeline.record import UpdateRecord
from rewarm.stages.core.errors import UsageError
from rewarm.stages.ingest.filters.settings import RuleName
from rewarm.stages.train import CARRIED_ON, DECAYING, carried_settings


@dataclass(frozen=True)
class Rule:
    """Settings that are not read if ``applies`` is true; a name that ends in a dot covers its whole group."""

    names: tuple[str, ...]
    applies: Callable[[Recipe], bool]
    because: str  # formatted with the recipe as ``recipe``
    but: tuple[str, ...] = ()  # exceptions: names that are read anyway

    def covers(self, name: str) -> bool:
        """Return whether the rule is about a setting."""
        inside = any(name == one or (one.endswith(".") and name.startswith(one)) for one in self.names)
        return inside and name not in self.but


def not_applied(rule: RuleName) -> Rule:
    """Return the rule for the thresholds of a quality rule that is not applied."""
    return Rule(
        (f"ingest.rules.{rule.replace('-', '_')}.",),
        lambda r: rule not in r.ingest.rules.apply,
        f"ingest.rules.apply does not name {rule}",
    )


ALWAYS = (
    Rule(("anneal.",), lambda r: r.schedule.decays, "schedule.kind={recipe.schedule.kind} leaves nothing to anneal"),
    Rule(("anneal.",), lambda r: r.anneal.share == 0, "anneal.share=0: nothing is annealed", ("anneal.share",)),
    Rule(
        ("anneal.average_last",),
        lambda r: r.anneal.shape != "average" and not r.anneal.average_share,
        "anneal.average_share=0",
    ),
    Rule(("anneal.best_share",), lambda r: r.anneal.data != "best", "anneal.data={recipe.anneal.data}"),
    Rule(("anneal.replay_share",), lambda r: r.anneal.data != "replay", "anneal.data={recipe.anneal.data}"),
    Rule(
        ("schedule.constant_rate", "schedule.cooldown", "schedule.cooldown_share", "schedule.alpha"),
        lambda r: r.schedule.kind not in ("infinite", "auto"),
        "only schedule.kind=infinite reads it, but the kind is {recipe.schedule.kind}",
    ),
    Rule(("schedule.warm_in_share",), lambda r: r.train.keep_optimizer, "train.keep_optimizer=true: nothing is reset"),
    Rule(
        ("schedule.warm_in_share",),
        lambda r: r.schedule.rewarm and (r.schedule.restart or r.schedule.kind in (*DECAYING, "constant")),
        "the update warms up by its schedule (schedule.kind={recipe.schedule.kind})",
    ),
    Rule(("train.muon_momentum",), lambda r: r.train.optimizer != "muon", "train.optimizer={recipe.train.optimizer}"),
    Rule(("schedule.alpha",), lambda r: r.schedule.cooldown == "cosine", "schedule.cooldown=cosine"),
    Rule(
        ("schedule.final_ratio",),
        lambda r: r.schedule.kind not in (*DECAYING, "auto"),
        "schedule.kind={recipe.schedule.kind} does not decay; anneal.final_ratio sets the end of a release",
    ),
    Rule(("schedule.level",), lambda r: r.schedule.kind != "constant", "schedule.kind={recipe.schedule.kind}"),
    Rule(
        ("schedule.restart",),
        lambda r: r.schedule.kind == "constant" or (r.schedule.kind in ("cosine", "linear") and r.schedule.rewarm),
        "schedule.kind={recipe.schedule.kind} restarts in every update",
    ),
    Rule(
        ("schedule.peak_multiplier",),
        lambda r: not r.schedule.rewarm or (r.schedule.kind == "constant" and r.schedule.level == "min"),
        "no update re-warms",
    ),
    Rule(
        ("schedule.minimum_ratio",),
        lambda r: r.schedule.kind == "linear" and r.schedule.rewarm,
        "schedule.kind=linear ends at schedule.final_ratio of its peak (0 if that is null)",
    ),
    Rule(
        ("schedule.minimum_ratio",),
        lambda r: (
            r.schedule.kind in ("cosine", "autoregressive") and r.schedule.rewarm and r.schedule.final_ratio is not None
        ),
        "schedule.final_ratio={recipe.schedule.final_ratio} sets the end of the decay",
    ),
    Rule(("replay.",), lambda r: r.replay.share == 0, "replay.share=0: nothing is replayed", ("replay.share",)),
    Rule(
        ("replay.floor",),
        lambda r: r.replay.share != "auto" and r.replay.floor <= r.replay.share and r.replay.by != "recency",
        "replay.share={recipe.replay.share} is above it, and replay.by={recipe.replay.by} discounts nothing",
    ),
    Rule(("replay.half_life",), lambda r: r.replay.by != "recency", "replay.by={recipe.replay.by}"),
    Rule(("replay.position",), lambda r: r.replay.order == "reshuffled", "replay.order=reshuffled draws a new order"),
    Rule(("train.kl_weight",), lambda r: r.replay.share == 0, "replay.share=0: it only applies to replayed sequences"),
    Rule(
        ("train.skip_window", "train.skip_limit", "train.return_limit"),
        lambda r: r.train.skip_sigma is None,
        "train.skip_sigma=null: no step is skipped",
    ),
    Rule(("train.decay_embeddings",), lambda r: r.train.weight_decay == 0, "train.weight_decay=0: nothing decays"),
    Rule(("train.final_every",), lambda r: r.train.final_steps == 0, "train.final_steps=0"),
    Rule(("train.validate_first",), lambda r: r.train.validate_every == 0, "train.validate_every=0"),
    Rule(
        ("select.",),
        lambda r: not r.select.chooses and r.anneal.data != "best",
        "select.share=1: all of the arrival is read",
        ("select.share", "select.epochs"),
    ),
    Rule(
        ("select.reference", "select.examples", "select.characters", "select.features"),
        lambda r: r.select.by != "classifier",
        "select.by={recipe.select.by}",
    ),
    Rule(("select.model", "select.batch_size"), lambda r: r.select.by != "perplexity", "select.by={recipe.select.by}"),
    Rule(
        ("select.epochs",),
        lambda r: r.budget.update_tokens is not None,
        "budget.update_tokens={recipe.budget.update_tokens} sets the number of tokens; set it to null",
    ),
    Rule(
        ("gate.",),
        lambda r: not r.gate.enabled,
        "gate.enabled=false: nothing is compared",
        ("gate.enabled", "gate.trunk"),
    ),
    Rule(("gate.min_learning",), lambda r: not r.gate.require_learning, "gate.require_learning=false"),
    Rule(
        ("gate.max_forgetting_since_best",),
        lambda r: r.gate.max_forgetting is None and not any(r.gate.max_forgetting_by_dataset.values()),
        "no dataset has a limit (gate.max_forgetting=null) that it could multiply",
    ),
    Rule(
        ("gate.min_order",),
        lambda r: r.evaluate.task_documents == 0 and r.gate.min_order is not None,
        "evaluate.task_documents=0: word order is not tested",
    ),
    Rule(
        ("gate.max_task_drop", "gate.max_task_drop_by_task", "evaluate.seed"),
        lambda r: r.evaluate.task_documents == 0 and not r.evaluate.tasks,
        "evaluate.task_documents=0 and evaluate.tasks is empty: there are no tasks",
    ),
    Rule(
        ("evaluate.num_fewshot", "evaluate.limit", "evaluate.include_path"),
        lambda r: not r.evaluate.tasks,
        "evaluate.tasks is empty",
    ),
    Rule(
        ("evaluate.sample_tokens", "evaluate.sample_temperature"),
        lambda r: r.evaluate.samples == 0,
        "evaluate.samples=0: nothing is drawn",
    ),
    Rule(
        ("evaluate.all_datasets_every",),
        lambda r: r.evaluate.earlier_datasets is None,
        "evaluate.earlier_datasets=null: every update measures all",
    ),
    Rule(("evaluate.document_chars",), lambda r: r.evaluate.task_documents == 0, "evaluate.task_documents=0"),
    Rule(
        ("ingest.oversized",), lambda r: r.ingest.max_document_bytes is None, "ingest.max_document_bytes sets no limit"
    ),
    Rule(
        ("ingest.validation_cap",),
        lambda r: not r.gate.enabled or r.ingest.validation_cap <= r.ingest.validation_share,
        "a split grows beyond ingest.validation_share={recipe.ingest.validation_share:g} only up to a larger cap, and "
        "only for the gate",
    ),
    *(not_applied(name) for name in get_args(RuleName)),
    Rule(
        ("ingest.rules.fineweb.short_line",),
        lambda r: r.ingest.rules.fineweb.max_short_lines is None,
        "ingest.rules.fineweb.max_short_lines=null",
    ),
    Rule(
        ("ingest.rules.gopher_quality.stop_words",),
        lambda r: r.ingest.rules.gopher_quality.min_stop_words is None,
        "ingest.rules.gopher_quality.min_stop_words=null",
    ),
    Rule(("ingest.clean.keep_code",), lambda r: not r.ingest.clean.languages, "ingest.clean.languages keeps all"),
    Rule(
        (
            "ingest.clean.trust_language",
            "ingest.clean.min_language_letters",
            "ingest.clean.min_script_letters",
            "ingest.clean.max_language_rank",
        ),
        lambda r: not r.ingest.clean.detect_language,
        "ingest.clean.detect_language=false",
    ),
    Rule(
        ("ingest.clean.phone_region",),
        lambda r: "phone" not in r.ingest.clean.mask,
        "ingest.clean.mask does not name phone",
    ),
    Rule(
        ("tokenize.verify_documents",),
        lambda r: r.tokenize.backend == "tokenizers",
        "tokenize.backend=tokenizers is the reference",
    ),
    Rule(("cost.base_tokens",), lambda r: r.model.path is None, "the base was not imported, so its tokens are counted"),
    Rule(
        ("ingest.duplicates.",),
        lambda r: not r.ingest.duplicates.near,
        "ingest.duplicates.near=false",
        ("ingest.duplicates.near", "ingest.duplicates.latest_url", "ingest.duplicates.memory_mb"),
    ),
    Rule(
        ("ingest.decontaminate.",),
        lambda r: not r.ingest.decontaminate.enabled,
        "ingest.decontaminate.enabled=false",
        ("ingest.decontaminate.enabled",),
    ),
)
"""Settings that no update of the recipe reads."""

BASE = (
    Rule(
        ("schedule.peak_multiplier",),
        lambda r: r.schedule.kind in CARRIED_ON and not r.schedule.restart and r.model.path is None,
        "schedule.kind={recipe.schedule.kind} only warms up in the base, which has no multiplier; set schedule.peak",
    ),
    Rule(
        ("distill.",),
        lambda r: r.model.path is None,
        "only an imported model (--from) generates text",
        ("distill.tokens",),
    ),
    Rule(("distill.",), lambda r: r.distill.tokens == 0, "distill.tokens=0: no text is generated", ("distill.tokens",)),
    Rule(("distill.prompt_tokens",), lambda r: r.distill.prompts is None, "distill.prompts is null"),
    Rule(
        ("model.type", "model.config.", "tokenizer."),
        lambda r: r.model.path is not None,
        "the model and its tokenizer are imported",
    ),
    Rule(("tokenizer.vocab_size", "tokenizer.sample_bytes"), lambda r: r.tokenizer.path is not None, "tokenizer.path"),
    Rule(("budget.base_tokens",), lambda r: r.model.path is not None, "the base is imported, not trained"),
)
"""Settings that neither a base nor its updates read."""

UPDATE = (
    Rule(("budget.base_tokens",), lambda r: True, "the base is finished; use budget.update_tokens for an update"),
    Rule(
        ("schedule.warmup_share",),
        lambda r: not r.schedule.rewarm or (r.schedule.kind == "constant" and r.schedule.level == "min"),
        "the update does not re-warm",
    ),
)
"""Settings that a base reads and an update does not."""


def without_effect(recipe: Recipe, names: Sequence[str], lineage: Lineage | None = None) -> Iterator[tuple[str, str]]:
    """Yield each setting that would not be read, with the reason; None for ``lineage``: a new lineage."""
    rules = (*ALWAYS, *BASE) if lineage is None else (*ALWAYS, *UPDATE, *of_trunk(lineage))
    for name in names:
        for rule in rules:
            if rule.covers(name) and rule.applies(recipe):
                yield name, rule.because.format(recipe=recipe)
                break


def of_trunk(lineage: Lineage) -> tuple[Rule, ...]:
    """Return the rule for the peak of an update that decays from the rate at which the lineage's trunk ended."""
    followed = lineage.followed()
    rate = followed.rate(lineage.position) if followed else 0.0
    because = f"schedule.rewarm=false continues to decay from the trunk's learning rate, {rate:g}"
    return (Rule(("schedule.peak",), lambda r: rate > 0 and not (r.schedule.rewarm or r.schedule.restart), because),)


def refuse_without_effect(before: Recipe, recipe: Recipe, sets: Sequence[str], lineage: Lineage | None = None) -> None:
    """Raise ``UsageError`` if a setting that ``sets`` changed (from ``before`` to ``recipe``) would have no effect."""
    changed = [name for name in given_names(sets) if setting_of(before, name) != setting_of(recipe, name)]
    if found := list(without_effect(recipe, changed, lineage)):
        reasons = "; ".join(
            f"{name}={shown(setting_of(recipe, name))} would have no effect: {why}" for name, why in found
        )
        raise UsageError(f"--set {reasons}. Omit it, or change the setting that overrides it")


def refuse_carried(lineage: Lineage, recipe: Recipe) -> None:
    """Raise ``UsageError`` if learning-rate settings changed that a schedule in progress does not read.

    ``infinite`` and ``warmup-stable-decay`` are laid out once; updates continue them unchanged.
    """
    origin = began(lineage)
    if origin is None or origin.schedule is None or recipe.schedule.restart:
        return
    if recipe.schedule.kind != origin.schedule.kind:
        return
    made_with, now = origin.schedule.settings, recipe.schedule.identity()
    changed = [name for name in carried_settings(recipe.schedule.kind) if made_with.get(name, now[name]) != now[name]]
    if changed:
        values = ", ".join(f"schedule.{name}={shown(now[name])}" for name in changed)
        kept = ", ".join(f"schedule.{name}={shown(made_with[name])}" for name in changed)
        raise UsageError(
            f"{values} would have no effect: the {recipe.schedule.kind} schedule began in update {origin.id} with "
            f"{kept} and continues. Add schedule.restart=true to restart it, or keep the old values"
        )


def began(lineage: Lineage) -> UpdateRecord | None:
    """Return the update that laid out the schedule which the next one continues; None if there is none."""
    trained = [entry for entry in lineage.learned if entry.facts.schedule]
    if not trained or trained[-1].facts.schedule not in CARRIED_ON:
        return None
    laid = lineage.read(trained[-1].id).schedule
    records = (lineage.read(entry.id) for entry in trained)
    return next(record for record in records if record.schedule and laid and record.schedule.phases == laid.phases)


def shown(value: Any) -> str:
    """Format a value as in ``--set``."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
