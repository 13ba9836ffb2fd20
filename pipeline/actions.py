"""What the commands do, one function each; ``cli.py`` parses and prints around them."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline import base, demo_corpus, summary
from pipeline.arrival import Arrival, look, parse_data
from pipeline.cluster import connected
from pipeline.config import Recipe, apply_settings, load_recipe
from pipeline.lineage import Lineage
from pipeline.report import render
from pipeline.terminal import Terminal
from pipeline.update import discard as drop
from pipeline.update import update as run_update
from pipeline.workspace import RECORD, Workspace
from stages.errors import UsageError
from stages.storage import Folder

REPORT = "index.html"
REPORTED = ("rewarm", "ray", "torch", "transformers", "deepspeed", "pyarrow", "lm_eval", "tokenizers", "fastokens")


def init(
    uri: str,
    recipe_name: str,
    data: Sequence[str],
    source: Path | None,
    sets: Sequence[str],
    dry_run: bool,
    terminal: Terminal,
) -> dict[str, Any]:
    """Make a workspace and its base."""
    recipe = load_recipe(recipe_name, sets)
    if source is not None:
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"path": str(source.absolute())})})
    paths = parse_data(data)
    if not paths and recipe.model.path is None:
        raise UsageError(
            "a base needs data to be pre-trained on (--data NAME=PATH) or a model to import (--from HF_DIR)"
        )
    workspace = Workspace(uri)
    if workspace.folder.exists() and not workspace.folder.exists(RECORD) and workspace.folder.files():
        raise UsageError(f"{uri}: the folder holds other files; a workspace is made in an empty or a new folder")
    base.check_model(recipe)
    arrival = look(paths, Lineage(workspace), recipe.ingest, terminal)
    if dry_run:
        return preview(workspace, arrival, recipe)
    with workspace.lease():
        base.create(workspace, recipe)
        try:
            return carry_out(workspace, arrival, recipe, terminal)
        except UsageError:
            forget_empty(workspace)
            raise


def forget_empty(workspace: Workspace) -> None:
    """Take back ``workspace.json`` where the base was refused before anything was made."""
    lineage = Lineage(workspace)
    if not lineage.updates and lineage.unfinished is None:
        workspace.folder.delete(RECORD)


def update(uri: str, data: Sequence[str], sets: Sequence[str], dry_run: bool, terminal: Terminal) -> dict[str, Any]:
    """Take in one arrival."""
    workspace = Workspace.open(uri)
    recipe = base.recipe_of(workspace)
    changed = apply_settings(recipe, sets)
    base.refuse_fixed(recipe, changed)
    paths = parse_data(data)
    if not paths:
        raise UsageError("an update needs data: --data NAME=PATH")
    arrival = look(paths, Lineage(workspace), changed.ingest, terminal)
    if dry_run:
        return preview(workspace, arrival, changed)
    with workspace.lease():
        return carry_out(workspace, arrival, changed, terminal)


def carry_out(workspace: Workspace, arrival: Arrival, recipe: Recipe, terminal: Terminal) -> dict[str, Any]:
    """Run one update on the cluster and write the report; the lineage's status after it."""
    terminal.update(f"{workspace.folder}: {arrival.name}")
    with connected():
        run_update(workspace, arrival, recipe, terminal)
    path = write_report(workspace)
    terminal.note(f"report: {path}")
    return summary.status(Lineage(workspace))


def preview(workspace: Workspace, arrival: Arrival, recipe: Recipe) -> dict[str, Any]:
    """What an update would do, from what is known before anything is read in full."""
    lineage = Lineage(workspace)
    files = {
        name: [{"file": file.name, "bytes": file.size, "format": file.format} for file in found]
        for name, found in arrival.inputs.items()
    }
    return {
        "update": f"{len(lineage.updates):04d}-{arrival.name}",
        "goes_on_with": lineage.unfinished,
        "starts_from": lineage.head.id if lineage.head else recipe.model.path or "random weights",
        "files": files,
        "replays": list(lineage.datasets()) if recipe.replay.share else [],
        "recipe": recipe.model_dump(mode="json"),
    }


def status(uri: str) -> dict[str, Any]:
    """The lineage as one JSON object."""
    return summary.status(Lineage(Workspace.open(uri)))


def report(uri: str) -> str:
    """Write the report; its path."""
    return write_report(Workspace.open(uri))


def write_report(workspace: Workspace) -> str:
    """Write the workspace's report; its path."""
    versions = {name: metadata.version(name) for name in REPORTED if installed(name)}
    page = render(summary.report_record(Lineage(workspace), versions))
    folder = workspace.folder / "report"
    folder.write(REPORT, page.encode())
    return (folder / REPORT).uri


def installed(name: str) -> bool:
    """Whether a distribution is installed."""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def export(uri: str, update_name: str | None, to: Path) -> str:
    """Copy a release's Hugging Face folder; where it is."""
    workspace = Workspace.open(uri)
    found = Lineage(workspace).find(update_name)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UsageError(f"{to}: exists and is not an empty folder; name a new one")
    release = workspace.update(found.id) / "release" / "model"
    target = Folder(to.parent)
    if to.exists():
        to.rmdir()
    with target.writing(to.name) as scratch:
        scratch.mkdir(parents=True)
        for name in release.files():
            (scratch / name).write_bytes(release.read(name))
    return str(to)


def discard(uri: str) -> str | None:
    """Drop the unfinished update; its id."""
    workspace = Workspace.open(uri)
    with workspace.lease():
        lineage = Lineage(workspace)
        name = lineage.unfinished
        if name is not None:
            drop(workspace, lineage, name)
            forget_empty(workspace)
        return name


def demo(directory: Path, sets: Sequence[str], terminal: Terminal) -> dict[str, Any]:
    """The base and two arrivals on the installed packages' own text: a weak shift, then a strong one."""
    terminal.update("the demo's text")
    files = demo_corpus.write_corpora(directory / "text", terminal)
    uri = str(directory / "-".join(["workspace", *sets]).replace("/", "_"))
    recipe = load_recipe("tiny", sets)
    steps = (("ml-docs", "replay.share=0.05"), ("code", "replay.share=0.25"))
    with connected(num_cpus=max(2, recipe.train.num_workers)):
        done = set(Lineage(Workspace(uri)).datasets())
        if "sci-docs" not in done:
            init(uri, "tiny", [f"sci-docs={files['sci-docs']}"], None, sets, False, terminal)
        for name, share in steps:
            if name not in done:
                update(uri, [f"{name}={files[name]}"], [share, *sets], False, terminal)
    return {**status(uri), "report": report(uri)}
