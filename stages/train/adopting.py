"""Adoption of a model that was tuned from a release outside of its lineage: its checks, and its copy as a release.

An import accepts any complete causal model. An adopted one must also be of the release's architecture and shapes, with
the lineage's tokenizer: documents, losses and scores are then comparable with those of the release.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.core.temporary import temporary
from rewarm.stages.data.model_folder import CONFIG, TOKENIZER_FILES, companions, read_config
from rewarm.stages.data.tokenizer import CONFIG as CONFIG_FILE
from rewarm.stages.data.tokenizer import DOCUMENT_FORM, Definition, load_definition
from rewarm.stages.data.tokenizer_difference import difference
from rewarm.stages.train.importing import check_importable, load_whole, write_as_stored

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 4  # tensors that a message names
CHATS = ("chat_template.jinja", "chat_template.json")
SETTINGS = ("chat_template", "eos_token", "pad_token", "padding_side")
"""Settings of a tuned model's tokenizer that its release keeps, although its ids of text are the lineage's."""
CODE = ("auto_map",)  # of ``tokenizer_config.json``: names code, which is never run


@dataclass(frozen=True)
class Adopted:
    """The outcome of an adoption."""

    digest: str
    """Of the weights."""
    parameters: int
    tokenizer: str
    """Digest of the tokenizer's definition of ids."""
    added_tokens: list[str]
    """Special tokens that the lineage's tokenizer does not have."""
    tensors: int
    changed: int
    """Tensors that differ from the release's."""
    distance: float
    """Norm of all changes over the norm of the release's weights, over tensors of equal shape."""
    chat_template: bool


def check_adoptable(source: Path, release: Path, tokenizer: Folder) -> Definition:
    """Refuse a folder that shows by its files and headers that it was not tuned from ``release`` (``UsageError``).

    ``tokenizer`` is the lineage's folder. Returns the definition of the tuned model's tokenizer, whose ids of text are
    the lineage's.
    """
    check_importable(source)
    kinds = [read_config(folder).get("model_type") for folder in (source, release)]
    if kinds[0] != kinds[1]:
        raise UsageError(
            f"{source / CONFIG}: model_type {kinds[0]!r}, but the release that it was tuned from is {kinds[1]!r}; a "
            "model of another kind begins a lineage of its own (rewarm init --from)"
        )
    lineage = load_definition(tokenizer)
    definition = load_definition(Folder(source), lineage.form)
    found = difference(lineage, definition)
    if found.others:
        raise UsageError(
            f"{source}: its tokenizer is not the lineage's: {'; '.join(found.others)}. Text would have other ids, and "
            "no loss could be compared; tune the release with the tokenizer in its folder (special tokens may be added)"
        )
    return definition


def adopt_model(source: Path, release: Path, out: Folder, tokenizer: Folder) -> Adopted:
    """Write ``out/model`` from a model that was tuned from ``release``, with the dtype of its files.

    Raises ``UsageError``, with nothing written, if the folder does not hold a complete model of finite weights of the
    release's shapes, or if its weights are those of the release.
    """
    from rewarm.stages.train.weights import digest, load_model, model_weights

    definition = check_adoptable(source, release, tokenizer)
    model = load_whole(source)
    weights, before = dict(model_weights(model)), dict(model_weights(load_model(release)))
    check_shapes(source, release, weights, before)
    if (found := digest(weights.items())) == digest(before.items()):
        raise UsageError(f"{source}: its weights are those of the release, unchanged: there is nothing to adopt")
    changed, distance = distances(weights, before)
    added = difference(load_definition(tokenizer), definition).added
    with temporary("adopt") as scratch:
        words = tuned_tokenizer(source, tokenizer, scratch, grown=bool(added))
        write_as_stored(source, model, found, out, words, release)
    return Adopted(
        digest=found,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        tokenizer=definition.digest,
        added_tokens=list(added),
        tensors=len(weights),
        changed=changed,
        distance=distance,
        chat_template=has_template(source),
    )


def check_shapes(source: Path, release: Path, weights: Mapping[str, "Tensor"], before: Mapping[str, "Tensor"]) -> None:
    """Refuse weights of other names or shapes than the release's; the rows of the vocabulary may differ in number."""
    rows = [config.get("vocab_size") for config in map(read_config, (source, release))]
    faults = [f"{name} is missing" for name in before if name not in weights]
    faults += [f"{name} is new" for name in weights if name not in before]
    for name in (name for name in before if name in weights):
        mine, theirs = [*weights[name].shape], [*before[name].shape]
        grown = mine[1:] == theirs[1:] and mine[:1] == rows[:1] and theirs[:1] == rows[1:]
        if mine != theirs and not grown:
            faults.append(f"{name} has shape {mine}, not {theirs}")
    if faults:
        more = f", and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise UsageError(
            f"{source}: {len(faults)} tensors are not those of the release that it was tuned from: "
            f"{', '.join(faults[:SHOWN])}{more}; name the update whose release was tuned, or merge an adapter first"
        )


def distances(weights: Mapping[str, "Tensor"], before: Mapping[str, "Tensor"]) -> tuple[int, float]:
    """Return how many tensors changed, and the norm of the changes relative to the release's weights."""
    import torch

    changed, moved, whole = 0, 0.0, 0.0
    for name, weight in weights.items():
        old = before[name]
        if weight.shape != old.shape:
            changed += 1
            continue
        changed += not torch.equal(weight, old)
        moved += float((weight - old).double().square().sum())
        whole += float(old.double().square().sum())
    return changed, (moved / whole) ** 0.5 if whole else 0.0


def tuned_tokenizer(source: Path, lineage: Folder, scratch: Path, grown: bool) -> Folder:
    """Write the tokenizer of an adopted release to ``scratch``: the lineage's, with the tuned model's settings.

    With ``grown``, all of its files are the tuned model's, because the lineage's lack its tokens. The form of documents
    is always the lineage's.
    """
    mine = {*lineage.files()} & {*TOKENIZER_FILES} - {*CHATS}
    for name in {DOCUMENT_FORM} & mine if grown else mine:
        (scratch / name).write_bytes(lineage.read(name))
    theirs = {*companions(source)} & ({*TOKENIZER_FILES} - {DOCUMENT_FORM} if grown else {*CHATS})
    for name in theirs:
        shutil.copyfile(source / name, scratch / name)
    tuned = read_config(source, CONFIG_FILE) if (source / CONFIG_FILE).is_file() else {}
    kept = read_config(scratch, CONFIG_FILE) if (scratch / CONFIG_FILE).is_file() else {}
    if grown:
        config = {name: value for name, value in kept.items() if name not in CODE}
    else:
        config = {name: value for name, value in kept.items() if name != "chat_template"}
        config |= {name: tuned[name] for name in SETTINGS if tuned.get(name) is not None}
    Folder(scratch).write_json(CONFIG_FILE, config)
    return Folder(scratch)


def has_template(source: Path) -> bool:
    """Return whether a folder's tokenizer has a chat template."""
    if any((source / name).is_file() for name in CHATS):
        return True
    return (source / CONFIG_FILE).is_file() and bool(read_config(source, CONFIG_FILE).get("chat_template"))
