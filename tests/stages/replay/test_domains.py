"""Replay by domains: shares of the pre-training mixture, the arrival in the web's place."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from replay_world import write_dataset

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture
from rewarm.stages.data.tokens import TokenSet, TokenStream
from rewarm.stages.replay import (
    MIXTURE,
    Arrival,
    Budget,
    Carried,
    Draw,
    Earlier,
    ReplayOutcome,
    ReplaySettings,
    read_domains,
    run,
    token_sets,
)

SEQ_LEN, BATCH = 8, 10
BASE = [("CC", 300), ("Wikipedia", 101), (None, 40), ("Books", 60), ("Wikipedia", 100), ("CC", 401), ("ArXiv", 3)]
NEWS = [("Wikipedia", 201), ("news", 90)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("datasets"))
    write_dataset(folder / "base", BASE)
    write_dataset(folder / "news", NEWS)
    write_dataset(folder / "new", [(None, 4001)])
    return folder


def mix(
    root: Folder, out: Folder, budget: int = 4000, before: Carried | None = None, **chosen: Any
) -> tuple[ReplayOutcome, Mixture]:
    earlier = [
        Earlier(name, root / name / "tokens" / "train", root / name / "documents", 1, age)
        for name, age in (("base", 2), ("news", 1))
    ]
    arrivals = {"new": TokenSet(root / "new" / "tokens" / "train")}
    replay = ReplaySettings.model_validate({"mixture": "domains", **chosen})
    size, draw = Budget(SEQ_LEN, BATCH, budget), Draw(7, "0002-new")
    outcome = run(Arrival(arrivals), earlier, before or Carried(), size, draw, out, replay, Silent())
    return outcome, Mixture.from_json(out.read_json(MIXTURE))


def by_domain(outcome: ReplayOutcome) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for key, part in outcome.by_dataset.items():
        counts[key.partition("@")[2]] += part["sequences"]
    return dict(counts)


def test_domains_follow_the_rows_of_the_documents(root: Folder) -> None:
    domains = read_domains(root / "base" / "documents", TokenStream(root / "base" / "tokens" / "train"))
    assert domains.names == ["CC", "Wikipedia", "unnamed", "Books", "ArXiv"]
    assert domains.codes.tolist() == [0, 1, 2, 3, 1, 0, 4]
    assert domains.tokens.tolist() == [701, 201, 40, 60, 3]
    assert domains.rows("Wikipedia").tolist() == [1, 4]


def test_the_arrival_takes_the_place_of_the_web(root: Folder, tmp_path: Path) -> None:
    shares = {"CC": 70, "Wikipedia": 20, "Books": 10}
    outcome, mixture = mix(root, Folder(tmp_path), domain_shares=shares)
    assert (outcome.requested, outcome.achieved, mixture.share) == (0.3, 0.3, "3/10")
    assert by_domain(outcome) == {"Wikipedia": 100, "Books": 50}
    assert outcome.by_dataset["base@Wikipedia"]["dataset"] == "base"
    assert outcome.by_dataset["base@Wikipedia"]["sequences"] == 50  # as many tokens of it as news has


def test_each_domain_is_read_alone(root: Folder, tmp_path: Path) -> None:
    outcome, mixture = mix(root, Folder(tmp_path), domain_shares={"CC": 7, "Wikipedia": 2, "Books": 1})
    sets = token_sets(Folder(tmp_path), mixture, lambda name: root / name / "tokens" / "train")
    for source in mixture.replayed:
        stream = sets[source.key].open()
        documents = {"base": BASE, "news": NEWS}[source.dataset]
        rows = [number for number, (name, _) in enumerate(documents) if name == source.view]
        every = TokenStream(root / source.dataset / "tokens" / "train").document_ids()
        assert stream.document_ids() == [every[row] for row in rows]
        assert stream.num_sequences(SEQ_LEN) == source.num_sequences
    assert outcome.source == "earlier datasets"


def test_without_a_table_domains_share_by_their_tokens(root: Folder, tmp_path: Path) -> None:
    outcome, mixture = mix(root, Folder(tmp_path))
    tokens = {"Wikipedia": 402, "unnamed": 40, "Books": 60, "news": 90}  # ArXiv makes no sequence
    total = sum(tokens.values()) + 701
    assert outcome.requested == pytest.approx(1 - 701 / total)
    count = outcome.replayed // SEQ_LEN
    for domain, found in by_domain(outcome).items():
        assert abs(found - count * tokens[domain] / sum(tokens.values())) <= 2, domain
    assert set(by_domain(outcome)) == set(tokens)
    assert "CC" not in {source.view for source in mixture.replayed}


def test_without_web_the_share_is_asked_and_the_web_is_replayed_too(root: Folder, tmp_path: Path) -> None:
    outcome, _ = mix(root, Folder(tmp_path), share=0.2, web=[], domain_shares={"CC": 70, "Wikipedia": 20, "Books": 10})
    assert outcome.achieved == 0.2
    assert by_domain(outcome) == {"CC": 70, "Wikipedia": 20, "Books": 10}


def test_datasets_share_a_domain_as_they_share_replay(root: Folder, tmp_path: Path) -> None:
    table = {"CC": 80, "Wikipedia": 20}
    shares = {"base": 3, "news": 1}  # of base 201 of 1005 tokens, of news 201 of 291
    outcome, _ = mix(root, Folder(tmp_path), domain_shares=table, by="shares", shares=shares)
    base, news = (outcome.by_dataset[f"{name}@Wikipedia"]["sequences"] for name in shares)
    assert base + news == 100
    assert base == pytest.approx(100 * (3 * 201 / 1005) / (3 * 201 / 1005 + 201 / 291), abs=1)


def test_no_replay_reads_no_domains(root: Folder, tmp_path: Path) -> None:
    outcome, mixture = mix(root, Folder(tmp_path), share=0, domain_shares={"nowhere": 1, "CC": 2})
    assert (outcome.achieved, mixture.replayed) == (0, ())
    assert not (tmp_path / "domains").exists()


def test_a_domain_goes_on_where_it_stopped(root: Folder, tmp_path: Path) -> None:
    shares = {"CC": 70, "Wikipedia": 20, "Books": 10}
    first, _ = mix(root, Folder(tmp_path) / "one", budget=400, domain_shares=shares)
    before = Carried().after(first.by_dataset)
    second, mixture = mix(root, Folder(tmp_path) / "two", budget=400, before=before, domain_shares=shares)
    assert {source.key: source.start * SEQ_LEN for source in mixture.replayed} == {
        key: part["to"] for key, part in first.by_dataset.items()
    }
    one, two = first.by_dataset["news@Wikipedia"], second.by_dataset["news@Wikipedia"]
    assert (one["from"], one["to"], two["from"]) == (0, two["from"], one["to"])


def test_every_epoch_of_the_arrival_draws_its_domains_afresh(root: Folder, tmp_path: Path) -> None:
    outcome, mixture = mix(root, Folder(tmp_path), budget=8000, domain_shares={"CC": 95, "Wikipedia": 5})
    drawn: dict[str, list[int]] = {}
    for step in range(mixture.steps):
        for number, start in zip(*mixture.batch(step), strict=True):
            if number:
                drawn.setdefault(mixture.sources[number].key, []).append(int(start) // SEQ_LEN)
    assert outcome.epochs == pytest.approx(1.9)
    assert {key: sorted(read) for key, read in drawn.items()} == {
        "base@Wikipedia": list(range(25)),
        "news@Wikipedia": list(range(25)),
    }


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"domain_shares": {"CC": 1, "wikipedia": 1}}, r"no sequence of wikipedia.*Books, CC, Wikipedia"),
        ({"domain_shares": {"Wikipedia": 1, "ArXiv": 1}}, "no sequence of ArXiv"),
        ({"domain_shares": "llama-1"}, "no sequence of GitHub, ArXiv, StackExchange"),
        ({"domain_shares": {"CC": 1, "Books": 0}}, "only the web"),
        ({"web": ["Wikpedia"]}, "did you mean 'Wikipedia'"),
    ],
)
def test_shares_that_the_data_cannot_fill_are_refused(
    root: Folder, tmp_path: Path, chosen: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        mix(root, Folder(tmp_path), **chosen)
    assert not list(tmp_path.iterdir())


def test_documents_that_are_not_those_tokenized_are_noticed(tmp_path: Path) -> None:
    folder = Folder(tmp_path) / "base"
    write_dataset(folder, BASE)
    file = folder.path / "documents" / "00000.parquet"
    pq.write_table(pq.read_table(file).slice(1), file)
    with pytest.raises(StageError, match=r"holds 6 documents.*tokens of 7"):
        read_domains(folder / "documents", TokenStream(folder / "tokens" / "train"))


@settings(deadline=None, max_examples=12)
@given(shares=st.fixed_dictionaries({name: st.floats(0.01, 100) for name in ("CC", "Wikipedia", "Books", "news")}))
@example(shares={"CC": 1.0, "Wikipedia": 1.0, "Books": 1.0, "news": 52.0})  # 490.9 are due to replay, 490 are whole
def test_shares_of_domains_are_achieved_at_every_point(
    root: Folder, tmp_path_factory: pytest.TempPathFactory, shares: dict[str, float]
) -> None:
    _, mixture = mix(root, Folder(tmp_path_factory.mktemp("out")), domain_shares=shares, floor=0.0)
    numbers, _ = mixture.assign(np.arange(mixture.steps * BATCH))
    replayed = np.cumsum(numbers >= 1)
    share = 1 - shares["CC"] / sum(shares.values())
    assert np.abs(replayed - share * np.arange(1, len(numbers) + 1)).max() < 1.01
    for name in ("Books", "news"):  # each in one dataset alone
        number = next((n for n, source in enumerate(mixture.sources) if source.view == name), -1)
        count = int((numbers == number).sum())
        assert abs(count - len(numbers) * shares[name] / sum(shares.values())) < 1.01  # of what it is due
        assert np.abs(np.cumsum(numbers == number) - count * replayed / max(1, replayed[-1])).max() < 1.01  # evenly
