"""The recipe: one frozen settings object per stage. Only this module reads YAML and ``--set``."""

import difflib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin

import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from rewarm.pipeline.escaping import cut
from rewarm.pipeline.recipe.numbers import leaves, refuse_not_finite, refuse_other_numbers
from rewarm.pipeline.recipe.settings import CardSettings, CostSettings, DiskSettings, GateSettings, PlanSettings
from rewarm.pipeline.recipe.strict_yaml import parse
from rewarm.pipeline.redaction import redact
from rewarm.stages.anneal import AnnealSettings
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.settings import Settings, documentation, is_placement
from rewarm.stages.distill import DistillSettings
from rewarm.stages.evaluate import EvaluateSettings
from rewarm.stages.ingest import IngestSettings
from rewarm.stages.replay import ReplaySettings
from rewarm.stages.select import SelectSettings
from rewarm.stages.tokenize import TokenizerSettings, TokenizeSettings
from rewarm.stages.train import ModelSettings, ScheduleSettings, TrainSettings, model_places

PAGE_HEAD = """# Settings

```bash
rewarm settings                                # this list in the terminal; --json for programs
rewarm update lm --data news=data/news --set replay.share=0.25 --set anneal.share=0.1
```

Every setting of a recipe, with its default. `--set KEY=VALUE` changes a setting, and a YAML file of settings is a
recipe ([Updates](updates.md#recipes-and-settings)). Values are YAML; `null` means no value. Settings that *may change
on resume* affect where or how fast a result is computed, not the result. `make docs` generates this page."""


class BudgetSettings(Settings):
    """The number of tokens to train on."""

    base_tokens: int | None = Field(default=None, ge=1)
    """Tokens of the base's pre-training, rounded down to whole batches; null: one epoch over D0, with the last batch
    filled up from the next epoch."""
    update_tokens: int | None = Field(default=None, ge=1)
    """Tokens of an update, new and replayed together, rounded down to whole batches; null: all selected tokens of the
    arrival times ``select.epochs``, with the last batch filled up from the next epoch."""


class Recipe(Settings):
    """All settings of an update, by stage."""

    description: str = Field(default="", json_schema_extra={"placement": True})
    """Purpose of the recipe, in one line."""
    seed: int = Field(default=0, ge=0)
    """Seed of the initial weights, the data order and dropout."""
    model: ModelSettings = ModelSettings()
    tokenizer: TokenizerSettings = TokenizerSettings()
    budget: BudgetSettings = BudgetSettings()
    ingest: IngestSettings = IngestSettings()
    tokenize: TokenizeSettings = TokenizeSettings()
    select: SelectSettings = SelectSettings()
    replay: ReplaySettings = ReplaySettings()
    distill: DistillSettings = DistillSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    train: TrainSettings = TrainSettings()
    anneal: AnnealSettings = AnnealSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    gate: GateSettings = GateSettings()
    plan: PlanSettings = PlanSettings()
    cost: CostSettings = CostSettings()
    disk: DiskSettings = DiskSettings()
    card: CardSettings = Field(default=CardSettings(), json_schema_extra={"placement": True})

    @property
    def branch(self) -> Fraction:
        """The share of an update's tokens that its trunk leaves to the anneal; 0 if nothing is annealed inside."""
        return Fraction(0) if self.schedule.decays else self.anneal.inside

    @model_validator(mode="after")
    def _ranked(self) -> "Recipe":
        if self.anneal.data == "best" and self.select.by == "random":
            raise ValueError("anneal.data best ranks the arrival by select.by; set it to classifier or perplexity")
        return self


EXTENDS = "extends"  # key of a recipe file: the recipe that it changes
NO_SECRETS = (
    "contains a password, key or token, but settings are stored in the workspace and its reports; pass it in the "
    "environment"
)


def presets() -> list[str]:
    """Return the names of the recipes that ship with rewarm."""
    return sorted(
        entry.name.removesuffix(".yaml")
        for entry in resources.files("rewarm.pipeline.recipe.presets").iterdir()
        if entry.name.endswith(".yaml")
    )


def load_recipe(name_or_file: str, assignments: Sequence[str] = ()) -> Recipe:
    """Load a preset by name or a recipe from a YAML file, with ``--set`` assignments applied.

    A file that begins with ``extends: NAME|FILE`` gives only what differs from that recipe; a file's path is relative
    to the file that names it. Raises ``UsageError`` with the file or key, the expected value, and the closest name for
    a misspelt one.
    """
    return apply_settings(build_recipe(read_values(name_or_file), name_or_file), assignments)


def preset_text(name: str) -> str:
    """Return the YAML of a preset."""
    return resources.files("rewarm.pipeline.recipe.presets").joinpath(f"{name}.yaml").read_text("utf-8")


def read_values(name_or_file: str, extending: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the settings of a recipe with those that it extends; ``extending``: the recipes that led to it."""
    origin = name_or_file
    text = preset_text(name_or_file) if name_or_file in presets() else read_recipe(name_or_file)
    try:
        values = {} if (value := parse(text)) is None else value
    except yaml.YAMLError as error:
        raise UsageError(f"{origin}: invalid YAML: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{origin}: expected a mapping of settings, found {type(values).__name__}")
    for key, value in leaves(values):
        if isinstance(value, str) and redact(given := f"{key}={value}", {}) != given:
            raise UsageError(f"{origin}: {key}: {cut(redact(given, {}).removeprefix(f'{key}='))}: {NO_SECRETS}")
    if EXTENDS not in values:
        return values
    parent = values.pop(EXTENDS)
    if not isinstance(parent, str) or "\0" in parent:
        raise UsageError(f"{origin}: extends: expected the name of a preset or a YAML file, found {cut(repr(parent))}")
    if parent not in presets():
        parent = str(Path(origin).parent / parent)
    led = (*extending, os.path.realpath(origin))  # the same file may have several names
    if os.path.realpath(parent) in led:
        raise UsageError(f"{origin}: extends {parent}, which extends it")
    return merged(read_values(parent, led), values)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``changes``: mappings are merged key by key, all else is replaced."""
    found = dict(base)
    for key, value in changes.items():
        before = found.get(key)
        found[key] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return found


def read_recipe(file: str) -> str:
    """Read the text of a recipe file."""
    path = Path(file)
    try:
        if path.is_file():
            return path.read_text(encoding="utf-8")
    except OSError as error:
        said = f"cannot read the recipe ({error.strerror}); check its name and its permissions"
        raise UsageError(f"{file}: {said}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: expected a recipe in UTF-8, found other bytes ({error})") from error
    near = difflib.get_close_matches(file, presets(), 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"{file}: neither a preset ({', '.join(presets())}) nor a YAML file{hint}")


def apply_settings(recipe: Recipe, assignments: Sequence[str]) -> Recipe:
    """Return the recipe with ``key=value`` assignments applied (dotted keys, YAML values)."""
    origin = cut("--set " + " ".join(assignments)) if assignments else "recipe"
    return apply_values(recipe, assigned(assignments), origin)


def assigned(assignments: Sequence[str]) -> dict[str, Any]:
    """Return the values of ``key=value`` assignments by dotted key, the last one of each.

    The mapping of a group gives a value to each setting in it, and leaves the others of the group as they are.
    """
    chosen: dict[str, Any] = {}
    for assignment in assignments:
        key, separator, text = assignment.partition("=")
        if not separator or not key.strip():
            raise UsageError(f"--set {cut(assignment)}: expected key=value, for example --set replay.share=0.25")
        if redact(assignment, {}) != assignment:
            raise UsageError(f"--set {cut(redact(assignment, {}))}: {NO_SECRETS}")
        chosen |= spread(key.strip(), read_value(text, f"--set {cut(assignment)}"))
    return chosen


def spread(key: str, value: Any) -> dict[str, Any]:
    """Return a setting with its value, or, for the mapping of a group, all settings in it with theirs."""
    if not isinstance(value, dict) or not any(name.startswith(f"{key}.") for name, _, _ in settings()):
        return {key: value}
    if not value:
        raise UsageError(f"--set {key}={{}}: names no setting of {key}; expected for example {key}={{KEY: VALUE}}")
    found: dict[str, Any] = {}
    for name, part in value.items():
        found |= spread(f"{key}.{name}", part)
    return found


def refuse_twice(assignments: Sequence[str]) -> None:
    """Raise ``UsageError`` if a setting is given two values."""
    chosen: dict[str, Any] = {}
    for assignment in assignments:
        for key, value in assigned([assignment]).items():
            if key in chosen and chosen[key] != value:
                raise UsageError(f"--set {key} is given twice, as {chosen[key]!r} and as {value!r}; keep one of them")
            chosen[key] = value


def given_names(assignments: Sequence[str]) -> list[str]:
    """Return the dotted names in ``key=value`` assignments, without repetitions."""
    return list(assigned(assignments))


def setting_of(recipe: Recipe, name: str) -> Any:
    """Return the value of a setting by its dotted name; None for a key that is missing from ``model.config``."""
    value: Any = recipe
    for part in name.split("."):
        if value is None:
            return None
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, part)
    return value


def read_value(text: str, origin: str) -> Any:
    """Parse a setting's value from the command line: YAML, with ``1e-3`` as a number."""
    try:
        return as_number(parse(text) if text.strip() else None)
    except yaml.YAMLError as error:
        raise UsageError(f"{origin}: the value is not valid YAML: {error}") from error


def apply_values(recipe: Recipe, chosen: Mapping[str, Any], origin: str) -> Recipe:
    """Return the recipe with values applied by dotted key."""
    values = recipe.model_dump(mode="json")
    for key, value in chosen.items():
        place = values
        *parents, last = key.split(".")
        for number, parent in enumerate(parents):
            if parent not in place and not _free(parents[:number]):
                raise unknown_key(key, origin)
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise unknown_key(key, origin)
        if last not in place and not _free(parents):
            raise unknown_key(key, origin)
        place[last] = value
    return build_recipe(values, origin)


def _free(parents: list[str]) -> bool:
    """Return whether the keys below belong to a model's configuration, whose names are not checked here."""
    return parents[:2] == ["model", "config"]


def as_number(value: Any) -> Any:
    """Convert text like ``1e-3``, which YAML 1.1 reads as a string, to a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def build_recipe(values: dict[str, Any], origin: str) -> Recipe:
    """Validate a nested mapping into a recipe."""
    refuse_not_finite(values, origin)
    try:
        recipe = Recipe.model_validate(_numbers(values))
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "extra_forbidden":
                raise unknown_key(key, origin) from error
            message = problem["msg"].removeprefix("Value error, ")
            given = "" if isinstance(problem["input"], dict) else f", found {cut(repr(problem['input']))}"
            problems.append(f"{key}: {message}{given}")
        raise UsageError(f"{origin}: {'; '.join(problems)}") from error
    refuse_other_numbers(values, recipe.model_dump(mode="json"), origin)
    return recipe


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(part) for key, part in value.items()}
    return as_number(value) if isinstance(value, str) and value[:1].isdigit() else value


def unknown_key(key: str, origin: str) -> UsageError:
    """Return the error for an unknown setting, with the closest name."""
    names = [name for name, _, _ in settings()]
    near = difflib.get_close_matches(key, names, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else "see `rewarm settings` for all of them"
    return UsageError(f"{origin}: there is no setting {cut(key)!r}; {hint}")


def settings() -> Iterator[tuple[str, FieldInfo, Any]]:
    """Yield dotted name, field (with its description) and default of every setting."""
    yield from _fields(Recipe, "")


def _fields(model: type[Settings], prefix: str) -> Iterator[tuple[str, FieldInfo, Any]]:
    descriptions = documentation(model)
    for name, bare in model.model_fields.items():
        field = copy(bare)
        field.description = descriptions.get(name)
        default = field.get_default(call_default_factory=True, validated_data={})
        if isinstance(default, Settings):
            yield from _fields(type(default), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field, default


def settings_page() -> str:
    """Return all settings as a page of Markdown: a table per group, with defaults and descriptions."""
    groups: dict[str, list[str]] = {}
    for name, field, default in settings():
        shown = json.dumps(default, default=str, ensure_ascii=False)
        text = meaning(field) + (" *May change on resume.*" if is_placed(name) else "")
        row = " | ".join((f"`{name}`", f"`{shown}`", text.replace("|", "\\|")))
        groups.setdefault(name.rpartition(".")[0] or "recipe", []).append(f"| {row} |")
    head = "| setting | default | meaning |\n|---|---|---|"
    tables = [f"## {group}\n\n{head}\n" + "\n".join(rows) for group, rows in groups.items()]
    return "\n\n".join([PAGE_HEAD, *tables]) + "\n"


def meaning(field: FieldInfo) -> str:
    """Return a setting's description in one line of Markdown, with the values of a choice."""
    text = " ".join((field.description or "").replace("``", "`").split())
    listed = ", ".join(f"`{value}`" for value in choices(field.annotation) if value is not None)
    return f"{text} Values: {listed}." if listed else text


def is_placed(name: str) -> bool:
    """Return whether a setting or its group does not affect results and is excluded from fingerprints."""
    model: Any = Recipe
    for part in name.split("."):
        field = model.model_fields[part]
        if is_placement(field):
            return True
        model = type(field.get_default(call_default_factory=True, validated_data={}))
    return False


def choices(annotation: Any) -> list[Any]:
    """Return the values of a ``Literal``, also inside a union or a container; empty for other types."""
    parts = get_args(annotation)
    return list(parts) if get_origin(annotation) is Literal else [value for part in parts for value in choices(part)]


def differences(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the differences between two nested mappings, one line per setting: ``key: before → after``."""
    lines = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += differences(cast(dict[str, Any], old), cast(dict[str, Any], new), f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: {old} → {new}")
    return lines


__all__ = ["Recipe", "apply_settings", "differences", "load_recipe", "presets", "settings"]


def evaluation_places(recipe: Recipe) -> tuple[bool, int]:
    """Return whether evaluation runs on GPUs, and its number of actors."""
    gpus, most = model_places(recipe.train)
    return gpus, most if gpus else min(recipe.train.num_workers, most)
