"""Bad input, one row each: a line that names what is wrong, exit code 2, nothing on stdout, nothing changed.

No row starts a cluster: what gets as far as that counts as accepted, which ``--dry-run`` shows. Damaged workspaces have
a table of their own (``lineage/test_damage.py``).
"""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_workspace
from model_folders import edit_config, write_folder
from refusal import refused

Command = Callable[..., tuple[int, str, str]]
GOOD = "".join(json.dumps({"text": f"a document of some words, number {number}"}) + "\n" for number in range(200))

# -- recipes: the file's text, and what the line says ---------------------------------------------------------------

RECIPES: list[tuple[str | bytes, str]] = [
    ("[]", "recipe.yaml"),
    ("- replay: {share: 0.1}", "recipe.yaml"),
    ("just text", "recipe.yaml"),
    ("7", "recipe.yaml"),
    ("replay: [1", "recipe.yaml"),
    ("replay: {share: 0.1", "recipe.yaml"),
    ("\treplay:\n\t\tshare: 0.1", "recipe.yaml"),
    ("replay: {share: 0.1}\nreplay: {share: 0.2}", "given twice"),
    ("replay: &a {share: *a}", "recipe.yaml"),
    (
        "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n"
        "c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\n"
        "e: [*d, *d, *d, *d, *d, *d, *d, *d, *d]",
        "more than",
    ),
    ("replay: {share: 0.1, share: 0.2}", "given twice"),
    ("train: {global_batch: 010}", "YAML reads 010 as 8"),
    ("train: {global_batch: 1:30}", "YAML reads 1:30 as 90"),
    ("replay: {half_life: 1:30.5}", "YAML reads 1:30.5 as 90.5"),
    ("replay: !!python/object/apply:os.system ['true']", "recipe.yaml"),
    (b"\x00\x01\x02", "recipe.yaml"),
    ("replay: {share: 0.1}  # caf\xe9".encode("latin-1"), "recipe.yaml"),
    ("? [1, 2]\n: 3", "recipe.yaml"),
    ("1: {share: 0.1}", "recipe.yaml"),
    ("replai: {share: 0.1}", "replay"),
    ("replay: {shar: 0.1}", "replay.share"),
    ("replay: 0.1", "replay"),
    ("replay: [0.1]", "replay"),
    ("replay: {share: 7}", "replay.share"),
    ("replay: {share: -0.1}", "replay.share"),
    ("replay: {share: .nan}", "replay.share"),
    ("replay: {share: .inf}", "replay.share"),
    ("replay: {share: many}", "replay.share"),
    ("replay: {share: [0.1]}", "replay.share"),
    ("replay: {by: size}", "replay.by"),
    ("replay: {order: sorted}", "replay.order"),
    ("replay: {half_life: 0}", "replay.half_life"),
    ("replay: {shares: {docs: -1}}", "replay.shares"),
    ("train: {seq_len: 0}", "train.seq_len"),
    ("train: {seq_len: 1.5}", "train.seq_len"),
    ("train: {seq_len: long}", "train.seq_len"),
    ("train: {seq_len: 99999999999999999999}", "train.seq_len"),
    ("train: {micro_batch: 0}", "train.micro_batch"),
    ("train: {num_workers: -1}", "train.num_workers"),
    ("train: {zero_stage: 4}", "train.zero_stage"),
    ("train: {checkpoint_every: -5}", "train.checkpoint_every"),
    ("train: {validation_sequences: 0}", "train.validation_sequences"),
    ("train: {weight_decay: x}", "train.weight_decay"),
    ("train: {sequence: 3}", "train"),
    ("schedule: {kind: cosin}", "schedule.kind"),
    ("schedule: {peak: 0}", "schedule.peak"),
    ("schedule: {peak: -1}", "schedule.peak"),
    ("schedule: {peak: fast}", "schedule.peak"),
    ("schedule: {peak: 1.0e-3, minimum: 1.0e-2}", "minimum"),
    ("schedule: {warmup: 2}", "schedule"),
    ("budget: {update_tokens: 0}", "budget.update_tokens"),
    ("budget: {update_tokens: -1}", "budget.update_tokens"),
    ("ingest: {validation_share: 1}", "ingest.validation_share"),
    ("ingest: {validation_share: -1}", "ingest.validation_share"),
    ("ingest: {languages: [klingon]}", "ingest.language"),
    ("ingest: {format: docx}", "ingest.format"),
    ("ingest: {duplicates: {threshold: 2}}", "ingest.duplicates"),
    ("ingest: {duplicates: {bands: 0}}", "ingest.duplicates"),
    ("ingest: {filters: {apply: [gophr]}}", "ingest.filters"),
    ("tokenizer: {vocab_size: 3}", "tokenizer.vocab_size"),
    ("tokenizer: {vocab_size: big}", "tokenizer.vocab_size"),
    ("model: {type: gpt9}", "gpt9"),
    ("model: {config: {hiden_size: 3}}", "hiden_size"),
    ("model: {config: {hidden_size: 0}}", "cannot be run"),
    ("model: {config: 3}", "model.config"),
    ("gate: {alpha: 0}", "gate.alpha"),
    ("gate: {alpha: 1}", "gate.alpha"),
    ("gate: {max_forgetting: -1}", "gate.max_forgetting"),
    ("gate: {max_forgetting_by_dataset: {docs: -1}}", "gate.max_forgetting_by_dataset"),
    ("gate: {trunk: after}", "gate.trunk"),
    ("gate: {units: page}", "gate.units"),
    ("gate: {power: 0.3}", "gate.power"),
    ("evaluate: {task_documents: -1}", "evaluate.task_documents"),
    ("evaluate: {earlier_datasets: 0}", "evaluate.earlier_datasets"),
    ("evaluate: {all_datasets_every: 0}", "evaluate.all_datasets_every"),
    ("evaluate: {batch_size: 0}", "evaluate.batch_size"),
    ("anneal: {share: 2}", "anneal"),
    ("select: {keep: 0}", "select"),
    ("cost: {per_worker_hour: -1}", "cost.per_worker_hour"),
    ("plan: {read_bytes: 1}", "plan.read_bytes"),
    ("disk: {check: maybe}", "disk.check"),
    ("card: {license: other}", "license"),
    ("distill: {tokens: -1}", "distill.tokens"),
    ("seed: -1.5", "seed"),
    ("seed: one", "seed"),
    ("extends: nowhere", "nowhere"),
    ("extends: [tiny]", "extends"),
]

# -- settings on the command line of an update ----------------------------------------------------------------------

SETTINGS = [
    ("replay.share", "replay.share"),
    ("=3", "key=value"),
    ("replay.share=", "replay.share"),
    ("replay.share=lots", "replay.share"),
    ("replay.share=1.5", "replay.share"),
    ("replay.shar=0.1", "replay.share"),
    ("replai.share=0.1", "replay.share"),
    ("replay=0.1", "replay"),
    ("replay.share.x=1", "replay.share"),
    ("train.seq_len=None", "train.seq_len"),
    ("train.seq_len=[256", "train.seq_len"),
    ("model.config.hidden_size=64", "fixed when the workspace was created"),
    ("tokenizer.vocab_size=999", "fixed when the workspace was created"),
    ("gate.alpha=nan", "gate.alpha"),
    ("schedule.kind=", "schedule.kind"),
    ("evaluate.limit=0", "evaluate.limit"),
    ("ingest.within=/nowhere", "nowhere"),
    ("seed=x", "seed"),
]

# -- command lines on a whole workspace -----------------------------------------------------------------------------

COMMANDS: list[tuple[list[str], str]] = [
    (["nonsense"], "nonsense"),
    (["updat", "{lm}"], "update"),
    (["status"], "WORKSPACE"),
    (["status", "{lm}", "--jsn"], "--jsn"),
    (["status", "{lm}", "more"], "more"),
    (["status", "{t}/nowhere"], "no rewarm workspace"),
    (["status", "{t}/good.jsonl"], "good.jsonl"),
    (["status", ""], "no rewarm workspace"),
    (["update", "{lm}"], "--data"),
    (["update", "{lm}", "--data"], "--data"),
    (["update", "{lm}", "--data", "x"], "NAME=PATH"),
    (["update", "{lm}", "--data", "x="], "NAME=PATH"),
    (["update", "{lm}", "--data", "={t}/good.jsonl"], "dataset name"),
    (["update", "{lm}", "--data", "a b={t}/good.jsonl"], "dataset name"),
    (["update", "{lm}", "--data", "../x={t}/good.jsonl"], "dataset name"),
    (["update", "{lm}", "--data", f"{'x' * 65}={{t}}/good.jsonl"], "dataset name"),
    (["update", "{lm}", "--data", "news={t}/good.jsonl"], "already ingested"),
    (["update", "{lm}", "--data", "x={t}/good.jsonl", "--data", "y={t}/good.jsonl"], "share 1 of 1 files of 'y'"),
    (["update", "{lm}", "--data", "x={t}/good.jsonl", "--wait", "soon"], "--wait"),
    (["init", "{lm}", "--recipe", "tiny", "--data", "x={t}/good.jsonl"], "already has a base"),
    (["init", "{t}/new", "--recipe", "tiny"], "--data"),
    (["init", "{t}/new", "--recipe", "tinny", "--data", "x={t}/good.jsonl"], "tiny"),
    (["init", "{t}/new", "--recipe", "{t}/nowhere.yaml", "--data", "x={t}/good.jsonl"], "nowhere.yaml"),
    (["init", "{t}/new", "--recipe", "{t}", "--data", "x={t}/good.jsonl"], "{t}"),
    (["init", "{t}/full", "--recipe", "tiny", "--data", "x={t}/good.jsonl"], "full"),
    (["init", "{t}/good.jsonl", "--recipe", "tiny", "--data", "x={t}/good.jsonl"], "good.jsonl"),
    (["init", "ftp://host/lm", "--recipe", "tiny", "--data", "x={t}/good.jsonl"], "s3://BUCKET/PATH"),
    (["plan", "{lm}"], "--data"),
    (["plan", "{lm}", "--data", "x={t}/nowhere"], "nowhere"),
    (["plan", "{lm}", "--data", "x={t}/good.jsonl", "--save", "{t}/nowhere/plan.json"], "--save"),
    (["study", "{lm}", "--data", "x={t}/good.jsonl", "--grid", "replay.share"], "--grid"),
    (["study", "{lm}", "--data", "x={t}/good.jsonl", "--grid", "replay.share=0.1,0.1"], "--grid"),
    (["study", "{lm}", "--data", "x={t}/good.jsonl", "--grid", "replay.shar=0.1,0.2"], "replay.share"),
    (["study", "{lm}", "--grid", "replay.share=0.1,0.2"], "--data"),
    (["study", "{lm}", "--data", "x={t}/good.jsonl", "--seeds", "0"], "--seeds"),
    (["promote", "{lm}", "0009-nothing"], "0009-nothing"),
    (["promote", "{lm}", "nothing"], "nothing"),
    (["promote", "{lm}"], "UPDATE"),
    (["export", "{lm}", "--to", "{t}/full"], "full"),
    (["export", "{lm}", "--to", "{t}/good.jsonl"], "good.jsonl"),
    (["export", "{lm}"], "--to"),
    (["export", "{lm}", "77", "--to", "{t}/new"], "77"),
    (["report", "{lm}", "--to", "{t}/page.pdf"], ".html"),
    (["report", "{lm}", "77", "--to", "{t}/page.html"], "77"),
    (["logs", "{lm}", "77"], "77"),
    (["data", "{lm}", "nothing"], "nothing"),
    (["trace", "{lm}", "not-an-id"], "not-an-id"),
    (["trace", "{lm}", "--update", "77"], "77"),
    (["watch", "{lm}"], "--inbox"),
    (["watch", "{lm}", "--inbox", "{t}/nowhere"], "nowhere"),
    (["watch", "{lm}", "--inbox", "https://host/x"], "web server"),
    (["watch", "{lm}", "--inbox", "{t}/full", "--cron", "every day"], "--cron"),
    (["watch", "{lm}", "--inbox", "{t}/full", "--cron", "99 * * * *"], "--cron"),
    (["watch", "{lm}", "--inbox", "{t}/full", "--cron", "0 0 31 2 *"], "--cron"),
    (["watch", "{lm}", "--inbox", "{t}/full", "--timezone", "Mars/Base"], "Mars/Base"),
    (["watch", "{lm}", "--inbox", "{t}/full", "--every", "0"], "--every"),
    (["watch", "{lm}", "--inbox", "{t}/full", "--retries", "-1"], "--retries"),
    (["watch", "{lm}", "--inbox", "{t}/full", "--missed", "maybe"], "--missed"),
    (["watch", "{lm}", "--inbox", "{t}/full", "--webhook", "@{t}/nowhere"], "nowhere"),
    (["watch", "{lm}", "--inbox", "{t}/full", "--max-cost", "1"], "cost.per_worker_hour"),
    (["watch", "{lm}", "--retry", "nothing"], "nothing"),
    (["watch", "{lm}", "--pause", "--resume"], "only one"),
    (["prune", "{lm}", "--keep", "-1"], "--keep"),
    (["recipes", "tinny"], "tiny"),
    (["settings", "replai"], "replay"),
    (["schedule", "tiny", "--arrivals", "-1"], "arrivals"),
    (["schedule", "tiny", "--tokens", "few"], "few"),
    (["schedule", "tinny"], "tiny"),
]


def write(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def table(path: Path, **columns: list[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def whole_parquet(path: Path) -> bytes:
    table(path, text=["a", "b"])
    return path.read_bytes()


# -- documents: what is written as the file, and what the line says -------------------------------------------------

DOCUMENTS: list[tuple[str, Callable[[Path], object], str]] = [
    ("empty.jsonl", lambda path: write(path, ""), "empty.jsonl"),
    ("blank.jsonl", lambda path: write(path, "\n\n  \n"), "blank.jsonl"),
    ("broken.jsonl", lambda path: write(path, "{not json\n"), "broken.jsonl"),
    ("numbers.jsonl", lambda path: write(path, "1\n2\n"), "numbers.jsonl"),
    ("lists.jsonl", lambda path: write(path, '["text"]\n'), "lists.jsonl"),
    ("other.jsonl", lambda path: write(path, '{"body": "a"}\n'), "other.jsonl"),
    ("types.jsonl", lambda path: write(path, '{"text": 7}\n'), "types.jsonl"),
    ("void.jsonl", lambda path: write(path, '{"text": ""}\n'), "void.jsonl"),
    ("nul.jsonl", lambda path: write(path, bytes(2000)), "nul.jsonl"),
    ("noise.jsonl", lambda path: write(path, bytes(range(128, 256)) * 20), "noise.jsonl"),
    ("not.jsonl.gz", lambda path: write(path, GOOD), "not.jsonl.gz"),
    ("cut.jsonl.gz", lambda path: write(path, gzip.compress(GOOD.encode())[:30]), "cut.jsonl.gz"),
    ("empty.jsonl.gz", lambda path: write(path, b""), "empty.jsonl.gz"),
    ("not.jsonl.zst", lambda path: write(path, GOOD), "not.jsonl.zst"),
    ("not.jsonl.bz2", lambda path: write(path, GOOD), "not.jsonl.bz2"),
    ("not.parquet", lambda path: write(path, GOOD), "not.parquet"),
    ("empty.parquet", lambda path: write(path, b""), "empty.parquet"),
    ("cut.parquet", lambda path: write(path, whole_parquet(path)[:-20]), "cut.parquet"),
    ("norows.parquet", lambda path: table(path, text=[]), "norows.parquet"),
    ("notext.parquet", lambda path: table(path, body=["a"]), "notext.parquet"),
    ("types.parquet", lambda path: table(path, text=[1.5, 2.5]), "types.parquet"),
    ("not.arrow", lambda path: write(path, GOOD), "not.arrow"),
    ("not.warc", lambda path: write(path, GOOD), "not.warc"),
    ("not.warc.gz", lambda path: write(path, gzip.compress(GOOD.encode())), "not.warc.gz"),
    ("empty.csv", lambda path: write(path, ""), "empty.csv"),
    ("header.csv", lambda path: write(path, "text,url\n"), "header.csv"),
    ("other.csv", lambda path: write(path, "body,url\na,b\n"), "other.csv"),
    ("empty.txt", lambda path: write(path, ""), "empty.txt"),
    ("empty.html", lambda path: write(path, "<html></html>"), "empty.html"),
    ("alone.bin", lambda path: write(path, bytes(8)), "alone."),
    ("unknown.docx", lambda path: write(path, GOOD), "unknown suffix"),
    ("nosuffix", lambda path: write(path, GOOD), "unknown suffix"),
    ("folder.jsonl/", lambda path: path.mkdir(), "folder.jsonl"),
    ("pictures", lambda path: write(path / "a.png", b"png"), "pictures"),
    ("hidden", lambda path: write(path / ".a.jsonl", GOOD), "hidden"),
    ("loop", lambda path: path.symlink_to(path.name), "loop"),
    ("gone.jsonl", lambda path: path.symlink_to("nowhere.jsonl"), "gone.jsonl"),
    (
        "pointer.jsonl",
        lambda path: write(path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "pointer.jsonl",
    ),
    ("*.nothing", lambda path: None, "*.nothing"),
    ("@list.txt", lambda path: write(path.with_name("list.txt"), ""), "list.txt"),
    ("@nested.txt", lambda path: write(path.with_name("nested.txt"), "@other.txt\n"), "nested.txt"),
    ("@missing.txt", lambda path: write(path.with_name("missing.txt"), "nowhere.jsonl\n"), "nowhere.jsonl"),
    ("@no.txt", lambda path: None, "no.txt"),
]

EMPTY_VOCABULARY = json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}})


def index(path: Path, text: str) -> None:
    """An index of weights in place of the weights."""
    (path / "model.safetensors").unlink()
    (path / "model.safetensors.index.json").write_text(text)


def loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


# -- models and tokenizers: a change of a whole folder --------------------------------------------------------------

MODELS: list[tuple[str, Callable[[Path], object], str]] = [
    ("no folder", shutil.rmtree, "model"),
    ("no config", lambda path: (path / "config.json").unlink(), "config.json"),
    ("an empty config", lambda path: write(path / "config.json", ""), "config.json"),
    ("a broken config", lambda path: write(path / "config.json", "{"), "config.json"),
    ("a list for a config", lambda path: write(path / "config.json", "[]"), "config.json"),
    ("no type", lambda path: edit_config(path, model_type=None), "model_type"),
    ("an unknown type", lambda path: edit_config(path, model_type="gpt9"), "gpt9"),
    ("an encoder", lambda path: edit_config(path, model_type="bert"), "bert"),
    ("few positions", lambda path: edit_config(path, max_position_embeddings=16), "16"),
    ("no weights", lambda path: (path / "model.safetensors").unlink(), "safetensors"),
    ("cut weights", lambda path: write(path / "model.safetensors", b"\x08"), "model.safetensors"),
    ("empty weights", lambda path: write(path / "model.safetensors", b""), "model.safetensors"),
    (
        "no tokenizer",
        lambda path: [(path / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
        "tokenizer",
    ),
    ("a broken tokenizer", lambda path: write(path / "tokenizer.json", "{"), "tokenizer"),
    ("another JSON", lambda path: write(path / "tokenizer.json", "{}"), "tokenizer"),
    ("a list for a type", lambda path: edit_config(path, model_type=["llama"]), "model_type"),
    ("a text for a part", lambda path: edit_config(path, text_config="x"), "text_config"),
    ("a text for a size", lambda path: edit_config(path, hidden_size="x"), "config.json"),
    ("an empty vocabulary", lambda path: (path / "tokenizer.json").write_text(EMPTY_VOCABULARY), "tokenizer"),
    ("a broken configuration", lambda path: (path / "tokenizer_config.json").write_text("{"), "tokenizer_config.json"),
    ("a list for a configuration", lambda path: (path / "tokenizer_config.json").write_text("[]"), "tokenizer"),
    ("an index of no files", lambda path: index(path, "[]"), "index"),
    ("an index that leads out", lambda path: index(path, '{"weight_map": {"a": "../a.safetensors"}}'), "outside"),
    ("an index without its files", lambda path: index(path, '{"weight_map": {"a": "b.safetensors"}}'), "missing"),
    ("a link to itself", lambda path: loop(path / "config.json"), "config.json"),
    ("a folder for weights", lambda path: folder(path / "model.safetensors"), "model.safetensors"),
]

TOKENIZERS: list[tuple[str, Callable[[Path], object], str]] = [
    ("no folder", shutil.rmtree, "tokenizer"),
    (
        "no files",
        lambda path: [(path / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
        "tokenizer",
    ),
    ("empty", lambda path: write(path / "tokenizer.json", ""), "tokenizer"),
    ("broken", lambda path: write(path / "tokenizer.json", "{"), "tokenizer"),
    ("another JSON", lambda path: write(path / "tokenizer.json", '{"version": "1.0"}'), "tokenizer"),
    ("a list", lambda path: write(path / "tokenizer.json", "[]"), "tokenizer"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of three updates, good documents, and a folder with a file of somebody else."""
    root = tmp_path_factory.mktemp("bad")
    small_workspace.make(root / "lm")
    write(root / "good.jsonl", GOOD)
    write(root / "full/other.txt", "somebody's")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("model") / "model")


@pytest.mark.parametrize(("text", "said"), RECIPES, ids=[f"{number}" for number in range(len(RECIPES))])
def test_recipes(rewarm: Command, whole: Path, tmp_path: Path, text: str | bytes, said: str) -> None:
    write(tmp_path / "recipe.yaml", text)
    data = f"x={whole / 'good.jsonl'}"
    refused(
        rewarm,
        tmp_path,
        said,
        "init",
        tmp_path / "lm",
        "--recipe",
        tmp_path / "recipe.yaml",
        "--data",
        data,
        "--dry-run",
    )


@pytest.mark.parametrize(("given", "said"), SETTINGS)
def test_settings(rewarm: Command, whole: Path, given: str, said: str) -> None:
    refused(
        rewarm, whole, said, "update", whole / "lm", "--data", f"x={whole / 'good.jsonl'}", "--set", given, "--dry-run"
    )


@pytest.mark.parametrize(("line", "said"), COMMANDS, ids=[" ".join(line)[:60] for line, _ in COMMANDS])
def test_command_lines(rewarm: Command, whole: Path, line: list[str], said: str) -> None:
    places = {"lm": whole / "lm", "t": whole}
    refused(rewarm, whole, said.format(**places), *(word.format(**places) for word in line))


@pytest.mark.parametrize(("name", "make", "said"), DOCUMENTS, ids=[name for name, _, _ in DOCUMENTS])
def test_documents(rewarm: Command, tmp_path: Path, name: str, make: Callable[[Path], object], said: str) -> None:
    make(tmp_path / name)
    path = f"@{tmp_path / name[1:]}" if name.startswith("@") else tmp_path / name
    refused(rewarm, tmp_path, said, "init", tmp_path / "lm", "--recipe", "tiny", "--data", f"x={path}", "--dry-run")


@pytest.mark.parametrize(("what", "change", "said"), MODELS, ids=[what for what, _, _ in MODELS])
def test_models(
    rewarm: Command, whole: Path, model: Path, tmp_path: Path, what: str, change: Callable[[Path], object], said: str
) -> None:
    shutil.copytree(model, tmp_path / "model")
    change(tmp_path / "model")
    line = [
        "init",
        tmp_path / "lm",
        "--recipe",
        "tiny",
        "--from",
        tmp_path / "model",
        "--data",
        f"x={whole / 'good.jsonl'}",
        "--dry-run",
    ]
    kept = tmp_path if what != "a link to itself" else whole
    refused(rewarm, kept, said, *line, "--set", "train.seq_len=64")


@pytest.mark.parametrize(("what", "change", "said"), TOKENIZERS, ids=[what for what, _, _ in TOKENIZERS])
def test_tokenizers(
    rewarm: Command, whole: Path, model: Path, tmp_path: Path, what: str, change: Callable[[Path], object], said: str
) -> None:
    shutil.copytree(model, tmp_path / "tokenizer")
    change(tmp_path / "tokenizer")
    place = f"tokenizer.path={tmp_path / 'tokenizer'}"
    refused(
        rewarm,
        tmp_path,
        said,
        "init",
        tmp_path / "lm",
        "--recipe",
        "tiny",
        "--data",
        f"x={whole / 'good.jsonl'}",
        "--set",
        place,
        "--dry-run",
    )


def test_a_setting_inside_a_models_configuration_that_it_did_not_have(rewarm: Command, whole: Path) -> None:
    data = ["--data", f"x={whole / 'good.jsonl'}", "--dry-run", "--json"]
    given = ["--set", "model.config.rope_parameters.rope_theta=5e4"]
    code, out, error = rewarm("init", whole / "new", "--recipe", "tiny", *data, *given)
    assert (code, out.startswith("{")) == (0, True), error


def test_the_table_is_long() -> None:
    assert sum(map(len, (RECIPES, SETTINGS, COMMANDS, DOCUMENTS, MODELS, TOKENIZERS))) >= 200
