"""Settings that nothing would read are refused, with the setting that overrules them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from records import record

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import apply_settings, load_recipe, presets
from rewarm.pipeline.record import UpdateRecord
from rewarm.pipeline.update.effects import ALWAYS, BASE, UPDATE, refuse_carried, refuse_without_effect, without_effect
from rewarm.pipeline.update.inputs import create, recipe_of
from rewarm.stages.core.errors import UsageError
from rewarm.stages.train import schedule_for

TOKENS = 100_000
Call = Callable[..., tuple[int, str, str]]
# Of an update: what is asked for, the setting that is refused, and why
UNREAD = [
    (
        ["schedule.kind=cosine", "schedule.cooldown_share=0.3"],
        "schedule.cooldown_share",
        "only schedule.kind=infinite",
    ),
    (["schedule.kind=cosine", "anneal.share=0.3"], "anneal.share", "leaves nothing to anneal"),
    (["schedule.kind=cosine", "schedule.restart=true"], "schedule.restart", "restarts in every update"),
    (["schedule.kind=linear", "schedule.minimum_ratio=0.5"], "schedule.minimum_ratio", "schedule.final_ratio"),
    (["schedule.final_ratio=0.5"], "schedule.final_ratio", "does not decay"),
    (["schedule.level=min"], "schedule.level", "schedule.kind=infinite"),
    (["schedule.alpha=3"], "schedule.alpha", "schedule.cooldown=cosine"),
    (["train.muon_momentum=0.9"], "train.muon_momentum", "train.optimizer=adamw"),
    (["schedule.warm_in_share=0.1", "train.keep_optimizer=true"], "schedule.warm_in_share", "nothing is reset"),
    (["schedule.warm_in_share=0.1", "schedule.kind=cosine"], "schedule.warm_in_share", "warms up by its schedule"),
    (["anneal.best_share=0.2"], "anneal.best_share", "anneal.data=tail"),
    (["anneal.share=0", "anneal.shape=linear"], "anneal.shape", "nothing is annealed"),
    (["replay.share=0", "replay.order=reshuffled"], "replay.order", "replay.share=0"),
    (["replay.half_life=2"], "replay.half_life", "replay.by=tokens"),
    (["replay.order=reshuffled", "replay.position=restart"], "replay.position", "draws a new order"),
    (["replay.share=0", "train.kl_weight=0.1"], "train.kl_weight", "only applies to replayed sequences"),
    (["select.by=perplexity"], "select.by", "all of the arrival is read"),
    (["select.share=0.5", "select.features=characters"], "select.features", "select.by=random"),
    (["select.epochs=3"], "select.epochs", "budget.update_tokens=600000 sets the number of tokens"),
    (["gate.enabled=false", "gate.max_forgetting=0.1"], "gate.max_forgetting", "nothing is compared"),
    (["evaluate.limit=5"], "evaluate.limit", "evaluate.tasks is empty"),
    (["ingest.decontaminate.enabled=false", "ingest.decontaminate.ngram=8"], "ingest.decontaminate.ngram", "false"),
    (["budget.base_tokens=5000"], "budget.base_tokens", "the base is finished"),
    (["gate.min_learning=0.1", "gate.require_learning=false"], "gate.min_learning", "gate.require_learning=false"),
    (
        ["gate.max_forgetting=null", "gate.max_forgetting_since_best=3"],
        "gate.max_forgetting_since_best",
        "gate.max_forgetting=null",
    ),
    (["evaluate.task_documents=0", "gate.min_order=0.3"], "gate.min_order", "word order is not tested"),
    (["evaluate.task_documents=0", "gate.max_task_drop=0.3"], "gate.max_task_drop", "there are no tasks"),
    (["evaluate.task_documents=0", "evaluate.seed=3"], "evaluate.seed", "there are no tasks"),
    (["replay.floor=0.02"], "replay.floor", "replay.share=0.05 is above it"),
    (["ingest.oversized=split"], "ingest.oversized", "ingest.max_document_bytes"),
    (["ingest.validation_cap=0.01"], "ingest.validation_cap", "validation_share=0.03"),
    (["gate.enabled=false", "ingest.validation_cap=0.2"], "ingest.validation_cap", "only for the gate"),
    (["ingest.rules.c4.policy=false"], "ingest.rules.c4.policy", "does not name c4"),
    (
        ["ingest.rules.apply=[c4]", "ingest.rules.gopher_quality.min_words=9"],
        "ingest.rules.gopher_quality.min_words",
        "does not name gopher-quality",
    ),
    (["ingest.clean.keep_code=false"], "ingest.clean.keep_code", "ingest.clean.languages keeps all"),
    (
        ["ingest.clean.detect_language=false", "ingest.clean.max_language_rank=900"],
        "ingest.clean.max_language_rank",
        "ingest.clean.detect_language=false",
    ),
    (
        ["ingest.clean.mask=[email]", "ingest.clean.phone_region=DE"],
        "ingest.clean.phone_region",
        "does not name phone",
    ),
    (
        ["tokenize.backend=tokenizers", "tokenize.verify_documents=9"],
        "tokenize.verify_documents",
        "is the reference",
    ),
    (["cost.base_tokens=9"], "cost.base_tokens", "was not imported"),
    (["anneal.average_last=5"], "anneal.average_last", "anneal.average_share=0"),
    (["anneal.replay_share=0.3"], "anneal.replay_share", "anneal.data=tail"),
    (
        ["schedule.kind=cosine", "schedule.rewarm=false", "schedule.peak_multiplier=0.5"],
        "schedule.peak_multiplier",
        "no update re-warms",
    ),
    (
        ["schedule.kind=cosine", "schedule.rewarm=false", "schedule.warmup_share=0.05"],
        "schedule.warmup_share",
        "the update does not re-warm",
    ),
    (
        ["schedule.kind=cosine", "schedule.final_ratio=0.2", "schedule.minimum_ratio=0.3"],
        "schedule.minimum_ratio",
        "schedule.final_ratio=0.2 sets the end of the decay",
    ),
    (["train.skip_window=64"], "train.skip_window", "train.skip_sigma=null"),
    (["train.return_limit=3"], "train.return_limit", "no step is skipped"),
    (["train.weight_decay=0", "train.decay_embeddings=false"], "train.decay_embeddings", "nothing decays"),
    (["evaluate.samples=0", "evaluate.sample_tokens=9"], "evaluate.sample_tokens", "evaluate.samples=0"),
    (
        ["evaluate.earlier_datasets=null", "evaluate.all_datasets_every=5"],
        "evaluate.all_datasets_every",
        "every update measures all",
    ),
    (
        [
            "ingest.rules.apply=[fineweb]",
            "ingest.rules.fineweb.max_short_lines=null",
            "ingest.rules.fineweb.short_line=40",
        ],
        "ingest.rules.fineweb.short_line",
        "max_short_lines=null",
    ),
    (
        [
            "ingest.rules.apply=[gopher-quality]",
            "ingest.rules.gopher_quality.min_stop_words=null",
            "ingest.rules.gopher_quality.stop_words={de: [und]}",
        ],
        "ingest.rules.gopher_quality.stop_words",
        "min_stop_words=null",
    ),
    (["train.final_steps=0", "train.final_every=5"], "train.final_every", "train.final_steps=0"),
    (["train.validate_every=0", "train.validate_first=false"], "train.validate_first", "train.validate_every=0"),
    (["select.share=0.5", "select.model=base"], "select.model", "select.by=random"),
    (["evaluate.task_documents=0", "evaluate.document_chars=900"], "evaluate.document_chars", "task_documents=0"),
    (
        ["ingest.duplicates.near=false", "ingest.duplicates.similarity=0.7"],
        "ingest.duplicates.similarity",
        "ingest.duplicates.near=false",
    ),
    (["ingest.rules.fineweb.short_line=40"], "ingest.rules.fineweb.short_line", "does not name fineweb"),
    (
        ["ingest.rules.gopher_repetition.max_top_2_gram=0.3"],
        "ingest.rules.gopher_repetition.max_top_2_gram",
        "does not name gopher-repetition",
    ),
]
# The same of a new lineage
UNREAD_BY_A_BASE = [
    (["distill.temperature=0.5"], "distill.temperature", "only an imported model"),
    (["schedule.peak_multiplier=2"], "schedule.peak_multiplier", "only warms up in the base"),
    (["model.path=/m", "distill.tokens=0", "distill.temperature=0.5"], "distill.temperature", "no text is generated"),
    (["model.path=/m", "distill.prompt_tokens=16"], "distill.prompt_tokens", "distill.prompts is null"),
    (["model.path=/m", "model.type=llama"], "model.type", "the model and its tokenizer are imported"),
    (["tokenizer.path=/t", "tokenizer.vocab_size=5000"], "tokenizer.vocab_size", "tokenizer.path"),
    (["model.path=/m", "budget.base_tokens=5000"], "budget.base_tokens", "the base is imported, not trained"),
]


def trained(number: int, name: str, *sets: str, before: UpdateRecord | None = None) -> UpdateRecord:
    """An update's record as training under the recipe would leave it."""
    recipe = apply_settings(load_recipe("tiny"), sets)
    followed = before.schedule.schedule if before and before.schedule else None
    schedule = schedule_for(recipe.schedule, number * TOKENS, TOKENS, followed)
    return record(
        f"{number:04d}-{name}",
        position=(number + 1) * TOKENS,
        tokens={"planned": TOKENS, "new": TOKENS, "replayed": 0, "annealed": 0},
        schedule={**schedule.to_json(), "settings": recipe.schedule.identity()},
    )


@pytest.fixture
def lineage(tmp_path: Path) -> Lineage:
    """A base under ``infinite``, and an update that was asked for another peak, which nothing read."""
    workspace = Workspace(str(tmp_path / "lm"))
    create(workspace, load_recipe("tiny"))
    made = Lineage(workspace)
    base = trained(0, "base")
    made.record(base)
    made.record(trained(1, "news", "schedule.peak=1e-4", before=base))
    return Lineage(workspace)


@pytest.mark.parametrize(
    "asked",
    [
        "schedule.peak=1e-4",
        "schedule.constant_rate=1e-3",
        "schedule.minimum_ratio=0.2",
        "schedule.warmup_share=0.05",
        "schedule.cooldown_share=0.3",
        "schedule.peak_multiplier=0.5",
        "schedule.cooldown=inverse-sqrt",
    ],
)
def test_a_schedule_in_progress_is_not_asked_for_another_rate_in_silence(lineage: Lineage, asked: str) -> None:
    recipe = apply_settings(recipe_of(lineage.workspace), [asked])
    name = asked.partition("=")[0]
    with pytest.raises(UsageError, match=rf"{name}=.*no effect.*0000-base with {name}=.*schedule\.restart=true"):
        refuse_carried(lineage, recipe)
    refuse_carried(lineage, apply_settings(recipe, ["schedule.restart=true"]))
    refuse_carried(lineage, apply_settings(recipe, ["schedule.kind=cosine"]))
    before = lineage.followed()
    restarted = apply_settings(recipe, ["schedule.restart=true"]).schedule
    assert schedule_for(restarted, 2 * TOKENS, TOKENS, before) != schedule_for(recipe.schedule, 2 * TOKENS, 1, before)


def test_the_settings_that_the_schedule_was_made_with_are_those_of_the_update_that_began_it(lineage: Lineage) -> None:
    refuse_carried(lineage, recipe_of(lineage.workspace))
    refuse_carried(lineage, apply_settings(recipe_of(lineage.workspace), ["schedule.level=min", "anneal.share=0.3"]))


def test_a_schedule_that_begins_in_every_update_reads_its_settings(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path / "lm"))
    create(workspace, apply_settings(load_recipe("tiny"), ["schedule.kind=cosine"]))
    Lineage(workspace).record(trained(0, "base", "schedule.kind=cosine"))
    refuse_carried(Lineage(workspace), apply_settings(recipe_of(workspace), ["schedule.peak=1e-4"]))
    refuse_carried(Lineage(workspace), apply_settings(recipe_of(workspace), ["schedule.kind=infinite"]))


def test_a_peak_is_refused_where_the_rate_only_falls_from_the_trunks(lineage: Lineage) -> None:
    before = recipe_of(lineage.workspace)
    falls = ["schedule.kind=cosine", "schedule.rewarm=false"]
    sets = [*falls, "schedule.peak=1e-4"]
    with pytest.raises(UsageError, match=r"schedule\.peak=0\.0001 would have no effect: schedule\.rewarm=false"):
        refuse_without_effect(before, apply_settings(before, sets), sets, lineage)
    recipe, other = (apply_settings(before, given).schedule for given in (falls, sets))
    place = lineage.position
    assert schedule_for(recipe, place, TOKENS, lineage.followed()) == schedule_for(
        other, place, TOKENS, lineage.followed()
    )
    sets = [*sets, "schedule.restart=true"]  # from η_min, a share of the peak
    refuse_without_effect(before, apply_settings(before, sets), sets, lineage)


@pytest.mark.parametrize(("sets", "name", "because"), UNREAD)
def test_what_nothing_would_read_is_refused_with_its_reason(
    lineage: Lineage, sets: list[str], name: str, because: str
) -> None:
    before = recipe_of(lineage.workspace)
    with pytest.raises(UsageError, match=rf"{name}=.*would have no effect.*{because}"):
        refuse_without_effect(before, apply_settings(before, sets), sets, lineage)


@pytest.mark.parametrize(
    "sets",
    [
        ["replay.share=0"],
        ["schedule.kind=cosine", "schedule.peak=1e-4", "schedule.peak_multiplier=0.5"],
        ["schedule.kind=infinite", "schedule.alpha=10"],  # as they were: nothing is asked for
        ["select.share=0.5", "select.by=perplexity", "select.epochs=2", "budget.update_tokens=null"],
        ["anneal.data=replay", "anneal.replay_share=0.3"],
        ["anneal.data=best", "select.by=perplexity", "select.batch_size=2"],
        ["gate.enabled=false", "gate.trunk=continue"],
        ["anneal.counted=inside", "anneal.data=next", "anneal.shape=linear"],
        ["schedule.warm_in_share=0.1", "train.decay_embeddings=false"],
        ["train.optimizer=muon", "train.muon_momentum=0.9", "train.switch_optimizer=true"],
        ["schedule.kind=auto", "replay.share=auto"],
        ["evaluate.task_documents=0", "gate.min_order=null"],
        ["gate.max_forgetting=null", "gate.max_forgetting_by_dataset={a: 0.1}", "gate.max_forgetting_since_best=3"],
        ["replay.floor=0.2"],  # the share is raised to it
        ["replay.share=auto", "replay.floor=0.02"],
        ["replay.by=recency", "replay.floor=0.02"],
        ["ingest.max_document_bytes=9000", "ingest.oversized=split"],
        ["ingest.rules.apply=[c4]", "ingest.rules.c4.policy=false"],
        ["ingest.clean.mask=[phone]", "ingest.clean.phone_region=DE"],
    ],
)
def test_what_acts_is_not_refused(lineage: Lineage, sets: list[str]) -> None:
    before = recipe_of(lineage.workspace)
    refuse_without_effect(before, apply_settings(before, sets), sets, lineage)


@pytest.mark.parametrize(("sets", "name", "because"), UNREAD_BY_A_BASE)
def test_a_new_lineage_is_not_asked_for_what_its_recipe_cannot_do(sets: list[str], name: str, because: str) -> None:
    before = load_recipe("tiny")
    with pytest.raises(UsageError, match=rf"{name}=.*would have no effect.*{because}"):
        refuse_without_effect(before, apply_settings(before, sets), sets)


def test_every_rule_refuses_a_row_above() -> None:
    shown = []
    for rows, rules in ((UNREAD, (*ALWAYS, *UPDATE)), (UNREAD_BY_A_BASE, (*ALWAYS, *BASE))):
        for sets, name, _ in rows:
            recipe = load_recipe("tiny", sets)
            shown.append(next(rule for rule in rules if rule.covers(name) and rule.applies(recipe)))
    missing = [(rule.names, rule.because) for rule in (*ALWAYS, *BASE, *UPDATE) if rule not in shown]
    assert missing == []


def test_a_new_lineage_reads_what_it_is_asked_for() -> None:
    before = load_recipe("tiny")
    sets = ["budget.base_tokens=9000", "replay.share=0.25", "schedule.peak=1e-3", "model.config.hidden_size=64"]
    refuse_without_effect(before, apply_settings(before, sets), sets)


@pytest.mark.parametrize("name", presets())
def test_no_preset_sets_what_it_does_not_use(name: str) -> None:
    recipe, plain = load_recipe(name), load_recipe("tiny").__class__()
    changed = [
        f"{part}.{field}"
        for part in ("schedule", "anneal", "replay", "select")
        for field in type(getattr(recipe, part)).model_fields
        if getattr(getattr(recipe, part), field) != getattr(getattr(plain, part), field)
    ]
    assert not list(without_effect(recipe, changed))


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize(
    ("asked", "message"),
    [("schedule.peak=1e-4", "schedule.restart=true"), ("anneal.best_share=0.3", "anneal.data=tail")],
)
def test_the_command_refuses_before_anything_is_written(
    lineage: Lineage, rewarm: Call, tmp_path: Path, asked: str, message: str, dry: bool
) -> None:
    (tmp_path / "more.jsonl").write_text('{"text": "The rain in Spain stays mainly in the plain."}\n')
    here = tmp_path / "lm"
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    data = f"more={tmp_path / 'more.jsonl'}"
    code, out, error = rewarm("update", here, "--data", data, "--set", asked, *(["--dry-run"] if dry else []))
    assert (code, out) == (2, "")
    assert asked.partition("=")[0] in error
    assert message in error
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before
