"""The stage on a real Ray: contract 2 out of contract 1, idempotent, the same bytes whatever the workers."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import read_shards
from rewarm.stages.data.tokenizer import Definition, DocumentForm, load_definition
from rewarm.stages.data.tokens import TokenFormat, TokenStream
from rewarm.stages.tokenize import (
    TokenizeOutcome,
    TokenizerSettings,
    TokenizeSettings,
    run,
    tokenizer_digest,
    train_tokenizer,
)
from rewarm.stages.tokenize.files import SPLITS, shards_of
from rewarm.stages.tokenize.run import (
    Account,
    TokenizeShard,
    _sample,
    in_order,
    on_unknown,
    sampled_characters,
    threads_for,
)

pytestmark = pytest.mark.usefixtures("ray_cluster")
SETTINGS = TokenizeSettings(batch_documents=32, verify_documents=50)


@pytest.fixture(scope="module")
def done(
    dataset: Folder, tokenizer: Folder, ray_cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Folder, TokenizeOutcome]:
    out = Folder(tmp_path_factory.mktemp("tokens"))
    return out, run(dataset, tokenizer, out, SETTINGS, Silent())


def token_files(out: Folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(out.path)): path.read_bytes() for path in sorted(out.path.rglob("*")) if path.is_file()
    }


def documents_of(out: Folder) -> Iterator[tuple[str, list[int], int]]:
    for name in out.files(".arrow"):
        table = pa.ipc.open_file(pa.memory_map(str(out.path / name))).read_all()
        yield from zip(*(table.column(column).to_pylist() for column in ("doc_id", "tokens", "num_bytes")), strict=True)


@pytest.mark.parametrize("split", SPLITS)
def test_tokens_are_the_documents(
    dataset: Folder, tokenizer: Folder, done: tuple[Folder, TokenizeOutcome], split: str
) -> None:
    out, _ = done
    definition = load_definition(tokenizer)
    source = [row for batch in read_shards(dataset / SPLITS[split]) for row in batch.to_pylist()]
    written = list(documents_of(out / split))
    assert [row["doc_id"] for row in source] == [doc_id for doc_id, _, _ in written]
    for row, (_, tokens, num_bytes) in zip(source, written, strict=True):
        assert tokens.count(definition.end_of_text_id) == 1
        assert tokens[-1] == definition.end_of_text_id
        assert definition.tokenizer.decode(tokens[:-1], skip_special_tokens=False) == row["text"]
        assert num_bytes == row["num_bytes"]


def test_outcome_counts_what_lies_there(
    dataset: Folder, tokenizer: Folder, done: tuple[Folder, TokenizeOutcome]
) -> None:
    out, outcome = done
    train, validation = TokenStream(out / "train"), TokenStream(out / "validation")
    assert (outcome.num_tokens, outcome.num_documents, outcome.num_bytes) == (train.num_tokens, 195, train.num_bytes)
    assert (outcome.validation_tokens, outcome.validation_documents) == (validation.num_tokens, 20)
    assert outcome.validation_bytes == validation.num_bytes
    assert outcome.backend == "fastokens"
    assert "50 documents" in outcome.backend_reason
    assert outcome.tokenizer == tokenizer_digest(tokenizer)
    assert train.format == TokenFormat(outcome.tokenizer, 0, "uint16")


def test_shards_match_one_to_one_and_empty_stays_empty(done: tuple[Folder, TokenizeOutcome]) -> None:
    out, _ = done
    assert (out / "train").files() == ["00000.arrow", "00001.arrow", "00002.arrow"]
    assert (out / "validation").files() == ["00000.arrow"]
    assert pa.ipc.open_file(str(out.path / "train" / "00001.arrow")).read_all().num_rows == 0


def test_again_keeps_the_files_and_makes_what_is_missing(
    dataset: Folder, tokenizer: Folder, done: tuple[Folder, TokenizeOutcome], tmp_path: Path
) -> None:
    first, outcome = done
    out = Folder(tmp_path / "tokens")
    shutil.copytree(first.path, out.path)
    (out.path / "train" / "00002.arrow").unlink()
    kept = (out.path / "train" / "00000.arrow").stat().st_mtime_ns
    assert run(dataset, tokenizer, out, SETTINGS, Silent()) == outcome
    assert token_files(out) == token_files(first)
    assert (out.path / "train" / "00000.arrow").stat().st_mtime_ns == kept


def test_one_worker_without_ray_and_two_give_the_same_bytes(
    dataset: Folder, tokenizer: Folder, done: tuple[Folder, TokenizeOutcome], tmp_path: Path
) -> None:
    """The two-CPU job wrote ``done``; here one process of two threads writes the shards one by one, with
    the other backend."""
    out, outcome = done
    work = TokenizeShard(
        tokenizer.uri,
        "tokenizers",
        TokenFormat(outcome.tokenizer, 0, "uint16"),
        SETTINGS.batch_documents,
        SETTINGS.batch_bytes,
        threads=2,
    )
    for split, source in SPLITS.items():
        for name in (dataset / source).files(".parquet"):
            work(
                {
                    "source": (dataset / source).uri,
                    "target": str(tmp_path / split),
                    "name": name.removesuffix(".parquet"),
                }
            )
    table = {"files.json"}  # the stage writes it once all shards are there
    assert token_files(Folder(tmp_path)) == {name: data for name, data in token_files(out).items() if name not in table}


def test_batch_size_and_backend_do_not_change_the_digest(
    dataset: Folder, tokenizer: Folder, done: tuple[Folder, TokenizeOutcome], tmp_path: Path
) -> None:
    other = TokenizeSettings(batch_documents=7, batch_bytes=500, verify_documents=0, backend="tokenizers")
    outcome = run(dataset, tokenizer, Folder(tmp_path), other, Silent())
    assert outcome.digest == done[1].digest
    assert (outcome.backend, outcome.backend_reason) == ("tokenizers", "asked for")
    assert other.identity() == {}


def test_digest_sees_ids_boundaries_and_tokens() -> None:
    schema = TokenFormat("t", 0, "uint16").schema()

    def digest(*rows: tuple[str, list[int], int]) -> str:
        account = Account()
        account.add(
            pa.RecordBatch.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)
        )
        return str(account.as_dict()["digest"])

    base = digest(("a", [5, 0], 1), ("b", [6, 0], 1))
    for other in (
        digest(("a", [5, 0], 1), ("c", [6, 0], 1)),
        digest(("a", [5, 0, 6], 1), ("b", [0], 1)),
        digest(("a", [5, 0], 1), ("b", [7, 0], 1)),
        digest(("a", [5, 0], 1), ("b", [6, 0], 2)),
        digest(("b", [6, 0], 1), ("a", [5, 0], 1)),
    ):
        assert other != base


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_keep_the_order_and_hold_few_results(threads: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(50):
            taken += 1
            yield item

    for number, result in enumerate(in_order(lambda item: item * item, items(), threads)):
        assert result == number * number
        assert taken <= number + 2 * threads
    assert taken == 50


@pytest.mark.parametrize(
    ("sizes", "cpus", "node", "threads"),
    [
        ([10, 10, 10, 10], 2, 2, 1),
        ([10, 10], 2, 2, 1),
        ([10], 2, 2, 2),
        ([100, 1], 2, 2, 2),  # a validation shard does not keep half of the machine
        ([60, 40], 2, 2, 1),
        ([10, 10], 64, 8, 8),  # a task fits on a node
        ([10], 0, 0, 1),
        ([0], 4, 4, 1),
    ],
)
def test_threads_fill_the_cpus_where_shards_are_few(sizes: list[int], cpus: int, node: int, threads: int) -> None:
    assert threads_for([{"bytes": size} for size in sizes], cpus, node) == threads


def test_comparison_beforehand_is_a_part_of_the_work() -> None:
    assert sampled_characters([{"bytes": 1000}]) == 1 << 20
    assert sampled_characters([{"bytes": 100_000_000}, {"bytes": 300_000_000}]) == 4_000_000
    assert sampled_characters([{"bytes": 10**12}]) == 8 << 20


def test_sample_is_spread_over_the_shards(dataset: Folder, tmp_path: Path) -> None:
    shards = shards_of(dataset, Folder(tmp_path), "train")
    texts = [row["text"] for batch in read_shards(dataset / "documents") for row in batch.to_pylist()]
    assert _sample(shards, 0, characters=1 << 20) == []
    assert _sample(shards, 3, characters=1 << 20) == [texts[0], texts[120], texts[121]]  # the shard between has no rows
    assert _sample(shards, 1000, characters=1 << 20) == texts
    short = _sample(shards, 1000, characters=2000)
    assert sum(map(len, short)) == 2000
    assert texts[120] in short  # the first shard did not use it all up


def test_without_validation(dataset: Folder, tokenizer: Folder, tmp_path: Path) -> None:
    shutil.copytree((dataset / "documents").path, tmp_path / "data" / "documents")
    outcome = run(Folder(tmp_path / "data"), tokenizer, Folder(tmp_path / "out"), SETTINGS, Silent())
    assert (outcome.validation_tokens, outcome.validation_documents, outcome.validation_bytes) == (0, 0, 0)
    assert outcome.num_documents == 195


def test_refusals_before_work(
    dataset: Folder, tokenizer: Folder, done: tuple[Folder, TokenizeOutcome], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no document shards"):
        run(Folder(tmp_path), tokenizer, Folder(tmp_path / "out"), SETTINGS, Silent())
    stranger = Folder(tmp_path / "strange")
    (stranger / "train").write("00007.arrow", b"")
    with pytest.raises(UsageError, match=r"00007\.arrow: .*has no shard of that name"):
        run(dataset, tokenizer, stranger, SETTINGS, Silent())
    with pytest.raises(UsageError, match=r"no tokenizer\.json"):
        run(dataset, Folder(tmp_path), Folder(tmp_path / "out"), SETTINGS, Silent())


def test_tokens_of_another_tokenizer_are_not_taken_over(
    dataset: Folder, done: tuple[Folder, TokenizeOutcome], tmp_path: Path
) -> None:
    other = Folder(tmp_path)
    train_tokenizer(dataset / "documents", other, TokenizerSettings(vocab_size=300), Silent())
    with pytest.raises(UsageError, match="choose an empty folder"):
        run(dataset, other, done[0], SETTINGS, Silent())


def test_broken_shards_are_named(dataset: Folder, tokenizer: Folder, tmp_path: Path) -> None:
    data = Folder(tmp_path / "data")
    settings = TokenizeSettings(verify_documents=0)
    shutil.copytree((dataset / "documents").path, data.path / "documents")
    torn = data.path / "documents" / "00002.parquet"
    torn.write_bytes(torn.read_bytes()[:-100])
    with pytest.raises(StageError, match=r"00002\.parquet: the document shard cannot be read"):
        run(data, tokenizer, Folder(tmp_path / "out"), settings, Silent())
    pq.write_table(pa.table({"text": ["a"]}), torn)
    with pytest.raises(UsageError, match=r"00002\.parquet: not a document shard, missing doc_id, num_bytes"):
        run(data, tokenizer, Folder(tmp_path / "out"), settings, Silent())
    assert "00002.arrow" not in Folder(tmp_path / "out" / "train").files()


def test_text_that_becomes_the_unknown_token_is_reported() -> None:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<eos>": 1, "known": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    definition = Definition("here", words.to_str(), DocumentForm("<eos>"))
    remark = on_unknown(definition, ["known known", "known neu", "neu nouveau known"])
    assert remark is not None and "in 2 of 3 sampled documents 3 of 7 tokens (42.9%) are the unknown token" in remark
    assert on_unknown(definition, ["known"]) is None and on_unknown(definition, []) is None
