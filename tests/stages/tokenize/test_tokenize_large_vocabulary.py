"""A byte-level BPE of 131,072 entries, trained on the installed packages' source: backends, types, stage and export."""

import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.token_files import read_megatron
from rewarm.stages.data.tokenizer import load_definition
from rewarm.stages.data.tokens import TokenFormat, TokenStream
from rewarm.stages.tokenize import TokenizeSettings, export_megatron, run, verify
from rewarm.stages.tokenize.backends import Fast, Reference, first_mismatch, special_cases

pytestmark = pytest.mark.usefixtures("ray_cluster")  # all in one process: the tokenizer is trained once
VOCABULARY = 131_072
TRAINED_BYTES = 32_000_000  # gives that many merges where a pair may occur once


def save(raw: Tokenizer, folder: Folder) -> Folder:
    folder.write("tokenizer.json", raw.to_str().encode())
    folder.write_json("tokenizer_config.json", {"eos_token": "<|endoftext|>"})
    return folder


def source_files() -> list[Path]:
    """Files spread over all packages."""
    return sorted(Path(sysconfig.get_paths()["purelib"]).glob("**/*.py"))


def texts(files: list[Path], limit: int) -> list[str]:
    found: list[str] = []
    for file in files:
        if limit <= 0:
            break
        text = file.read_text(errors="ignore")
        found.append(text)
        limit -= len(text)
    return found


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=1,
        show_progress=False,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=alphabet,
    )
    raw.train_from_iterator(texts(source_files()[::10], TRAINED_BYTES), trainer)
    return save(raw, Folder(tmp_path_factory.mktemp("large")))


def test_backends_are_equal(large: Folder) -> None:
    definition = load_definition(large)
    assert (definition.num_ids, definition.dtype) == (VOCABULARY, "uint32")
    other = texts(source_files()[5::400], 700_000)
    assert first_mismatch(Reference(definition), Fast(definition), [*special_cases(definition), *other]) is None


def test_stage_verification_and_export(
    large: Folder, document_shard: Callable[[Folder, str, Sequence[str]], None], tmp_path: Path
) -> None:
    dataset, tokens = Folder(tmp_path / "dataset"), Folder(tmp_path / "tokens")
    found = [text for text in texts(source_files()[3::200], 300_000) if text]
    document_shard(dataset / "documents", "00000", found[::2])
    document_shard(dataset / "documents", "00001", found[1::2])
    outcome = run(dataset, large, tokens, TokenizeSettings(), Silent())
    assert outcome.backend == "fastokens"
    stream = TokenStream(tokens / "train")
    assert stream.format == TokenFormat(outcome.tokenizer, 0, "uint32")
    stored = stream.read(0, stream.num_tokens)
    assert stored.max() > 1 << 16  # ids that two bytes do not hold
    compared = verify(dataset, large, tokens, None, Silent())
    assert (compared.documents, compared.tokens, compared.mismatches) == (len(found), outcome.num_tokens, 0)
    exported = export_megatron(tokens, tmp_path / "out", Silent())
    assert exported.dtype == "int32"
    ids = [value for document in read_megatron(tmp_path / "out_train") for value in document.tolist()]
    assert ids == stored.tolist()


@pytest.mark.parametrize(("num_ids", "dtype"), [(1 << 16, "uint16"), ((1 << 16) + 1, "uint32")])
def test_two_bytes_hold_65536_ids(large: Folder, tmp_path: Path, num_ids: int, dtype: str) -> None:
    """The same tokenizer with so many of its merges."""
    value = orjson.loads(large.read("tokenizer.json"))
    kept = {token: number for token, number in value["model"]["vocab"].items() if number < num_ids}
    merges = [pair for pair in value["model"]["merges"] if "".join(pair) in kept]
    value["model"] |= {"vocab": kept, "merges": merges}
    small = save(Tokenizer.from_str(orjson.dumps(value).decode()), Folder(tmp_path))
    definition = load_definition(small)
    assert (definition.num_ids, definition.dtype) == (num_ids, dtype)
    last = next(token for token, number in kept.items() if number == num_ids - 1)
    text = decoders.ByteLevel().decode([last])
    for encoder in (Reference(definition), Fast(definition)):
        assert encoder.encode([text])[0].tolist() == [num_ids - 1]
