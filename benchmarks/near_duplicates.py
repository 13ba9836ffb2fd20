"""Near-duplicates: rewarm's search against datatrove's MinHash pipeline, on one corpus with planted pairs.

    python benchmarks/near_duplicates.py --documents 20000 --peer-python PEER/bin/python
    python benchmarks/near_duplicates.py --documents 20000 --series 10

Real text (docstrings and source of the installed packages, or ``--text`` as JSON lines) is cut into unrelated
documents; to some of them a copy is planted, with words replaced until the Jaccard similarity of the 5-word shingles
is 0.9, 0.8 or 0.7 (to be found) or 0.5, 0.4 or 0.3 (to be left). Both read the same JSON lines and write what stays as
JSON lines, with the same number of processes: rewarm by Ray, datatrove by its LocalPipelineExecutor with the default
MinhashConfig. The peer's interpreter needs datatrove and spacy. Times are from the first byte read to the last
written, without starting interpreters and Ray. A pair counts as found when one of both went; precision is the share of
what went that was planted at 0.7 or more.
"""

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

FOUND, LEFT = (0.9, 0.8, 0.7), (0.5, 0.4, 0.3)
TOLERANCE = 0.02
SHINGLE = 5
WORDS = (300, 600)  # of a document
SHARDS = 8
GOAL = 8.0
DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)


def main() -> None:
    """Make the corpus, run both over it, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000, help="planted copies included")
    parser.add_argument("--text", type=Path, help="JSON lines with a field text; default: installed modules")
    parser.add_argument("--out", type=Path, default=Path("bench-results/near-duplicates"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--peer-python", default=sys.executable, help="an interpreter that has datatrove and spacy")
    parser.add_argument("--peer-language", default="eng", help="whose word tokenizer datatrove takes")
    parser.add_argument("--series", type=int, default=0, help="arrivals to take in one after the other, instead")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peer:
        print(json.dumps(run_peer(given.peer, given.processes, given.peer_language)))
        return
    shutil.rmtree(given.out, ignore_errors=True)
    if given.series:
        show_series(given)
        return
    pairs = make_corpus(given.out / "corpus", given.documents, given.text)
    start_ray(given.processes)
    ours = run_ours(given.out / "corpus", given.out / "ours", [], "ours")
    command = [given.peer_python, __file__, "--peer", str(given.out), "--processes", str(given.processes)]
    command += ["--peer-language", given.peer_language]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the peer failed:\n{done.stderr[-3000:]}")
    peer = json.loads(done.stdout.splitlines()[-1])
    kept = [kept_ids(given.out / "ours" / "documents"), kept_ids(given.out / "peer" / "documents")]
    show(pairs, kept, ours, peer, given.documents)


# -- the corpus --------------------------------------------------------------------------------------------------


def make_corpus(folder: Path, documents: int, text: Path | None) -> list[tuple[str, str, float]]:
    """Write the shards; the planted pairs with their similarity. Ten unrelated documents and six copies in turn."""
    rng = random.Random(0)
    levels = FOUND + LEFT
    rows: list[tuple[str, str]] = []
    pairs: list[tuple[str, str, float]] = []
    vocabulary: list[str] = []
    for number, words in enumerate(unrelated(texts(text))):
        if len(rows) >= documents:
            break
        rows.append((f"d{number}", " ".join(words)))
        vocabulary = (vocabulary + words)[-50_000:]
        if number % 10 < len(levels):
            copy = edited(words, levels[number % 10], vocabulary, rng)
            if copy is not None:
                rows.append((f"c{number}", " ".join(copy)))
                pairs.append((f"d{number}", f"c{number}", levels[number % 10]))
    if len(rows) < documents:
        raise SystemExit(f"the text makes only {len(rows)} documents of {documents}: give more (--text)")
    rng.shuffle(rows)
    folder.mkdir(parents=True)
    for shard in range(SHARDS):
        lines = [json.dumps({"id": name, "text": text}) for name, text in rows[shard::SHARDS]]
        (folder / f"{shard:05d}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return pairs


def texts(path: Path | None) -> Iterator[str]:
    """The real text: of JSON lines, or of every installed module its docstrings, then, where more is needed, all."""
    if path is not None:
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line)["text"] for line in lines)
        return
    sources = sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py"))
    for source in sources:
        yield "\n".join(DOCSTRING.findall(source.read_text(encoding="utf-8", errors="replace")))
    for source in sources:
        yield source.read_text(encoding="utf-8", errors="replace")


def unrelated(found: Iterator[str]) -> Iterator[list[str]]:
    """Documents of 300 to 600 words that share less than a tenth of their shingles with all before them."""
    seen: set[int] = set()
    for text in found:
        words = text.split()
        for start in range(0, len(words), WORDS[1]):
            document = words[start : start + WORDS[1]]
            mine = shingles(document)
            if len(document) >= WORDS[0] and len(mine) >= WORDS[0]:
                if sum(shingle in seen for shingle in mine) < len(mine) / 10:
                    yield document
                seen |= mine


def shingles(words: Sequence[str]) -> set[int]:
    """Hashes of all runs of five words, in lower case and without punctuation."""
    plain = re.findall(r"\w+", " ".join(words).lower())
    return {hash(tuple(plain[at : at + SHINGLE])) for at in range(max(1, len(plain) - SHINGLE + 1))}


def jaccard(some: set[int], others: set[int]) -> float:
    """Shared ones among all."""
    return len(some & others) / len(some | others)


def edited(words: list[str], target: float, vocabulary: list[str], rng: random.Random) -> list[str] | None:
    """The document with words replaced at random until the similarity is the target; None where none comes near."""
    places = rng.sample(range(len(words)), len(words))
    others = dict(zip(places, rng.choices(vocabulary, k=len(words)), strict=True))
    original = shingles(words)

    def with_edits(count: int) -> list[str]:
        chosen = set(places[:count])
        return [others[place] if place in chosen else word for place, word in enumerate(words)]

    low, high = 0, len(words)
    while low < high:
        middle = (low + high) // 2
        if jaccard(original, shingles(with_edits(middle))) > target:
            low = middle + 1
        else:
            high = middle
    candidates = [with_edits(count) for count in (max(low - 1, 0), low)]
    off = [abs(jaccard(original, shingles(candidate)) - target) for candidate in candidates]
    return candidates[off.index(min(off))] if min(off) <= TOLERANCE else None


def kept_ids(folder: Path) -> set[str]:
    """The ids of the documents that a run wrote."""
    lines = (line for path in folder.glob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines())
    return {json.loads(line)["id"] for line in lines}


# -- ours --------------------------------------------------------------------------------------------------------


def start_ray(processes: int) -> None:
    """A Ray whose workers have run something."""
    import ray

    from rewarm.stages.core.progress import Silent
    from rewarm.stages.core.ray_data import map_shards

    ray.init(address="local", num_cpus=processes, include_dashboard=False, log_to_driver=False)
    map_shards(warm, [{"shards": 1}] * processes, Silent(), "warming", "shards")


def warm(shard: dict[str, Any]) -> dict[str, Any]:
    """Import what the work needs."""
    import rewarm.stages.ingest.dedup.decide

    return {"module": rewarm.stages.ingest.dedup.decide.__name__}


def run_ours(corpus: Path, out: Path, earlier: Sequence[str], name: str) -> dict[str, float]:
    """Sign, decide, write what stays, index; the seconds of each."""
    from rewarm.stages.core.progress import Silent
    from rewarm.stages.core.ray_data import map_shards
    from rewarm.stages.core.storage import Folder
    from rewarm.stages.data.split import SplitSize
    from rewarm.stages.ingest.dedup.decide import decide
    from rewarm.stages.ingest.dedup.index import index_documents
    from rewarm.stages.ingest.settings import DuplicateSettings

    settings, staging = DuplicateSettings(), Folder(out / f"{name}.staging")
    shards = [{"path": str(path), "name": path.stem, "files": 1} for path in sorted(corpus.glob("*.jsonl"))]
    begin = time.perf_counter()
    read = map_shards(partial(sign_shard, staging=staging, settings=settings), shards, Silent(), "signing", "files")
    signed = time.perf_counter()
    documents = [(account["name"], account["documents"]) for account in read]
    index = out / "dedup"
    decide(staging, documents, [Folder(index / other) for other in earlier], settings, SplitSize(0.02), Silent())
    decided = time.perf_counter()
    write = partial(write_kept, staging=staging, out=Folder(out / "documents"))
    map_shards(write, shards, Silent(), "writing", "files")
    written = time.perf_counter()
    index_documents(Folder(index / name), staging, documents, settings, Silent())
    indexed = time.perf_counter()
    return {
        "sign": signed - begin,
        "decide": decided - signed,
        "write": written - decided,
        "index": indexed - written,
        "seconds": indexed - begin,
    }


def sign_shard(shard: dict[str, Any], staging: Any, settings: Any) -> dict[str, Any]:
    """Read one file and write its signatures, and the sizes of its documents."""
    import orjson
    import pyarrow as pa
    import pyarrow.parquet as pq

    from rewarm.stages.data.documents import document_id
    from rewarm.stages.ingest.dedup.staged import SignatureSink

    sizes: list[int] = []
    with Path(shard["path"]).open("rb") as lines, SignatureSink(staging, shard["name"], settings) as sink:
        while batch := lines.readlines(4 * 2**20):
            found = [orjson.loads(line)["text"] for line in batch]
            none = [None] * len(found)
            sink.add([document_id(text) for text in found], none, none, found)
            sizes += [len(text.encode()) for text in found]
    with staging.writing(f"{shard['name']}.parquet") as scratch:
        pq.write_table(pa.table({"num_bytes": sizes}), scratch)
    return {"name": shard["name"], "documents": len(sizes)}


def write_kept(shard: dict[str, Any], staging: Any, out: Any) -> dict[str, Any]:
    """Write the lines that stay."""
    from rewarm.stages.ingest.dedup.index import read_fates, stays

    kept = stays(read_fates(staging, shard["name"]))
    with (
        Path(shard["path"]).open("rb") as lines,
        out.writing(f"{shard['name']}.jsonl") as scratch,
        scratch.open("wb") as target,
    ):
        target.writelines(line for line, stay in zip(lines, kept, strict=True) if stay)
    return {}


# -- the peer ----------------------------------------------------------------------------------------------------


def run_peer(out: Path, processes: int, language: str) -> dict[str, float]:
    """datatrove's four stages with its default configuration; runs in the peer's interpreter."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    corpus, home, config = str(out / "corpus"), out / "peer", MinhashConfig()
    parts = [str(home / part) for part in ("signatures", "buckets", "clusters")]
    written = JsonlWriter(str(home / "documents"), output_filename="${rank}.jsonl", compression=None)
    stages = [
        ([JsonlReader(corpus), MinhashDedupSignature(parts[0], config, language)], SHARDS),
        ([MinhashDedupBuckets(parts[0], parts[1], config=config)], config.num_buckets),
        ([MinhashDedupCluster(parts[1], parts[2], config=config)], 1),
        ([JsonlReader(corpus), MinhashDedupFilter(parts[2]), written], SHARDS),
    ]
    begin = time.perf_counter()
    for number, (pipeline, tasks) in enumerate(stages):
        logs = str(home / "logs" / str(number))
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=min(tasks, processes), logging_dir=logs).run()
    return {"seconds": time.perf_counter() - begin}


# -- tables ------------------------------------------------------------------------------------------------------


def show(
    pairs: list[tuple[str, str, float]],
    kept: list[set[str]],
    ours: dict[str, float],
    peer: dict[str, float],
    documents: int,
) -> None:
    """Times, recall by level and precision of both."""
    gone = [{name for pair in pairs for name in pair[:2]} - ids for ids in kept]
    lost = [documents - len(ids) for ids in kept]
    ratio = peer["seconds"] / ours["seconds"]
    print(f"\n{documents:,} documents, {len(pairs):,} planted pairs\n")
    print("| | rewarm | datatrove |\n|---|--:|--:|")
    print(f"| seconds | {ours['seconds']:.2f} | {peer['seconds']:.2f} |")
    print(f"| ms a document | {1000 * ours['seconds'] / documents:.3f} | {1000 * peer['seconds'] / documents:.3f} |")
    for level in FOUND + LEFT:
        at_level = [pair[:2] for pair in pairs if pair[2] == level]
        shares = [sum(bool(removed & set(pair)) for pair in at_level) / max(1, len(at_level)) for removed in gone]
        label = "found" if level in FOUND else "wrongly found"
        print(f"| {label} at Jaccard {level} ({len(at_level)}) | {shares[0]:.3f} | {shares[1]:.3f} |")
    right = {name for one, other, level in pairs if level in FOUND for name in (one, other)}
    precision = [len(removed & right) / count if count else 1.0 for removed, count in zip(gone, lost, strict=True)]
    print(f"| precision | {precision[0]:.3f} | {precision[1]:.3f} |")
    print("\nseconds of rewarm's parts: " + ", ".join(f"{part} {ours[part]:.2f}" for part in list(ours)[:-1]))
    print(f"datatrove/rewarm: {ratio:.1f}; the goal of {GOAL:g}: {'met' if ratio >= GOAL else 'missed'}")


def show_series(given: argparse.Namespace) -> None:
    """Equal arrivals one after the other, each against all before it; a first one warms everything up."""
    make_corpus(given.out / "all", given.documents, given.text)
    lines = [line for path in sorted((given.out / "all").glob("*.jsonl")) for line in path.open("rb")]
    size = len(lines) // given.series
    for number in range(given.series):
        folder = given.out / "arrivals" / str(number)
        folder.mkdir(parents=True)
        mine = lines[number * size : (number + 1) * size]
        for shard in range(SHARDS):
            (folder / f"{shard:05d}.jsonl").write_bytes(b"".join(mine[shard::SHARDS]))
    start_ray(given.processes)
    run_ours(given.out / "arrivals" / "0", given.out / "warm", [], "warm")
    names: list[str] = []
    first = 0.0
    print(f"\n{given.series} arrivals of {size:,} documents\n\n| arrival | seconds | decide | of the first |")
    print("|--:|--:|--:|--:|")
    for number in range(given.series):
        name = f"arrival-{number}"
        took = run_ours(given.out / "arrivals" / str(number), given.out / "series", names, name)
        first = first or took["seconds"]
        names.append(name)
        print(f"| {number + 1} | {took['seconds']:.2f} | {took['decide']:.2f} | {took['seconds'] / first:.2f} |")


if __name__ == "__main__":
    main()
