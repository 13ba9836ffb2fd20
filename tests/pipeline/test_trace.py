"""``rewarm trace`` on a lineage put together from its parts: real shards and mixtures, and records without training."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from edited_records import edit_record
from records import record
from replay_world import Document, write_dataset

from rewarm.pipeline import trace
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.terminal import Terminal
from rewarm.pipeline.update.context import earlier_datasets
from rewarm.pipeline.update.inputs import Arrival, create
from rewarm.pipeline.update.update import open_update
from rewarm.stages import replay
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokens import TokenSet

SEQ_LEN, BATCH = 8, 4
BASE: list[Document] = [("wiki", 30), ("books", 45), ("wiki", 7), (None, 90), ("wiki", 60), ("books", 25)] * 3
NEWS: list[Document] = [("news", 40 + number) for number in range(12)]
CODE: list[Document] = [(None, 30)] * 30
Call = Callable[..., tuple[int, str, str]]


REPLAY = ("requested", "achieved", "source", "by_dataset", "arrivals", "version")  # of the outcome, in the record


class Made:
    """A workspace of a base and two updates; the second draws domains."""

    def __init__(self, root: Path) -> None:
        self.path = root / "work space"
        self.workspace = Workspace(str(self.path))
        create(self.workspace, load_recipe("tiny"))
        self.ids: dict[str, list[str]] = {}
        self.take_in("base", BASE, {"share": 0})
        self.take_in("news", NEWS, {"share": 0.5})
        table = {"CC": 60, "wiki": 20, "books": 10, "news": 10}
        self.take_in("code", CODE, {"mixture": "domains", "domain_shares": table})
        self.held_out = write_dataset(self.workspace.dataset("code"), CODE[:3], "validation", 1)

    def take_in(self, name: str, documents: list[Document], settings: dict[str, Any]) -> None:
        lineage = Lineage(self.workspace)
        self.ids[name] = write_dataset(self.workspace.dataset(name), documents)
        update = f"{len(lineage.updates):04d}-{name}"
        outcome = replay.run(
            replay.Arrival({name: TokenSet(self.workspace.train_tokens(name))}),
            earlier_datasets(self.workspace, lineage),
            lineage.replayed(),
            replay.Budget(SEQ_LEN, BATCH),
            replay.Draw(3, update),
            self.workspace.update(update) / "mixture",
            replay.ReplaySettings.model_validate(settings),
            Silent(),
        )
        account = {part: getattr(outcome, part) for part in REPLAY}
        lineage.record(
            record(
                update,
                datasets=[name],
                position=lineage.position + outcome.planned,
                tokens={"planned": outcome.planned, "new": outcome.new, "replayed": outcome.replayed, "annealed": 0},
                replay={**account, "carried": lineage.replayed().after(outcome.by_dataset).to_json()},
                order_seed=3,
            )
        )

    def mixture(self, update: str) -> Mixture:
        return Mixture.from_json((self.workspace.update(update) / "mixture").read_json(replay.MIXTURE))

    def reads(self, update: str) -> Counter[tuple[str, int]]:
        """Tokens trained of every replayed document (dataset, row), by going through every batch."""
        mixture, counts = self.mixture(update), Counter[tuple[str, int]]()
        documents = {"base": BASE, "news": NEWS, "code": CODE}
        for step in range(mixture.steps):
            for number, start in zip(*mixture.batch(step), strict=True):
                source = mixture.sources[number]
                if number >= len(mixture.new):
                    of = documents[source.dataset]
                    rows = [row for row, (name, _) in enumerate(of) if source.view in ("", name)]
                    ends = np.cumsum([of[row][1] for row in rows])
                    for position in range(start + 1, start + SEQ_LEN + 1):
                        counts[source.dataset, rows[int(np.searchsorted(ends, position, side="right"))]] += 1
        return counts


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("lineage"))


def test_the_ledger_is_what_every_batch_held(made: Made, rewarm: Call, tmp_path: Path) -> None:
    code, out, error = rewarm("trace", made.path, "--to", tmp_path / "ledger.parquet", "--json")
    assert code == 0, error
    rows = pq.read_table(tmp_path / "ledger.parquet").to_pylist()
    found = {(row["update"], row["dataset"], row["doc_id"]): row["tokens"] for row in rows}
    assert len(found) == len(rows)
    expected = {
        (update, dataset, made.ids[dataset][row]): tokens
        for update in ("0001-news", "0002-code")
        for (dataset, row), tokens in made.reads(update).items()
    }
    assert found == expected
    updates = {update["update"]: update for update in json.loads(out)["updates"]}
    assert updates["0000-base"]["replayed"] == []
    for name in ("0001-news", "0002-code"):
        total = sum(row["tokens"] for row in updates[name]["replayed"])
        mixture = made.mixture(name)
        assert total == sum(mixture.count(0, mixture.steps)[1:]) * SEQ_LEN
    of_domains = {(row["dataset"], row["source"]): row["of"] for row in updates["0002-code"]["replayed"]}
    assert of_domains == {("base", "wiki"): 9, ("base", "books"): 6, ("news", "news"): 12}
    assert {row["source"] for row in updates["0001-news"]["replayed"]} == {"wiki", "books", "unnamed"}


def test_one_update_by_number(made: Made, rewarm: Call) -> None:
    code, out, _ = rewarm("trace", made.path, "--update", "1", "--json")
    assert (code, [update["update"] for update in json.loads(out)["updates"]]) == (0, ["0001-news"])
    assert rewarm("trace", made.path, "--update", "7")[0] == 2


def test_a_document_is_followed_through_the_lineage(made: Made, rewarm: Call) -> None:
    row, doc_id = 1, made.ids["base"][1]
    code, out, error = rewarm("trace", made.path, doc_id, "--json")
    assert code == 0, error
    (document,) = json.loads(out)["documents"]
    assert (document["dataset"], document["split"], document["row"], document["source"]) == (
        "base",
        "train",
        row,
        "books",
    )
    assert document["url"] == "https://base/1"
    assert document["shard"] == "datasets/base/documents/00000.parquet"
    assert document["num_tokens"] == 45
    roles = {read["update"]: read["role"] for read in document["trained"]}
    replaying = [name for name in ("0001-news", "0002-code") if made.reads(name)["base", row]]
    assert roles == {"0000-base": "new", **dict.fromkeys(replaying, "replayed")}
    base = made.mixture("0000-base")
    assert document["trained"][0]["times"] == 1
    lineage_start = {"0000-base": 0, "0001-news": base.steps * base.tokens_per_step}
    for read in document["trained"][:2]:
        expected = [lineage_start[read["update"]] + (step + 1) * SEQ_LEN * BATCH for step in read["steps"]]
        assert read["lineage_tokens"] == expected


def test_a_step_names_its_documents(made: Made, rewarm: Call) -> None:
    code, out, error = rewarm("trace", made.path, "--update", "1", "--step", "2", "--json")
    assert code == 0, error
    found = json.loads(out)
    mixture = made.mixture("0001-news")
    documents = {"base": BASE, "news": NEWS}
    expected: dict[str, set[str]] = {}
    for number, start in zip(*mixture.batch(1), strict=True):
        dataset = mixture.sources[number].dataset
        ends = np.cumsum([length for _, length in documents[dataset]])
        for position in range(start, start + SEQ_LEN + 1):
            row = int(np.searchsorted(ends, position, side="right"))
            expected.setdefault(dataset, set()).add(made.ids[dataset][row])
    assert (found["update"], found["step"]) == ("0001-news", 2)
    assert {dataset: set(ids) for dataset, ids in found["documents"].items()} == expected
    code, out, _ = rewarm("trace", made.path, "--step", "1")
    assert (code, out.splitlines()[0].partition(":")[0]) == (0, "0002-code, step 1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--update", "1", "--step", "900"), "update 0001-news has the steps 1 to"),
        (("--step", "1", "--text", "x"), "leave out documents' ids, --text and --to"),
    ],
)
def test_a_step_that_cannot_be_traced_is_said(made: Made, rewarm: Call, arguments: tuple[str, ...], said: str) -> None:
    code, _, error = rewarm("trace", made.path, *arguments)
    assert code == 2
    assert said in " ".join(error.split())


def test_documents_are_found_by_the_first_digits_and_by_text(made: Made, rewarm: Call) -> None:
    code, out, _ = rewarm("trace", made.path, made.ids["news"][3][:12].upper(), made.held_out[0], "--json")
    documents = json.loads(out)["documents"]
    assert (code, [one["dataset"] for one in documents]) == (0, ["code", "news"])
    assert documents[0]["split"] == "validation"
    assert documents[0]["trained"] == []
    code, out, _ = rewarm("trace", made.path, "--text", "text 3 of news", "--update", "0001-news")
    assert code == 0
    assert made.ids["news"][3] in out
    assert "0001-news: new, 1 ×" in out
    assert "https://news/3" in out


def test_tables_are_readable(made: Made, rewarm: Call) -> None:
    code, out, _ = rewarm("trace", made.path)
    assert code == 0
    assert "unnamed" in out
    assert "Covers the trunks" in out
    assert "nothing" in out
    assert out.count("0002-code") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["abcdef0123"], "no document abcdef0123 in base, news, code"),
        (["abc"], "at least its first 6"),
        (["not-hex-at-all"], "32 hex digits"),
        (["--text", "never written"], "holds 'never written'"),
        (["--text", "text"], "more than 20 documents"),
        (["abcdef0123", "--to", "x.parquet"], "--to writes the whole ledger"),
        (["abcdef0123", "--text", "x"], "not by both"),
    ],
)
def test_what_cannot_be_traced_is_said(
    made: Made, rewarm: Call, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(trace, "MOST", 20)
    code, out, error = rewarm("trace", made.path, *arguments)
    assert (code, out) == (2, "")
    assert message in error


def test_a_ledger_is_not_overwritten(made: Made, rewarm: Call, tmp_path: Path) -> None:
    (tmp_path / "ledger.parquet").write_text("mine")
    code, _, error = rewarm("trace", made.path, "--to", tmp_path / "ledger.parquet")
    assert code == 2
    assert "exists" in error


def test_positions_of_every_view_go_on(made: Made) -> None:
    read = Lineage(made.workspace).replayed().read
    assert set(read) == {"base", "base@wiki", "base@books", "news@news"}
    for update in Lineage(made.workspace).updates:
        for key, part in update.replay.by_dataset.items():
            assert replay.tokens_of(read[key]) == part["to"]


def test_the_report_counts_domains_with_their_dataset(made: Made) -> None:
    lineage = Lineage(made.workspace)
    found = lineage.updates[2].replay
    assert set(found.parts) == {"base", "news"}
    assert sum(part.share for part in found.parts.values()) == pytest.approx(found.achieved)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"by": "shares", "shares": {"base": 1, "news": 1, "cod": 1}}, "did you mean 'code'"),
        ({"mixture": "domains", "domain_shares": {"web": 1}}, "no sequence of web"),
    ],
)
def test_an_update_is_refused_before_anything_is_spent(made: Made, chosen: dict[str, Any], message: str) -> None:
    recipe = load_recipe("tiny").model_copy(update={"replay": replay.ReplaySettings.model_validate(chosen)})
    arrival = Arrival({"more": []}, {"more": "digest"})
    with pytest.raises(UsageError, match=message):
        open_update(made.workspace, arrival, recipe, Terminal(quiet=True))
    assert not (made.path / "updates" / "0003-more").exists()


def test_what_a_refused_update_read_is_no_part_of_the_lineage(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.path, tmp_path / "copy")
    workspace = Workspace(str(tmp_path / "copy"))
    edit_record(workspace, "0002-code", lambda record: record.update(state="refused"))
    lineage = Lineage(workspace, "before")
    assert [run.update.id for run in trace.trunks(lineage, None)] == ["0000-base", "0001-news"]
    assert [run.update.id for run in trace.trunks(lineage, "0002-code")] == ["0002-code"]
    (document,) = trace.trace_documents(lineage, made.ids["code"][:1], None, None, Silent())
    assert (document.dataset, document.trained) == ("code", [])
    (document,) = trace.trace_documents(lineage, made.ids["code"][:1], None, "0002-code", Silent())
    assert [reads.role for reads in document.trained] == ["new"]


def test_steps_that_were_not_applied_are_not_counted(made: Made, rewarm: Call, tmp_path: Path) -> None:
    shutil.copytree(made.path, tmp_path / "copy")
    workspace, mixture = Workspace(str(tmp_path / "copy")), made.mixture("0001-news")
    decisions = [{"first": 2, "last": 3, "kind": "left out", "because": "2 bad steps: 2, 3"}]
    training = {"steps": mixture.steps, "world_size": 1, "tokens_per_second": 1.0, "decisions": decisions}
    edit_record(workspace, "0001-news", lambda record: record.update(train=training))
    code, out, error = rewarm("trace", workspace.folder, "--update", "1", "--step", "3", "--json")
    assert code == 0, error
    assert json.loads(out)["left_out"] == "left out: 2 bad steps: 2, 3"
    code, out, _ = rewarm("trace", workspace.folder, "--update", "1", "--step", "3")
    assert "documents, not trained on: left out: 2 bad steps: 2, 3" in out.splitlines()[0]
    assert "left_out" not in json.loads(rewarm("trace", made.path, "--update", "1", "--step", "4", "--json")[1])
    (row,) = json.loads(rewarm("trace", workspace.folder, "--update", "1", "--json")[1])["updates"]
    away = [number for step in (1, 2) for number in mixture.batch(step)[0] if number >= len(mixture.new)]
    assert away, "the steps replay something"
    assert row["left_out"] == 2
    replayed = sum(mixture.count(0, mixture.steps)[len(mixture.new) :]) - len(away)
    assert sum(each["tokens"] for each in row["replayed"]) == replayed * SEQ_LEN
    lineage = Lineage(workspace)
    documents = trace.trace_documents(lineage, made.ids["news"], None, "0001-news", Silent())
    steps = {step for document in documents for reads in document.trained for step in reads.steps}
    assert steps
    assert not steps & {1, 2}
