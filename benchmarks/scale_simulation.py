"""Data order, plan and duplicate search at sizes that this machine does not hold.

python benchmarks/scale_simulation.py --tokens 1e13 --shards 100000 --workers 1024

The order of the training data and the choice of shards are computed for real, by the functions that training calls;
they read no tokens. The index that opening token shards builds is measured on shards of short documents and multiplied;
the duplicate search and the whole ingest are multiplied from measured points, whose source the table names. A price is
an argument and no quotation.
"""

import argparse
import resource
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np
import orjson
import pyarrow as pa

from rewarm.stages.core.digests import BLOCK, FileDigest, hash_stream
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture, Source
from rewarm.stages.data.order import Order
from rewarm.stages.data.tokens import TokenFormat, TokenSet, TokenStream, write_shard
from rewarm.stages.train.inputs import shards_read

T = TypeVar("T")
SEQ_LEN, EARLIER, SHARE = 4096, 100, Fraction(1, 4)
DOCUMENT = 1_000  # tokens, on average
INDEX_BYTES = 192  # a document in the index of duplicates with 20 bands: stages/ingest/dedup/index.py
INGEST = 3.76e6  # bytes of text a core-second, ingest as a whole: RESULTS.md, from 80 to 320 MB on two cores
PUBLISHED = (8.0, 2.05, 190.0)  # NeMo Curator's README: TB, hours on one node of H100, dollars (three nodes)


def main() -> None:
    """Print what was computed and what was multiplied, as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=float, default=1e13, help="of the arrival")
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1024)
    parser.add_argument("--sequences", type=int, default=4, help="of a worker and step")
    parser.add_argument("--documents", type=float, default=1e9, help="in the index of duplicates")
    parser.add_argument("--core-hour", type=float, default=0.05, help="price of a CPU core, dollars")
    given = parser.parse_args()
    print("| what | figure | how |\n|---|--:|---|")
    mixture = order(int(given.tokens), given.workers * given.sequences)
    plan(mixture, given.shards, given.workers)
    opening(given.tokens)
    duplicates(given.documents, given.core_hour)


def show(what: str, figure: str, how: str) -> None:
    """Print one row."""
    print(f"| {what} | {figure} | {how} |", flush=True)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """A call's result and its seconds of processor time."""
    start = time.process_time()
    found = work()
    return found, time.process_time() - start


def order(tokens: int, batch: int) -> Mixture:
    """The order of an arrival and a quarter of replay from earlier datasets of equal sizes."""
    earlier = tokens // EARLIER
    sources = [
        Source(f"crawl-{place}", (earlier - 1) // SEQ_LEN, place, num_tokens=earlier) for place in range(EARLIER)
    ]
    new = Source("arrival", Order(tokens, 1, "arrival").num_sequences(SEQ_LEN), 1, num_tokens=tokens)
    steps = int(new.num_sequences / (1 - SHARE)) // batch
    mixture = Mixture((new,), tuple(sources), str(SHARE), SEQ_LEN, batch, steps)
    counts, seconds = timed(lambda: mixture.count(0, steps))
    assert abs(sum(counts[1:]) - SHARE * steps * batch) < 1 and max(counts[1:]) - min(counts[1:]) <= 1
    show("steps; sequences", f"{steps:,}; {steps * batch:,}", f"batches of {batch:,} sequences of {SEQ_LEN:,} tokens")
    show("sequences of each source, in all steps", f"{seconds:.3f} s", "computed; replay exact to one sequence")
    places = [0, 1, steps // 2, steps - 1]
    mixture.batch(0)
    made, seconds = timed(lambda: [mixture.batch(step) for step in places])
    assert all(len(numbers) == len(starts) == batch for numbers, starts in made)
    assert all((starts >= 0).all() and starts.max() + SEQ_LEN < tokens for _, starts in made)
    show("order of one step", f"{1000 * seconds / len(places):.1f} ms", "computed at the first, middle and last step")
    return mixture


def plan(mixture: Mixture, shards: int, workers: int) -> None:
    """The shards that a run reads, and what their digests take."""
    tokens = mixture.new[0].num_tokens
    entry = {"tokens": tokens // shards, "documents": tokens // shards // DOCUMENT}
    table = {
        f"{number:06d}.arrow": FileDigest(4 * entry["tokens"], f"{number:032x}", entry) for number in range(shards)
    }
    listed = len(orjson.dumps({name: one.to_json() for name, one in table.items()}))
    show(f"table of {shards:,} shards", f"{listed / 1e6:.1f} MB", "computed")
    sets = {source.key: TokenSet(Folder("/nowhere")) for source in mixture.sources}
    read, seconds = timed(lambda: shards_read(mixture, 0, mixture.steps, {"arrival": table}, sets))
    assert len(read["arrival"]) == shards
    show("which shards the run reads", f"{seconds:.1f} s", "computed by every worker at its start")
    _, one = timed(lambda: shards_read(mixture, mixture.steps // 2, 100, {"arrival": table}, sets))
    show("which shards the next 100 steps read", f"{one:.1f} s", "computed by every worker when it resumes")
    with tempfile.TemporaryFile() as file:
        file.write(np.random.default_rng(0).bytes(256 * BLOCK))
        file.seek(0)
        _, seconds = timed(lambda: hash_stream(file))
    each = 4 * tokens / workers
    speed = 256 * BLOCK / seconds
    show("bytes of digests a worker compares", f"{each / 1e9:.0f} GB", f"multiplied; {each / speed:.0f} s of hashing")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    show("memory of this process so far", f"{peak:,.0f} MiB", "measured, imports included")


def opening(tokens: float) -> None:
    """What a process holds of token shards that it has opened: nothing per document, something per batch."""
    documents, length = 200_000, 4
    schema = TokenFormat("t", 0, "uint16").schema()
    rows = {
        "doc_id": [f"{number:032x}" for number in range(documents)],
        "tokens": [[1, 2, 3, 0]] * documents,
        "num_bytes": [9] * documents,
    }
    batch = pa.RecordBatch.from_pydict(rows, schema=schema)
    del rows
    with tempfile.TemporaryDirectory() as scratch:
        write_shard(
            Path(scratch) / "00000.arrow",
            TokenFormat("t", 0, "uint16"),
            [batch.slice(place, 2_000) for place in range(0, documents, 2_000)],
        )
        tracemalloc.start()
        stream, seconds = timed(lambda: TokenStream(Folder(scratch)))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert stream.num_tokens == documents * length
    total = tokens / DOCUMENT
    show("opened token shards in every process", f"{held / documents:.2f} B a document", "measured on 200,000")
    show(f"… of {total:.0e} documents", f"{held / documents * total / 1e9:,.0f} GB", "multiplied")
    show("… opening them", f"{seconds / documents * total / 3600:.1f} h", "multiplied, without the disk's seeks")


def duplicates(documents: float, price: float) -> None:
    """The index of duplicates, and the cost of an arrival beside a published figure."""
    show(
        f"index of {documents:.0e} documents",
        f"{documents * INDEX_BYTES / 1e9:,.0f} GB",
        f"{INDEX_BYTES} B each, on disk",
    )
    lookups = 20 * np.log2(documents)
    show(
        "… a document that arrives is looked up in", f"{lookups:.0f} steps", "20 bands, by bisection of sorted entries"
    )
    size, hours, dollars = PUBLISHED
    ours = size * 1e12 / INGEST / 3600
    show(f"ingest of {size:g} TB of text", f"{ours:,.0f} core-hours", "multiplied from 320 MB on two cores")
    show("… a TB of it, dollars", f"{ours * price / size:.2f}", f"at {price:g} dollars a core-hour")
    show("NeMo Curator, fuzzy duplicates of RedPajama v2", f"{hours:g} h", f"published: {size:g} TB, one node of H100")
    show(
        "… a TB of them, dollars", f"{dollars / size:.2f}", f"published: {dollars:g} dollars, three nodes; 315 for CPUs"
    )
    arrival = 10e9 * 5_000
    show("an arrival of 1e10 documents of 5 kB", f"{arrival / INGEST / 3600:,.0f} core-hours", "multiplied")
    show("… dollars", f"{arrival / INGEST / 3600 * price:,.0f}", f"at {price:g} dollars a core-hour")
    show("… its index of duplicates", f"{1e10 * INDEX_BYTES / 1e12:.2f} TB", "multiplied")


if __name__ == "__main__":
    main()
