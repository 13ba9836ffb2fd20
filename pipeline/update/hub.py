"""Models and datasets on the Hugging Face Hub: ``--from ORG/NAME`` and ``--data NAME=hf://datasets/ORG/NAME/PATH``.

Files are fetched into the Hub's own cache (``HF_HOME``), which also serves offline (``HF_HUB_OFFLINE``). The revision
is resolved to a commit, which is pinned and recorded. Only weights, configurations, tokenizers and data files are
fetched: no pickles and no code, so no code of a repository is ever executed.
"""

import io
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from rewarm.pipeline.lineage.weights import WEIGHTS
from rewarm.pipeline.lineage.workspace import CARD
from rewarm.stages.core.errors import UnreachableError, UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.data.model_folder import LICENCE_FILES, TOKENIZER_FILES
from rewarm.stages.ingest.beside import beside_data
from rewarm.stages.ingest.locations import COMPRESSIONS
from rewarm.stages.ingest.readers import SUFFIXES, recognise

if TYPE_CHECKING:
    from tqdm import tqdm

HUB = "hf://"
DATASETS = "hf://datasets/"
ADDRESS = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/@]+))?(?:/(?P<path>.+))?")
MODEL = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w./-]+))?")
MODEL_FILES = (
    *(CARD, "config.json", "generation_config.json"),
    *(f"*{ending}" for ending in WEIGHTS),
    *TOKENIZER_FILES,
    *LICENCE_FILES,
)
DATA_FILES = tuple(f"*{ending}{packed}" for ending in SUFFIXES for packed in ("", *COMPRESSIONS))
"""Files of a dataset that are fetched if its address names none."""


@dataclass(frozen=True)
class Repository:
    """A repository on the Hub, and the part of it that is wanted."""

    kind: str
    """model or dataset"""
    name: str
    """ORG/NAME"""
    revision: str | None = None
    """A branch, tag or commit; None: main."""
    path: str = ""
    """A file, folder or pattern in a dataset; empty: all of its data files."""

    @property
    def address(self) -> str:
        """The address with its revision, as it is recorded."""
        kind = "datasets/" if self.kind == "dataset" else ""
        at = f"@{quote(self.revision, '')}" if self.revision else ""
        return f"{HUB}{kind}{self.name}{at}" + (f"/{self.path}" if self.path else "")

    @property
    def patterns(self) -> list[str]:
        """Patterns of the files to fetch."""
        if self.kind == "model":
            return [*MODEL_FILES]
        return [self.path, f"{self.path.rstrip('/')}/*"] if self.path else [*DATA_FILES]

    @property
    def download(self) -> str:
        """The command that downloads these files on a machine with access."""
        words = ["hf", "download", self.name]
        words += ["--repo-type", "dataset"] if self.kind == "dataset" else []
        words += ["--revision", self.revision] if self.revision else []
        wanted = ["*.safetensors*", "*.json", "*.model", "*.txt", "*.jinja"] if self.kind == "model" else [self.path]
        for pattern in filter(None, wanted):
            words += ["--include", pattern]
        return shlex.join([*words, "--local-dir", self.name.partition("/")[2]])


@dataclass(frozen=True)
class Fetched:
    """Files of a repository, in the Hub's cache."""

    repository: Repository
    """With the commit as its revision."""
    folder: Path
    files: tuple[Path, ...]


def parse_model(text: str) -> Repository | None:
    """Return the repository that ``--from`` names; None for a folder.

    A name without ``hf://`` is a folder if it, or the folder that would hold it, is on this machine.
    """
    bare = text.removeprefix(HUB)
    found = MODEL.fullmatch(bare)
    if text.startswith(HUB):
        if found is None or bare.startswith("datasets/"):
            raise UsageError(f"--from {text}: expected {HUB}ORG/NAME or {HUB}ORG/NAME@REVISION, a model on the Hub")
    elif found is None or Path(text).exists() or Path(text).parent.is_dir():
        return None
    return Repository("model", found["name"], found["revision"])


def parse_dataset(text: str) -> Repository | None:
    """Return the repository that a path of ``--data`` names; None for other paths."""
    if not text.startswith(HUB):
        return None
    found = ADDRESS.fullmatch(text.removeprefix(DATASETS)) if text.startswith(DATASETS) else None
    if found is None:
        raise UsageError(f"--data {text}: expected {DATASETS}ORG/NAME, optionally with @REVISION and /PATH")
    revision = unquote(found["revision"]) if found["revision"] else None  # refs%2Fconvert%2Fparquet
    return Repository("dataset", found["name"], revision, (found["path"] or "").strip("/"))


def fetch(wanted: Repository, progress: Progress) -> Fetched:
    """Fetch a repository's files into the Hub's cache, or find them there if the Hub is not reachable.

    Raises ``UsageError`` if there is no such repository, revision or file, or no permission, and ``UnreachableError``
    if the Hub does not answer and the cache does not have the files; with the command that downloads them.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    progress.begin(f"fetching {wanted.address}", 0, "bytes")
    try:
        folder = Path(
            snapshot_download(
                wanted.name,
                repo_type=wanted.kind,
                revision=wanted.revision,
                allow_patterns=wanted.patterns,
                library_name="rewarm",
                tqdm_class=bars(progress),
            )
        )
    except LocalEntryNotFoundError as error:  # offline, or no answer, and not in the cache
        raise UnreachableError(
            f"{wanted.address}: the Hub could not be reached ({reason(error.__cause__ or error)}), and its cache on "
            f"this machine does not have the files. {advice(wanted)}",
            wanted.address,
        ) from error
    except (HfHubHTTPError, ValueError) as error:
        raise UsageError(f"{wanted.address}: the Hub refused it ({reason(error)}). {advice(wanted)}") from error
    except OSError as error:
        raise UnreachableError(
            f"{wanted.address}: cannot be fetched ({reason(error)}). {advice(wanted)}", wanted.address
        ) from error
    found = Fetched(replace(wanted, revision=folder.name), folder, tuple(matching(wanted, folder)))
    if not found.files:
        what = wanted.path or "data files"
        raise UsageError(f"{wanted.address}: has no {what}; name a file or folder of it: {DATASETS}{wanted.name}/PATH")
    size = sum(path.stat().st_size for path in found.files)
    progress.note(f"{found.repository.address}: {len(found.files)} files, {size / 1e6:,.1f} MB, in the Hub's cache")
    return found


def matching(wanted: Repository, folder: Path) -> list[Path]:
    """Return the wanted files, without others that are in the same folder of the cache, or that accompany the data."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in names if any(fnmatch(name, pattern) for pattern in wanted.patterns)]
    if wanted.kind == "dataset" and wanted.path not in names:
        kinds = beside_data(names)
        names = [name for name, kind in zip(names, kinds, strict=True) if kind is None and recognise(name)]
    return [folder / name for name in names]


def fetch_data(
    paths: Mapping[str, Sequence[str]], known: Mapping[str, Sequence[str]], progress: Progress
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the paths of each dataset with those on the Hub replaced by fetched files, and the addresses of these.

    ``known`` has the addresses that an unfinished update was begun with: their commits are kept, so that it resumes on
    the same files although a branch may have moved.
    """
    local: dict[str, list[str]] = {}
    sources: dict[str, list[str]] = {}
    for name, given in paths.items():
        for path in given:
            wanted = parse_dataset(path)
            if wanted is None:
                local.setdefault(name, []).append(path)
                continue
            found = fetch(pinned(wanted, known.get(name, ())), progress)
            local.setdefault(name, []).extend(map(str, found.files))
            sources.setdefault(name, []).append(found.repository.address)
    return local, sources


def pinned(wanted: Repository, known: Sequence[str]) -> Repository:
    """Return the repository at the commit that is recorded for it, unless the address names a revision."""
    for address in known:
        before = parse_dataset(address) if wanted.kind == "dataset" else parse_model(address)
        if before and wanted.revision is None and (before.name, before.path) == (wanted.name, wanted.path):
            return before
    return wanted


def advice(wanted: Repository) -> str:
    """Return what to do about files that could not be fetched."""
    access = "Check the name, HF_TOKEN (private and gated repositories) and HF_ENDPOINT"
    use = wanted.name.partition("/")[2]
    option = f"--from {use}" if wanted.kind == "model" else f"--data NAME={use}"
    return f"{access}; or download it where there is access, and use the folder ({option}): `{wanted.download}`"


def reason(error: BaseException) -> str:
    """Return an error's text in one line."""
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__


def bars(progress: Progress) -> "type[tqdm]":
    """Return a class of progress bars, as the Hub's client wants one, that reports received bytes to ``progress``."""
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc]  # the library has no types
        def __init__(self, *arguments: Any, **options: Any) -> None:
            options.pop("name", None)
            self.bytes = options.get("unit") == "B" and str(options.get("desc")).startswith("Downloading")
            super().__init__(*arguments, **{**options, "file": io.StringIO()})

        def update(self, n: float | None = 1) -> None:
            if self.bytes and n:
                progress.advance(n)
            super().update(n)

    return Bar
