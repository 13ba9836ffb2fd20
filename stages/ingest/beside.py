"""Files that accompany the data but are not documents: cards, licences, requirements, dataset state, LFS pointers.

A clone of a dataset repository and a ``save_to_disk`` folder contain them; if read as documents, they would be trained
on. They are skipped only in the listing of a folder or pattern: a file that the user names is read.
"""

import re
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

# By the kind that a note reports; the patterns match whole names, ignoring case.
KINDS = {
    "card": re.compile(
        r"(?:readme(?:[._-][a-z]{2}(?:[_-][a-z]{2,4})?)?|(?:data|dataset|model)[_-]?card|datasheet)\.(?:md|txt|html?)"
    ),
    "licence": re.compile(
        r"(?:(?:un)?licen[cs]e(?:[-_.](?:mit|apache|bsd|gpl|lgpl|agpl|mpl|cc|odc|data|code|model)[\w.-]*)?"
        r"|copying(?:\.lesser)?|copyright|notice|third[-_]party[-_](?:notices|licen[cs]es))\.(?:md|txt|html?)"
    ),
    "project file": re.compile(
        r"(?:contributing|changelog|code[-_]of[-_]conduct|security|authors|contributors|citation|maintainers)\.(?:md|txt)"
        r"|(?:changes|history|todo|roadmap|support|governance|acknowledge?ments|(?:issue|pull_request)_template)\.md"
        r"|(?:top_level|entry_points)\.txt"
    ),
    "site file": re.compile(r"(?:robots|humans|(?:app-)?ads|llms)\.txt"),
    "requirements": re.compile(
        r"(?:[\w.]+[-_])?requirements(?:[-_.](?:dev\w*|tests?|docs?|lock\w*|prod\w*|base|ci|cpu|gpu|cuda\w*|all|extras?"
        r"|optional|min|build|lint|full|train|[a-z]*[0-9][\w.]*))*\.txt|constraints\.txt|cmakelists\.txt"
    ),
    "checksums": re.compile(r"(?:md5|sha[0-9]{1,3})(?:[-_]?sums?)?\.txt|checksums?\.txt"),
    "state or schema": re.compile(
        r"(?:trainer_)?state\.json|dataset_infos?\.json|dataset_dict\.json|dataset-metadata\.json|datapackage\.json"
        r"|(?:generation_|preprocessor_|adapter_)?config\.json|tokenizer(?:_config)?\.json|special_tokens_map\.json"
        r"|(?:metadata|meta|stats|statistics|features|label_map|id2label|training_args|processor_config|chat_template)\.json"
        r"|added_tokens\.json|vocab\.(?:json|txt)|merges\.txt|manifest\.json|schema\.json|[\w-]+\.metadata\.json"
        r"|(?:croissant|(?:all|eval|train)_results)[\w-]*\.json|[\w.-]+\.index\.json|package(?:-lock)?\.json|tsconfig\.json"
    ),
}
FOLDERS = {"_delta_log": "log of a table", "_spark_metadata": "log of a table", "_temporary": "unfinished part"}
POINTER = "Git LFS pointer"
POINTER_HEAD = b"version https://git-lfs.github.com/spec/"
POINTER_BYTES = 1024  # maximum size of a pointer according to the Git LFS specification
ADVICE = "its contents have not been downloaded; run git lfs pull in the repository"
NAMED = 5  # files listed in a note


def kind_of(name: str) -> str | None:
    """Return the kind of a file that accompanies data, by its name, or None."""
    return next((kind for kind, names in KINDS.items() if names.fullmatch(name.lower())), None)


def kind_of_path(path: PurePosixPath) -> str | None:
    """Return the kind of a file that accompanies data, by the folders that Spark and Delta Lake write and by name."""
    return next((FOLDERS[part] for part in path.parts[:-1] if part in FOLDERS), None) or kind_of(path.name)


def is_pointer(path: str) -> bool:
    """Return whether a local file is a Git LFS pointer; False if it cannot be read."""
    try:
        found = Path(path).stat()
        if not stat.S_ISREG(found.st_mode) or not len(POINTER_HEAD) < found.st_size < POINTER_BYTES:
            return False
        with Path(path).open("rb") as stream:
            return stream.read(len(POINTER_HEAD)) == POINTER_HEAD
    except OSError:  # reported when the data is opened
        return False


def beside_data(paths: Sequence[str]) -> list[str | None]:
    """Return for each path of a listing its kind if it accompanies the data, else None.

    Among Markdown files a ``README.md`` is a document like the others; if no other file would remain, all files are
    documents.
    """
    kinds = [kind_of_path(PurePosixPath(path)) for path in paths]
    suffixes = [PurePosixPath(path).suffix.lower() for path in paths]
    if ".md" in {suffix for suffix, kind in zip(suffixes, kinds, strict=True) if kind is None}:
        kinds = [None if suffix == ".md" else kind for suffix, kind in zip(suffixes, kinds, strict=True)]
    return kinds if None in kinds else [None] * len(kinds)


def describe(kinds: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Return notes that count and name the skipped files."""
    notes = []
    names = [PurePosixPath(path).name for path in paths]
    others = [name for name, kind in zip(names, kinds, strict=True) if kind != POINTER]
    if others:
        counts = Counter(kind for kind in kinds if kind != POINTER)
        listing = ", ".join(f"{count} × {kind}" for kind, count in counts.items())
        notes.append(
            f"skipped {len(others)} files that accompany the data ({listing}): {some(others)}; "
            "to read such a file, name it explicitly"
        )
    pointers = [path for path, kind in zip(paths, kinds, strict=True) if kind == POINTER]
    if pointers:
        notes.append(f"skipped {len(pointers)} × {POINTER}, {some(pointers)}: {ADVICE}")
    return notes


def some(names: Sequence[str]) -> str:
    """Return the first few names, comma-separated."""
    return ", ".join(names[:NAMED]) + (" …" if len(names) > NAMED else "")
