"""``rewarm push``: the upload of a release with its card, to a repository on the Hugging Face Hub or to a folder.

Only the files that users of the model need are sent: safetensors, configuration, tokenizer, licence and card.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from rewarm.pipeline.lineage.weights import WEIGHTS
from rewarm.pipeline.lineage.workspace import CARD
from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder
from rewarm.stages.core.temporary import temporary
from rewarm.stages.data.model_folder import LICENCE_FILES, TOKENIZER_FILES

HUB = "hf://"
TAG = b"\n- rewarm\n"  # in the card of every release
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
PATTERNS = tuple(f"*{ending}" for ending in WEIGHTS)
SENT = (  # in the order of upload: the card first, which identifies the folder; the configuration last, after weights
    CARD,
    *PATTERNS,
    *LICENCE_FILES,
    *TOKENIZER_FILES,
    *("generation_config.json", "config.json"),
)


@dataclass(frozen=True)
class Target:
    """The destination of a release: a repository on the Hub, or a folder."""

    uri: str
    repository: str | None = None  # ORG/NAME
    revision: str | None = None  # branch; null: main
    private: bool = False


@dataclass(frozen=True)
class Parcel:
    """The files of a release to send, by name, and the text of its card."""

    release: Folder
    files: tuple[str, ...]  # in the order of upload
    card: str

    def bytes(self, name: str) -> int:
        """Return the size of a file."""
        return len(self.card.encode()) if name == CARD else self.release.size(name)


def parse_target(uri: str, revision: str | None, private: bool) -> Target:
    """Parse the value of ``--to``; raises ``UsageError`` if it is neither a repository nor a folder."""
    if not uri.strip():
        raise UsageError(f"--to is empty; expected {HUB}ORG/NAME or a folder")
    if uri.startswith(HUB):
        repository = uri.removeprefix(HUB).strip("/")
        if not REPOSITORY.fullmatch(repository):
            raise UsageError(f"--to {uri}: expected {HUB}ORG/NAME, a model repository on the Hugging Face Hub")
        return Target(uri, repository, revision, private)
    if revision is not None or private:
        raise UsageError(f"--to {uri}: --revision and --private require a repository on the Hub ({HUB}ORG/NAME)")
    Folder(uri).filesystem()
    return Target(uri)


def pack(release: Folder, card: str) -> Parcel:
    """Select the files of a release's folder that are sent."""
    names = sorted({*release.files(), CARD})
    return Parcel(
        release, tuple(dict.fromkeys(name for pattern in SENT for name in names if fits(name, pattern))), card
    )


def fits(name: str, pattern: str) -> bool:
    """Return whether a file name matches a pattern; licence files match in upper and lower case."""
    return fnmatch(name.upper() if pattern in LICENCE_FILES else name, pattern)


def push(parcel: Parcel, target: Target, message: str, progress: Progress) -> dict[str, Any]:
    """Send a release; returns its URL. Raises ``StageError`` if the destination refuses or cannot be reached."""
    if target.repository is not None:
        return push_to_hub(parcel, target, message, progress)
    folder = Folder(target.uri)
    try:
        refuse_others(folder)
        if folder.is_local:
            push_to_disk(parcel, folder, progress)
        else:
            push_to_bucket(parcel, folder, progress)
    except OSError as error:
        raise StageError(
            f"{folder}: cannot write: {error}; run the same command again to restart the upload"
        ) from error
    return {"url": folder.uri}


def refuse_others(folder: Folder) -> None:
    """Raise ``UsageError`` if a folder holds files that no push wrote, because a push replaces the whole folder."""
    if folder.is_local and folder.path.is_file():
        raise UsageError(f"--to {folder}: is a file, not a folder; name a new folder")
    names = folder.files()
    strange = [*folder.folders(), *(name for name in names if not any(fits(name, pattern) for pattern in SENT))]
    if names and not strange and not (CARD in names and TAG in folder.read(CARD)):
        strange = names
    if strange:
        raise UsageError(
            f"--to {folder}: holds other files ({', '.join(strange[:3])}); name a new folder, or the target of an "
            "earlier push"
        )


def push_to_disk(parcel: Parcel, folder: Folder, progress: Progress) -> None:
    """Replace the whole folder atomically."""
    progress.begin(f"copying to {folder}", sum(map(parcel.bytes, parcel.files)), "bytes")
    with Folder(folder.path.parent).writing(folder.path.name) as scratch:
        scratch.mkdir(parents=True)
        for name in parcel.files:
            if name == CARD:
                (scratch / name).write_text(parcel.card, encoding="utf-8")
            else:
                with parcel.release.fetched(name) as file:
                    copy(file, scratch / name)
            progress.advance(parcel.bytes(name))


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes, in blocks."""
    with source.open("rb") as read, target.open("wb") as write:
        while block := read.read(1 << 24):
            write.write(block)


def push_to_bucket(parcel: Parcel, folder: Folder, progress: Progress) -> None:
    """Upload file by file, the card first and the configuration last; then delete the other files of earlier pushes."""
    progress.begin(f"uploading to {folder}", sum(map(parcel.bytes, parcel.files)), "bytes")
    for name in parcel.files:
        if name == CARD:
            folder.write(CARD, parcel.card.encode())
        else:
            with parcel.release.fetched(name) as file:
                folder.upload(file, name)
        progress.advance(parcel.bytes(name))
    for name in folder.files():
        if name not in parcel.files:
            folder.delete(name)


def push_to_hub(parcel: Parcel, target: Target, message: str, progress: Progress) -> dict[str, Any]:
    """Push one commit to a model repository, which is created if needed; reads ``HF_ENDPOINT`` and ``HF_TOKEN``."""
    from huggingface_hub import HfApi

    assert target.repository is not None
    api, repository = HfApi(library_name="rewarm"), target.repository
    progress.begin(f"uploading to {repository}", sum(map(parcel.bytes, parcel.files)), "bytes")

    def send() -> Any:
        api.create_repo(repository, private=target.private, exist_ok=True, repo_type="model")
        if target.revision is not None:
            api.create_branch(repository, branch=target.revision, exist_ok=True)
        with temporary("push") as scratch, parcel.release.fetched() as release:
            for name in parcel.files:
                if name == CARD:
                    (scratch / name).write_text(parcel.card, encoding="utf-8")
                else:
                    (scratch / name).symlink_to(release / name)
            return api.upload_folder(
                repo_id=repository,
                folder_path=scratch,
                revision=target.revision,
                commit_message=message,
                delete_patterns=list(PATTERNS),
            )

    try:
        done = send()
    except Exception as error:  # errors of the client and of its HTTP library
        raise StageError(
            f"{target.uri}: the Hub refused the upload or could not be reached ({' '.join(str(error).split())[:500]}); "
            "check HF_TOKEN (a token with write access) and HF_ENDPOINT (the Hub's address)"
        ) from error
    return {"url": str(done.commit_url), "commit": str(done.oid)}
