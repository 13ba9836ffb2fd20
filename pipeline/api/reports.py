"""Functions behind ``rewarm report``: the pages of a workspace, made where they changed, or one page to send."""

from dataclasses import replace
from importlib import metadata
from pathlib import Path

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.report import INDEX, assets, file_name, is_asset, is_page, pages
from rewarm.pipeline.report.from_lineage import SHOWN, page_keys, report_record
from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.storage import Folder

PAGE_KEYS = "pages.json"
REPORTED = ("rewarm", "ray", "torch", "transformers", "deepspeed", "pyarrow", "lm_eval", "tokenizers", "fastokens")


def report(uri: str, update: str | None = None, to: Path | None = None, everything: bool = False) -> str:
    """Write the report's pages; return the path of the index.

    With ``to``, write the workspace's page, or that of ``update``, as one file that needs nothing beside it instead.
    """
    workspace = Workspace.open(uri)
    if to is None and update is not None:
        raise UsageError(f"{update}: its page is in the report; --to FILE writes it as one file to send")
    if to is None:
        return write_report(workspace, everything)
    if everything:
        raise UsageError("--all rewrites the pages of the report, and --to writes a single page: give only one of them")
    if to.suffix != ".html":
        raise UsageError(f"--to {to}: expected a name that ends in .html")
    refuse_target("--to", to)
    lineage = Lineage(workspace)
    name = INDEX if update is None else file_name(lineage.find(update).id)
    record = report_record(lineage, engines())
    if name != INDEX and name not in page_keys(lineage, record):
        record = report_record(lineage, engines(), None)
    (page,) = pages(record, [name], alone=True).values()
    to.write_text(page, "utf-8")
    return str(to)


def refuse_target(option: str, to: Path) -> None:
    """Refuse a file to write that is a folder, or whose folder does not exist."""
    if to.is_dir():
        raise UsageError(f"{option} {to}: is a folder, expected the name of a file")
    if not to.absolute().parent.is_dir():
        raise UsageError(f"{option} {to}: there is no folder {to.absolute().parent}")


def write_report(workspace: Workspace, everything: bool = False) -> str:
    """Write the workspace's page, whose path is returned, and those of the last updates (``everything``: of all).

    Only pages whose contents changed are made, by the digests in ``report/pages.json``; pages of updates that are gone
    are removed.
    """
    lineage = Lineage(workspace)
    record = report_record(lineage, engines(), None if everything else SHOWN)
    folder = workspace.folder / "report"
    there, keys, known = set(folder.files()), page_keys(lineage, record), read_keys(folder)
    earlier = [replace(one, has_page=file_name(one.id) in there) for one in record.earlier]
    record = replace(record, earlier=earlier)
    stale = {name for name, key in keys.items() if name not in there or known.get(name) != key}
    for name, text in {**assets(), **pages(record, {*stale, INDEX})}.items():
        if name not in there or not is_asset(name):
            folder.write(name, text.encode())
    finished = {file_name(entry.id) for entry in lineage.entries}
    for name in there:
        if (is_page(name) and name not in finished) or (everything and is_asset(name) and name not in assets()):
            folder.delete(name)
    folder.write_json(PAGE_KEYS, {name: key for name, key in {**known, **keys}.items() if name in finished})
    return (folder / INDEX).uri


def read_keys(folder: Folder) -> dict[str, str]:
    """Return the digests of the pages that were written; none if the file is missing or damaged: all are made again."""
    try:
        found = folder.read_json(PAGE_KEYS) if folder.exists(PAGE_KEYS) else {}
    except (ValueError, StageError):
        return {}
    return {str(name): str(key) for name, key in found.items()} if isinstance(found, dict) else {}


def engines() -> dict[str, str]:
    """Return the versions of the libraries that the report names."""
    return {name: metadata.version(name) for name in REPORTED if installed(name)}


def installed(name: str) -> bool:
    """Return whether a distribution is installed."""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
