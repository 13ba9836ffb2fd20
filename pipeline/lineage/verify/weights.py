"""The verification of trunks' and releases' weights against the digests in the updates' records."""

from collections.abc import Collection, Sequence
from typing import Any

from rewarm.pipeline.lineage.recorded import without_card
from rewarm.pipeline.lineage.verify.data import RESTORE
from rewarm.pipeline.lineage.verify.findings import Findings
from rewarm.pipeline.lineage.weights import is_pruned, weight_files
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.record import UpdateRecord
from rewarm.stages.core.digests import below, compare, digest_file, read_table, refuse_damage
from rewarm.stages.core.errors import DamagedError, UnreachableError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.model_folder import TOKENIZER_FILES
from rewarm.stages.data.tokenizer import CONFIG, Definition, load_definition

PARTS = ("trunk", "release")


def stored_digest(model: Folder) -> str:
    """Return the digest of the weights in a Hugging Face folder, loaded in fp32 as training loads them."""
    import transformers

    from rewarm.stages.train.weights import digest, load_model, model_weights

    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()  # a tensor that is missing in a damaged file changes the digest
    logging.disable_progress_bar()
    with model.fetched() as path:
        return digest(model_weights(load_model(path)))


def check_weights(
    workspace: Workspace,
    updates: Sequence[UpdateRecord],
    definition: Definition | None,
    damaged: Collection[Folder],
    findings: Findings,
    progress: Progress,
) -> None:
    """Verify every trunk and release that was not pruned, with its tokenizer; skips folders in ``damaged``."""
    places = [(update, part) for update in updates for part in PARTS if part == "release" or update.adopted is None]
    models = {(update.id, part): workspace.update(update.id) / part / "model" for update, part in places}
    sizes = {key: sum(map(model.size, weight_files(model))) for key, model in models.items()}
    progress.begin("verifying weights", sum(sizes.values()), "bytes")
    for update, part in places:
        if workspace.update(update.id) / part not in damaged:
            check_model(workspace.update(update.id), update, part, definition, findings)
            if (
                update.files and update.adopted is None
            ):  # earlier versions saved the tokenizer again, in the format of their library version
                check_tokenizer_files(workspace.tokenizer, workspace.update(update.id) / part / "model", findings)
        progress.advance(sizes[update.id, part])


def check_model(
    folder: Folder, update: UpdateRecord, part: str, definition: Definition | None, findings: Findings
) -> None:
    """Verify one model of an update: its ``trunk`` or ``release``."""
    model = folder / part / "model"
    name = findings.name(model)
    if is_pruned(folder, part):
        findings.notes.append(f"{name}: pruned, so its weights cannot be verified")
        return
    if not weight_files(model):
        findings.add(name, "weights (*.safetensors)", "none", RESTORE)
        return
    expected = getattr(update.weights, part)
    with findings.reading(name, f"weights of digest {expected}", RESTORE):
        findings.compare(name, "weights of digest", expected, stored_digest(model), RESTORE)
        findings.checked["models"] += 1
    if definition is not None:
        wanted = definition.digest if update.adopted is None else update.adopted.tokenizer
        with findings.reading(name, "the lineage's tokenizer", RESTORE):
            found = load_definition(model, definition.form)
            findings.compare(name, "a tokenizer of digest", wanted, found.digest, RESTORE)


def check_tokenizer_files(tokenizer: Folder, model: Folder, findings: Findings) -> None:
    """Check that a model's tokenizer files are those that tokenized the data, byte for byte.

    ``tokenizer_config.json`` may differ: a model's copy does not name a class that is specific to one version of
    transformers.
    """
    for name in sorted({*TOKENIZER_FILES} & {*tokenizer.files()} - {CONFIG}):
        file = findings.name(model, name)
        with findings.reading(file, "the lineage's tokenizer", RESTORE):
            expected, found = digest_file(tokenizer, name).digest, digest_file(model, name).digest
            findings.compare(file, f"the lineage's {name}, of digest", expected, found, RESTORE)


def refuse_damaged(workspace: Workspace, update: UpdateRecord) -> None:
    """Refuse a release that differs from its record.

    Raises ``DamagedError`` that names the damaged files, including configuration and tokenizer; for a release that was
    recorded without file digests, only the weights are compared.
    """
    release = workspace.update(update.id) / "release"
    model = release / "model"
    if (digest := update.files.get(release.relative_to(workspace.folder))) is not None:
        remedy = f"{RESTORE}, or choose another release. `rewarm verify {workspace.folder}` checks all releases"
        table = below(without_card(release, read_table(release, digest)), "model")
        refuse_damage(model, compare(model, table), remedy)
    try:
        found = stored_digest(model)
    except UnreachableError:
        raise
    except Exception as error:  # each library raises its own exceptions for damaged bytes
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if found != update.weights.release:
        raise DamagedError(
            f"{model}: expected weights of digest {update.weights.release}, found {found}; {RESTORE}, or choose "
            f"another release. `rewarm verify {workspace.folder}` checks all releases"
        )
