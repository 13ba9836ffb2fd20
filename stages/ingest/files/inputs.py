"""One file of an arrival, and what its name says about it."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".txt": "text",
    ".md": "text",
    ".warc": "warc",
    ".wet": "wet",
    ".html": "html",
    ".htm": "html",
    ".bin": "megatron",
    ".ds": "datatrove",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2"}
PACKED_INSIDE = ("parquet", "arrow", "megatron", "datatrove", "tokens")
SUPPORTED = (
    "JSON lines (.jsonl, .ndjson, .json), tables (.csv, .tsv), text (.txt, .md), pages (.html, .htm) and web archives "
    "(.warc, .wet), each also as .gz, .zst or .bz2, .parquet and Arrow (.arrow, .feather, .ipc), and tokens of "
    "Megatron (.bin beside .idx) and datatrove (.ds)"
)


@dataclass(frozen=True)
class InputFile:
    """One file of an arrival, as it was when it was listed."""

    path: str  # absolute, or a URI that holds all it takes to open it but the credentials
    name: str  # relative to what the user gave: the same wherever the data lies
    size: int  # bytes
    format: str  # a value of ``FORMATS``, or "tokens"
    compression: str  # "", "gzip", "zstd" or "bzip2"
    version: str = ""  # of the contents: time of the last change in ns, or what a web server gives for it


def recognise(name: str, kind: str = "auto") -> tuple[str, str] | None:
    """Format and compression by the suffixes of a file's path, or of the ``kind`` given; None where unknown.

    A ``.bin`` may hold anything: it is Megatron's where its ``.idx`` lies beside it.
    """
    path = PurePosixPath(name.lower())
    compression = COMPRESSIONS.get(path.suffix, "")
    found = FORMATS.get(PurePosixPath(path.stem).suffix if compression else path.suffix) if kind == "auto" else kind
    if found is None or (compression and found in PACKED_INSIDE):
        return None
    if found == "megatron" and not Path(name).with_suffix(".idx").is_file():
        return None
    return found, compression
