"""Documents to token shards: rewarm against datatrove's DocumentTokenizer and datasets.map, on the same Parquet files.

    python benchmarks/tokenize_throughput.py --peer-python peer/bin/python               # 300 MB: half an hour
    python benchmarks/tokenize_throughput.py --peer-python peer/bin/python --megabytes 20 --vocabularies 8192

``--peer-python`` is an interpreter with datatrove, datasets, tokenizers and pyarrow. The text is the source and the
documentation of what is installed here (*.py, *.pyi, *.md, *.rst, *.txt), every file once; files that hold the
end-of-text marker are left out, since the peers would read it as one. Each contestant is a process of its own that
reads Parquet and writes its own format, with two workers.

End to end is the time of that process, start of the interpreter, imports, Ray and loading the tokenizer included.
Steady state is the rate between a run on a quarter of the files and the run on all: (bytes of all - bytes of the
quarter) / (time of all - time of the quarter). For rewarm both are runs on a Ray that is up, since the start of Ray
takes longer than the work and varies by more. Ids and ends of all documents must be the same in all three.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

GOAL = 10.0  # times datatrove's rate
WORKERS = 2
SHARDS = 8
ROW_GROUP = 2000  # documents
SUFFIXES = {".py", ".pyi", ".md", ".rst", ".txt"}
MARKER = "<|endoftext|>"
CONTESTANTS = ("rewarm", "datatrove", "datasets")
STEADY = "seconds.json"  # of the stage on a quarter and on all, on a Ray that is up
TRAINED_BYTES = 60_000_000  # gives 131,072 entries


def main() -> int:
    """Make the data, run everything, print the table; 1 where the ids differ."""
    options = parse()
    if options.role:
        ROLES[options.role](options.documents, options.tokenizer, options.out)
        return 0
    with tempfile.TemporaryDirectory(prefix="rewarm-benchmark-", dir=options.scratch) as scratch:
        return compete(Path(scratch), options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Documents to token shards, against datatrove and datasets")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with datatrove and datasets")
    parser.add_argument("--megabytes", type=float, default=300, help="of text")
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[8192, 131_072])
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument("--rounds", type=int, default=2, help="the best time of each contestant counts")
    parser.add_argument("--scratch", default=None, help="folder for the data, about eight times the text")
    for name in ("role", "documents", "tokenizer", "out"):  # how a contestant's own process is started
        parser.add_argument(f"--{name}", default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def compete(root: Path, options: argparse.Namespace) -> int:
    total, count = write_documents(root, options.megabytes * 1e6)
    part = sum(int(size.read_text()) for size in sorted(root.glob("sizes/*"))[: SHARDS // 4])
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f} before")
    print(f"Python {platform.python_version()}; {versions(options.peer_python)}")
    print(f"{count} documents, {total / 1e6:.0f} MB of text in {SHARDS} Parquet files; {WORKERS} workers each\n")
    rates = "end to end MB/s | rewarm's: × | steady MB/s | rewarm's steady: ×"
    print(f"| vocabulary | contestant | {rates} | tokens | same ids |")
    print("|--:|---|--:|--:|--:|--:|--:|---|", flush=True)
    equal = True
    notes: list[str] = []
    for vocabulary in options.vocabularies:
        tokenizer = train(root, vocabulary)
        times: dict[str, tuple[float, float, float]] = {}
        prints: dict[str, tuple[int, str]] = {}
        for number in range(options.rounds):
            for name in options.contestants if number % 2 == 0 else options.contestants[::-1]:
                short, long = steady_times(name, root, tokenizer, options.peer_python)
                whole = timed(name, root / "all", tokenizer, root / "out", options.peer_python)
                long = whole if long is None else long
                best = times.get(name, (float("inf"), float("inf"), float("inf")))
                times[name] = (min(best[0], short), min(best[1], long), min(best[2], whole))
                prints[name] = fingerprint(name, root / "out")
        if "rewarm" in times:
            short, long, whole = times["rewarm"]
            notes.append(f"{vocabulary:,}: {whole:.1f} s end to end, {long:.1f} s on a Ray that is up")
        for line in lines(vocabulary, times, prints, total, part):
            print(line, flush=True)
        equal &= len(set(prints.values())) == 1
    print("\nrewarm, vocabulary of " + "; ".join(notes) + ".")
    print(f"The goal is {GOAL:.0f} times datatrove's rate, end to end and steady, with equal ids.")
    return 0 if equal else 1


def lines(
    vocabulary: int,
    times: dict[str, tuple[float, float, float]],
    prints: dict[str, tuple[int, str]],
    total: int,
    part: int,
) -> Iterator[str]:
    """The table's lines of one vocabulary: rates, and how many times as fast rewarm is.

    ``times``: seconds of a quarter and of all for the steady state, and of all from end to end.
    """
    whole = {name: total / 1e6 / seconds for name, (_, _, seconds) in times.items()}
    steady = {name: (total - part) / 1e6 / (long - short) for name, (short, long, _) in times.items()}
    for name in times:
        ratios = [
            f"{rates['rewarm'] / rates[name]:.2f} ×" if "rewarm" in rates and name != "rewarm" else ""
            for rates in (whole, steady)
        ]
        same = "yes" if prints[name] == next(iter(prints.values())) else "NO"
        yield (
            f"| {vocabulary:,} | {name} | {whole[name]:.1f} | {ratios[0]} | {steady[name]:.1f} | {ratios[1]} | "
            f"{prints[name][0]:,} | {same} |"
        )


def steady_times(name: str, root: Path, tokenizer: Path, peer_python: str) -> tuple[float, float | None]:
    """Seconds on a quarter, and on all where that is not the time from end to end."""
    if name != "rewarm":
        return timed(name, root / "quarter", tokenizer, root / "out", peer_python), None
    timed("rewarm-steady", root, tokenizer, root / "out", peer_python)
    short, long = json.loads((root / "out" / STEADY).read_text())
    return short, long


def timed(name: str, documents: Path, tokenizer: Path, out: Path, peer_python: str) -> float:
    """Seconds of one contestant's process."""
    shutil.rmtree(out, ignore_errors=True)
    python = sys.executable if name.startswith("rewarm") else peer_python
    files = ["--documents", str(documents), "--tokenizer", str(tokenizer), "--out", str(out)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(out / "cache")}
    os.sync()  # what an earlier one wrote is not flushed at this one's cost
    began = time.perf_counter()
    done = subprocess.run(
        [python, str(Path(__file__)), "--role", name, *files],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return seconds


# -- the contestants, each in a process of its own ------------------------------------------------------------------


def run_rewarm(documents: str, tokenizer: str, out: str) -> None:
    from rewarm.stages.core.cluster import connected

    with connected(num_cpus=WORKERS):
        run_stage(documents, tokenizer, out)


def run_stage(documents: str, tokenizer: str, out: str) -> float:
    """The stage on a Ray that is up; seconds."""
    from rewarm.stages import tokenize
    from rewarm.stages.core.progress import Silent
    from rewarm.stages.core.storage import Folder

    began = time.perf_counter()
    tokenize.run(Folder(documents), Folder(tokenizer), Folder(out), tokenize.TokenizeSettings(), Silent())
    return time.perf_counter() - began


def run_rewarm_steady(documents: str, tokenizer: str, out: str) -> None:
    """A quarter to warm up, then a quarter and all, each timed."""
    from rewarm.stages.core.cluster import connected

    with connected(num_cpus=WORKERS):
        parts = ("quarter", "quarter", "all")
        taken = [run_stage(f"{documents}/{part}", tokenizer, f"{out}/{n}") for n, part in enumerate(parts)]
    Path(out, STEADY).write_text(json.dumps(taken[1:]))


def run_datatrove(documents: str, tokenizer: str, out: str) -> None:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    pipeline = [
        ParquetReader(f"{documents}/documents", text_key="text", id_key="doc_id", read_metadata=False),
        DocumentTokenizer(
            output_folder=f"{out}/tokens",
            tokenizer_name_or_path=f"{tokenizer}/tokenizer.json",
            eos_token=MARKER,
            shuffle_documents=False,
        ),
    ]
    LocalPipelineExecutor(pipeline=pipeline, tasks=WORKERS, workers=WORKERS, logging_dir=f"{out}/logs").run()


def run_datasets(documents: str, tokenizer: str, out: str) -> None:
    from datasets import load_dataset
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(f"{tokenizer}/tokenizer.json")
    end = encoder.token_to_id(MARKER)

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"input_ids": [[*found.ids, end] for found in encoder.encode_batch(batch["text"])]}

    files = sorted(str(file) for file in Path(documents, "documents").glob("*.parquet"))
    texts = load_dataset("parquet", data_files=files, split="train", columns=["text"], num_proc=WORKERS)
    mapped = texts.map(encode, batched=True, num_proc=WORKERS, remove_columns=["text"])
    mapped.save_to_disk(f"{out}/tokens", num_proc=WORKERS)


ROLES = {"rewarm": run_rewarm, "rewarm-steady": run_rewarm_steady, "datatrove": run_datatrove, "datasets": run_datasets}


# -- what they wrote ------------------------------------------------------------------------------------------------


def fingerprint(name: str, out: Path) -> tuple[int, str]:
    """Tokens, and a digest over ids and ends of the documents in one order: what datatrove's first rank read, then
    the second's, which is every second file each."""
    from rewarm.stages.data.token_files import open_datatrove

    if name == "datatrove":
        files = sorted((out / "tokens").glob("*.ds"))
        return digest(ids for file in files for ids in open_datatrove(file).read())
    if name == "datasets":
        rows = arrow_rows(sorted((out / "tokens").glob("*.arrow")), "input_ids")
        by_shard = [[next(rows) for _ in range(count)] for count in counts(out)]
    else:
        by_shard = [list(arrow_rows([file], "tokens")) for file in sorted((out / "train").glob("*.arrow"))]
    ordered = [shard for rank in range(WORKERS) for shard in by_shard[rank::WORKERS]]
    return digest(ids for shard in ordered for ids in shard)


def counts(out: Path) -> list[int]:
    """Documents of every Parquet file."""
    import pyarrow.parquet as pq

    files = sorted((out.parent / "all" / "documents").glob("*.parquet"))
    return [pq.read_metadata(file).num_rows for file in files]


def arrow_rows(files: Sequence[Path], column: str) -> Iterator:  # type: ignore[type-arg]
    from rewarm.stages.ingest.readers.tokens import TokenColumn

    for file in files:
        for ids, _ in TokenColumn(file, (column,)).rows(0, None):
            yield ids


def digest(documents: Iterable) -> tuple[int, str]:  # type: ignore[type-arg]
    hashed, tokens = sha256(), 0
    for ids in documents:
        hashed.update(len(ids).to_bytes(8, "little") + ids.astype("<u4").tobytes())
        tokens += len(ids)
    return tokens, hashed.hexdigest()


# -- the data -------------------------------------------------------------------------------------------------------


def write_documents(root: Path, limit: float) -> tuple[int, int]:
    """``all/documents`` in ``SHARDS`` Parquet files and ``quarter`` with the first of them; bytes and documents."""
    import pyarrow as pa

    from rewarm.stages.data.documents import DOCUMENT_SCHEMA, document_id, shard_writer

    chosen: list[str] = []
    total = 0
    for text, size in files_of_this_machine():
        if total >= limit:
            break
        chosen.append(text)
        total += size
    if total < limit:
        print(f"only {total / 1e6:.0f} MB of text are installed here, {limit / 1e6:.0f} were asked for")
    for folder in ("all/documents", "quarter/documents", "sizes"):
        (root / folder).mkdir(parents=True)
    for number in range(SHARDS):
        texts = chosen[number::SHARDS]
        sizes = [len(text.encode()) for text in texts]
        columns = {"doc_id": [document_id(text) for text in texts], "text": texts, "num_bytes": sizes}
        filled = {field.name: columns.get(field.name, [None] * len(texts)) for field in DOCUMENT_SCHEMA}
        file = root / "all" / "documents" / f"{number:05d}.parquet"
        with shard_writer(file) as writer:
            writer.write_table(pa.table(filled, schema=DOCUMENT_SCHEMA), row_group_size=ROW_GROUP)
        (root / "sizes" / file.stem).write_text(str(sum(sizes)))
        if number < SHARDS // 4:
            shutil.copyfile(file, root / "quarter" / "documents" / file.name)
    return total, len(chosen)


def files_of_this_machine() -> Iterator[tuple[str, int]]:
    """Text of source and documentation files with their bytes, each content once, mixed by content hash."""
    paths = {sysconfig.get_paths()[name] for name in ("purelib", "platlib", "stdlib")}
    roots = [*sorted(paths), "/usr/lib/python3", "/usr/share/doc"]
    found: dict[bytes, Path] = {}
    for root in roots:
        for folder, _, names in os.walk(root):
            for name in names:
                file = Path(folder, name)
                if file.suffix in SUFFIXES and file.is_file():
                    found.setdefault(sha256(file.read_bytes()).digest(), file)
    for _, file in sorted(found.items()):
        raw = file.read_bytes()
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            continue
        if text.strip() and MARKER not in text:
            yield text, len(raw)


def train(root: Path, vocabulary: int) -> Path:
    """A tokenizer of that many entries, trained on the text at hand."""
    from rewarm.stages.core.progress import Silent
    from rewarm.stages.core.storage import Folder
    from rewarm.stages.data.tokenizer import load_definition
    from rewarm.stages.tokenize import TokenizerSettings, train_tokenizer

    out = root / f"tokenizer-{vocabulary}"
    settings = TokenizerSettings(vocab_size=vocabulary, sample_bytes=TRAINED_BYTES)
    train_tokenizer(Folder(root / "all" / "documents"), Folder(out), settings, Silent())
    found = load_definition(Folder(out)).num_ids
    if found < vocabulary:
        print(f"the text gives a vocabulary of {found:,}, not of {vocabulary:,}")
    return out


def versions(peer_python: str) -> str:
    code = "from importlib.metadata import version as v; print(*(f'{n} {v(n)}' for n in %r), sep=', ')"
    peers = subprocess.run(
        [peer_python, "-c", code % (("datatrove", "datasets", "tokenizers", "pyarrow"),)],
        capture_output=True,
        text=True,
        check=True,
    )
    ours = ", ".join(f"{name} {version(name)}" for name in ("fastokens", "tokenizers", "pyarrow", "ray"))
    return f"rewarm: {ours}; peers: {peers.stdout.strip()}"


if __name__ == "__main__":
    sys.exit(main())
