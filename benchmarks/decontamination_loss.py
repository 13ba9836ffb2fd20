"""Validation loss with and without decontamination, apart from what copies in training do to it.

    python benchmarks/decontamination_loss.py
    python benchmarks/decontamination_loss.py --corpus technical --seeds 3 --steps 300

A corpus of ``benchmarks/decontamination.py`` is ingested with the step and without it. Models of the bytes of each are
compared on the same held-out documents, each read by itself. Copies of held-out text that stay in training lower the
loss of the documents that they copy, so the difference is printed for all held-out documents, for those that share a
run of 13 words with the text that the step sees, and for the others, of which no copy exists: only these say whether
the text that is cut is missed.

The first table is of a byte n-gram model (up to nine bytes, Witten-Bell), which reads the whole text and has no seed;
"random" is the loss after as many bytes of documents drawn at random were removed instead. With ``--steps`` small
transformers follow, of the same seeds, the same number of bytes and the same windows where the step changed nothing.
Intervals are two standard errors over documents, and over seeds where there are any.
"""

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from decontamination import CORPORA, RUN, collect, ingest, start_ray, texts_of

from rewarm.stages.ingest import IngestSettings
from rewarm.stages.ingest.decontaminate.grams import gram_hashes
from rewarm.stages.ingest.decontaminate.guards import holds

ORDER = 8  # bytes of context of the n-gram model
CONTEXT, BATCH = 256, 16  # bytes of a sequence, sequences of a step
RATE, WARMUP = 2e-3, 20  # highest learning rate, steps up to it; then linear to 0
END = 256  # ends a document, in a vocabulary of bytes
ODD = [np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)]


@dataclass(frozen=True)
class Document:
    """A training document as its bytes, without the step and with it; empty if the step removed it."""

    without: bytes
    kept: bytes


def main() -> None:
    """Ingest the corpus twice, train the models, print the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", choices=CORPORA, default="docstrings")
    parser.add_argument("--megabytes", type=float, default=6, help="of the corpus, at most")
    parser.add_argument("--validation-share", type=float, default=0.1, help="of its documents")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--steps", type=int, default=0, help=f"of {BATCH} sequences of {CONTEXT} bytes; 0: n-grams only"
    )
    parser.add_argument("--out", type=Path, default=Path("bench-results/decontamination-loss"))
    given = parser.parse_args()
    start_ray()
    texts = collect(given.corpus, int(given.megabytes * 1e6))
    off, on = (
        IngestSettings(decontaminate={"enabled": enabled}, validation_share=given.validation_share)
        for enabled in (False, True)
    )
    without, _ = ingest(texts, given.out, "without", off)
    kept, _ = ingest(texts, given.out, "with", on)
    held_out = texts_of(given.out / "with" / "validation")
    documents = pairs(without, kept)
    copied = overlapping(held_out, without)
    report(documents, held_out, copied)
    sizes = np.array([len(text.encode()) for text in held_out])
    arms = [[one.without for one in documents], [one.kept for one in documents if one.kept], thinned(documents)]
    losses = np.array([[ngram_nats(arm, held_out) for arm in arms]])
    print_table("n-grams", losses, sizes, copied)
    for seed in range(given.seeds if given.steps else 0):
        pair = [train(documents, held_out, given.steps, seed, with_step) for with_step in (False, True)]
        losses = np.array([pair]) if seed == 0 else np.concatenate([losses, [pair]])
    if given.steps:
        print_table(f"{given.seeds} seeds, {given.steps} steps", losses, sizes, copied)


def print_table(title: str, losses: np.ndarray, sizes: np.ndarray, copied: np.ndarray) -> None:
    """Print bits per byte of groups of held-out documents; ``losses`` in nats [seeds, arms, documents]."""
    print(f"\n| {title}: held-out documents | number | without | with | difference | others |")
    print("|---|--:|--:|--:|--:|---|")
    for name, chosen in (("all", copied | ~copied), ("with copies in training", copied), ("no copies", ~copied)):
        print(row(name, losses[:, :, chosen], sizes[chosen]), flush=True)


def pairs(without: Sequence[str], kept: Sequence[str]) -> list[Document]:
    """Pair the documents of both texts, which have the same order."""
    as_they_are, left, found = set(without), list(kept), []
    for text in without:
        changed = bool(left) and left[0] not in as_they_are and shares_an_end(text, left[0])
        other = left.pop(0) if left and (left[0] == text or changed) else ""
        found.append(Document(text.encode(), other.encode()))
    if left:
        raise SystemExit(f"{len(left)} documents after the step belong to none before it: {left[0][:80]!r}")
    return found


def shares_an_end(text: str, cut: str, letters: int = 30) -> bool:
    """Whether a cut text may come from ``text``: they begin or end alike, or its beginning is within."""
    return cut[:letters] in text or cut[-letters:] in text


def overlapping(held_out: Sequence[str], training: Sequence[str]) -> np.ndarray:
    """Which held-out documents share a run of words with a training document; bool."""
    there = np.unique(np.concatenate([gram_hashes(text, RUN) for text in training]))
    return np.array([bool(holds(there, gram_hashes(text, RUN)).any()) for text in held_out])


def report(documents: Sequence[Document], held_out: Sequence[str], copied: np.ndarray) -> None:
    """Print what the step did."""
    before, after = (sum(map(len, part)) for part in zip(*((one.without, one.kept) for one in documents), strict=True))
    changed = sum(one.without != one.kept for one in documents)
    print(
        f"{len(documents):,} training documents, {changed:,} changed or removed, {1 - after / before:.2%} of "
        f"{before:,} bytes; {len(held_out):,} held out, {int(copied.sum()):,} share a run of {RUN} words with training"
    )


def row(name: str, losses: np.ndarray, sizes: np.ndarray) -> str:
    """A row of the table, in bits per byte; ``losses`` in nats [seeds, arms, documents]."""
    bits = losses / np.log(2)
    levels = bits.sum(2) / sizes.sum()
    by_seed = levels[:, 1] - levels[:, 0]
    excess = (bits[:, 1] - bits[:, 0]).mean(0)  # of each document
    difference = excess.sum() / sizes.sum()
    of_seeds = by_seed.std(ddof=1) / len(by_seed) ** 0.5 if len(by_seed) > 1 else 0.0
    of_documents = len(sizes) ** 0.5 * (excess - difference * sizes).std(ddof=1) / sizes.sum()
    others = [f"{one:+.4f}" for one in by_seed] if len(by_seed) > 1 else []
    others += [f"random {one:+.4f}" for one in (levels[:, 2:] - levels[:, :1])[0]]
    return (
        f"| {name} | {len(sizes)} | {levels[:, 0].mean():.4f} | {levels[:, 1].mean():.4f} "
        f"| {difference:+.4f} ± {2 * np.hypot(of_seeds, of_documents):.4f} | {', '.join(others)} |"
    )


# -- byte n-grams ------------------------------------------------------------------------------------------------


def thinned(documents: Sequence[Document]) -> list[bytes]:
    """The text without the step, less documents drawn at random with as many bytes as the step took."""
    left = sum(len(one.without) - len(one.kept) for one in documents)
    gone: set[int] = set()
    for index in random.Random(0).sample(range(len(documents)), len(documents)):
        if left <= 0:
            break
        gone.add(index)
        left -= len(documents[index].without)
    return [one.without for index, one in enumerate(documents) if index not in gone]


def ngram_nats(training: Sequence[bytes], held_out: Sequence[str]) -> np.ndarray:
    """Nats of each held-out text under byte n-grams of the training text with Witten-Bell smoothing."""
    known, asked = stream_of(training), stream_of([text.encode() for text in held_out])
    chance = np.full(len(asked), 1 / (END + 1))
    for order in range(ORDER + 1):
        before, wanted = contexts(known, order), contexts(asked, order)
        grams, of_gram, times = np.unique(extended(before, known), return_index=True, return_counts=True)
        starts, of_start = np.unique(before, return_counts=True)
        _, followers = np.unique(before[of_gram], return_counts=True)  # of the same contexts, in the same order
        total, kinds = found(starts, of_start, wanted), found(starts, followers, wanted)
        seen = found(grams, times, extended(wanted, asked))
        chance = np.where(total > 0, (seen + kinds * chance) / np.maximum(total + kinds, 1), chance)
    owner, inside = np.cumsum(asked == END) - 1, asked != END
    nats = np.zeros(len(held_out))
    np.add.at(nats, owner[inside], -np.log(chance[inside]))
    return nats


def stream_of(texts: Sequence[bytes]) -> np.ndarray:
    """All bytes, each text after ``END``; uint64."""
    return np.array([byte for text in texts for byte in [END, *text]], np.uint64)


def contexts(stream: np.ndarray, order: int) -> np.ndarray:
    """Hash of the ``order`` bytes before each byte; uint64."""
    hashes = np.zeros(len(stream), np.uint64)
    for distance in range(1, order + 1):
        hashes[distance:] = hashes[distance:] * ODD[0] + stream[:-distance] + np.uint64(1)
        hashes ^= hashes >> np.uint64(29)
    return hashes * ODD[1]


def extended(hashes: np.ndarray, stream: np.ndarray) -> np.ndarray:
    """Hash of each context with the byte that follows; uint64."""
    mixed: np.ndarray = (hashes ^ (hashes >> np.uint64(31))) * ODD[2] + (stream + np.uint64(1)) * ODD[0]
    return mixed


def found(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The values of the wanted keys; 0 for missing ones."""
    index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[index] == wanted, values[index], 0)


# -- transformers ------------------------------------------------------------------------------------------------


def train(documents: Sequence[Document], held_out: Sequence[str], steps: int, seed: int, with_step: bool) -> np.ndarray:
    """Train a GPT-NeoX of 2 × 64 on the bytes; return nats of each held-out document."""
    import torch
    import transformers

    torch.manual_seed(seed)
    config = transformers.GPTNeoXConfig(
        vocab_size=END + 1,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        max_position_embeddings=CONTEXT,
    )
    model = transformers.GPTNeoXForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    stream = torch.tensor([byte for one in documents for byte in [*(one.kept if with_step else one.without), END]])
    starts = places_of(documents, steps * BATCH, seed)[with_step]
    for step in range(steps):
        batch = torch.stack([stream[place : place + CONTEXT] for place in starts[step * BATCH : (step + 1) * BATCH]])
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARMUP) * (1 - step / steps)
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
    return measure(model, held_out)


def places_of(documents: Sequence[Document], number: int, seed: int) -> dict[bool, list[int]]:
    """Draw ``number`` places in the text without the step, and the same places in the text with it.

    In a document that was cut, the place is proportionally as far from the beginning; instead of a removed document the
    following one is read.
    """
    ends = {arm: np.cumsum([len(one.kept if arm else one.without) + 1 for one in documents]) for arm in (False, True)}
    rng, places = random.Random(seed), {False: [], True: []}
    for _ in range(number):
        place = rng.randrange(int(ends[False][-1]) - CONTEXT)
        index = int(np.searchsorted(ends[False], place, "right"))
        one = documents[index]
        offset = place - int(ends[False][index]) + len(one.without) + 1
        in_kept = offset if one.kept == one.without else offset * len(one.kept) // (len(one.without) + 1)
        other = int(ends[True][index]) - len(one.kept) - 1 + in_kept
        places[False].append(place)
        places[True].append(min(other, int(ends[True][-1]) - CONTEXT))
    return places


def measure(model: "transformers.GPTNeoXForCausalLM", held_out: Sequence[str]) -> np.ndarray:  # noqa: F821
    """Nats of each text, read by itself in windows of ``CONTEXT`` bytes that begin with its end mark."""
    import torch

    owners, windows = [], []
    for number, text in enumerate(held_out):
        data = list(text.encode())
        for start in range(0, len(data), CONTEXT - 1):
            part = [data[start - 1] if start else END, *data[start : start + CONTEXT - 1]]
            owners.append(number)
            windows.append(part + [-1] * (CONTEXT - len(part)))
    nats = np.zeros(len(held_out))
    with torch.no_grad():
        for first in range(0, len(windows), 64):
            batch = torch.tensor(windows[first : first + 64])
            logits = model(input_ids=batch.clamp(min=0)).logits[:, :-1]
            targets = batch[:, 1:]
            loss = torch.nn.functional.cross_entropy(
                logits.reshape(-1, END + 1), targets.reshape(-1), ignore_index=-1, reduction="none"
            )
            np.add.at(nats, owners[first : first + 64], loss.view(targets.shape).sum(1).double().numpy())
    return nats


if __name__ == "__main__":
    main()
