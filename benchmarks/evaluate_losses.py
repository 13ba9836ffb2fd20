"""Tokens a second of processor time: losses by document, against packed windows and one document at a time.

    python benchmarks/evaluate_losses.py                     # about a minute on one core

All three run one model over the same documents in one process. *packed*: windows cut from the stream of all documents,
with the document mask, as training reads them; documents that a window cuts lose their context, so its losses are of
something else. *alone*: plain transformers, a forward pass for each window of a document; its losses must agree.
"""

import argparse
import ast
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

SIZES = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
VOCABULARY = 4096
TOLERANCE = 1e-4  # relative, of the summed nats


def docstrings() -> Iterator[str]:
    """Short documents of the standard library."""
    for path in sorted(Path(os.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and (found := ast.get_docstring(node)):
                yield found


def sources() -> Iterator[str]:
    """Long ones: whole modules."""
    for path in sorted(Path(os.__file__).parent.glob("*.py")):
        yield path.read_text(encoding="utf-8")


def measure(name: str, texts: list[str], tokenizer: Any, model: Any, seq_len: int, batch_size: int) -> None:
    """Print a row: the rates of the three, and the first one's as a part of the others'."""
    import torch

    from rewarm.stages.core.storage import Folder
    from rewarm.stages.data.tokens import TokenFormat, TokenStream, write_shard
    from rewarm.stages.inference.causal import collate, token_losses
    from rewarm.stages.inference.losses import document_losses

    documents = [[*tokenizer.encode(text).ids, 0] for text in texts]
    with tempfile.TemporaryDirectory() as scratch:
        columns = {
            "doc_id": pa.array([f"{number:032x}" for number in range(len(documents))]),
            "tokens": pa.array(documents, pa.large_list(pa.uint16())),
            "num_bytes": pa.array([len(text.encode()) for text in texts], pa.int64()),
        }
        with Folder(scratch).writing("0.arrow") as path:
            write_shard(path, TokenFormat("benchmark", 0, "uint16"), [pa.record_batch(columns)])
        stream = TokenStream(Folder(scratch))

        def ours() -> float:
            found = document_losses(model, stream, (0, len(documents)), seq_len=seq_len, batch_size=batch_size)
            return float(found[0].sum())

        def packed() -> float:
            windows = [stream.sequence(number, seq_len) for number in range(stream.num_sequences(seq_len))]
            total = 0.0
            for first in range(0, len(windows), batch_size):
                batch = collate(windows[first : first + batch_size], torch.device("cpu"), True)
                total += float(token_losses(model, *batch).double().sum())
            return total

        def alone() -> float:
            return sum(own(model, document, seq_len) for document in documents)

        rates, sums = {}, {}
        for kind in (ours, packed, alone):
            rates[kind.__name__], sums[kind.__name__] = timed(kind, stream.num_tokens)
        assert abs(sums["ours"] / sums["alone"] - 1) < TOLERANCE, (sums["ours"], sums["alone"])
        lengths = [len(document) for document in documents]
        print(
            f"| {name} | {len(documents):,} of {np.median(lengths):,.0f} tokens (median) | "
            f"{rates['ours']:,.0f} | {rates['packed']:,.0f} | {rates['alone']:,.0f} | "
            f"{rates['ours'] / rates['packed']:.2f} | {rates['ours'] / rates['alone']:.2f} |"
        )


def own(model: Any, document: list[int], seq_len: int) -> float:
    """Nats of one document by plain transformers, in lm-eval's windows."""
    import torch
    from lm_eval.utils import get_rolling_token_windows

    nats = 0.0
    for context, predicted in get_rolling_token_windows(document, 0, seq_len, 1):
        with torch.inference_mode():
            scores = model(input_ids=torch.tensor([context]), use_cache=False).logits[0].float().log_softmax(-1)
        nats -= float(scores[-len(predicted) :].gather(1, torch.tensor(predicted)[:, None]).double().sum())
    return nats


def timed(run: Callable[[], float], tokens: int) -> tuple[float, float]:
    """Tokens a second of this process's own time in the better of two runs, and what it gave."""
    seconds = []
    for _ in range(2):
        start = time.process_time()
        found = run()
        seconds.append(time.process_time() - start)
    return tokens / min(seconds), found


def main() -> None:
    """Both kinds of text in windows of 256 tokens."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    texts = {"docstrings": list(docstrings())[:1000], "modules": list(sources())[:12]}
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([text for part in texts.values() for text in part], trainer)
    config = GPTNeoXConfig(vocab_size=VOCABULARY, max_position_embeddings=options.seq_len, **SIZES)
    model = GPTNeoXForCausalLM(config).eval()
    print("| text | documents | ours, tokens/s | packed | alone | ours / packed | ours / alone |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for name, part in texts.items():
        measure(name, part, bpe, model, options.seq_len, options.batch_size)


if __name__ == "__main__":
    main()
