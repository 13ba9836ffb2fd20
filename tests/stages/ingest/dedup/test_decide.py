"""Decisions over planted duplicates: against brute force, and the same however the work is cut."""

import random
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pytest
from planted_duplicates import Home, document, edited, jaccard, write_sizes

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.documents import document_id
from rewarm.stages.data.split import TRAIN, VALIDATE, SplitSize, content_digest, read_index, worth_of, write_index
from rewarm.stages.ingest.dedup import partition, search
from rewarm.stages.ingest.dedup import partition as jobs
from rewarm.stages.ingest.dedup.columns import read_columns
from rewarm.stages.ingest.dedup.decide import REASONS, REPEATS_SCHEMA, Fate, decide, staged_digest
from rewarm.stages.ingest.dedup.index import NEAR_FILE, index_documents, read_fates
from rewarm.stages.ingest.dedup.minhash import Signatures
from rewarm.stages.ingest.dedup.search import find_edges
from rewarm.stages.ingest.dedup.staged import Staged, write_signatures

Homes = Callable[..., Home]
KEPT = (Fate.TRAIN, Fate.VALIDATE)


def repeats(staging: Folder, name: str) -> dict[int, tuple[Fate, int, int]]:
    columns = [column.tolist() for column in read_columns(staging, name + ".repeats", REPEATS_SCHEMA)]
    return {row: (Fate(fate), dataset, original) for row, fate, dataset, original in zip(*columns, strict=True)}


def test_against_brute_force(home: Homes, planted: list[str]) -> None:
    place = home()
    fates, decision = place.decide("a", planted)
    kept = [row for row, fate in enumerate(fates) if fate in KEPT]
    told = repeats(Folder(place.root / "a"), "00000")
    assert sorted([*kept, *told]) == list(range(len(planted)))
    seen: set[str] = set()
    for row, text in enumerate(planted):
        assert (fates[row] == Fate.DUPLICATE) == (text in seen)
        seen.add(text)
    for row, (fate, dataset, original) in told.items():
        assert fate == fates[row]
        assert dataset == -1
        assert original < row
        if fate == Fate.NEAR:
            assert original in kept
            assert jaccard(planted[row], planted[original]) > 0.45
    pairs = [(jaccard(planted[a], planted[b]), a, b) for at, a in enumerate(kept) for b in kept[:at]]
    assert max(pairs)[0] < 0.75, "what is nearly the same is not kept twice"
    assert decision.drops == {REASONS[fate]: fates.count(fate) for fate in REASONS}
    assert decision.drops["duplicate inside"] == 29
    assert 85 <= decision.drops["near-duplicate inside"] <= 115
    assert decision.kept == len(kept)
    assert decision.rows == len(planted)
    assert orjson.loads(orjson.dumps(asdict(decision)))["rows"] == len(planted)


def test_the_split_is_that_of_the_hashes_and_the_digest_that_of_the_split(home: Homes, planted: list[str]) -> None:
    place = home()
    fates, decision = place.decide("a", planted, share=0.2)
    ids = [document_id(text) for text in planted]
    for fate, doc_id in zip(fates, ids, strict=True):
        if fate in KEPT:
            assert (fate == Fate.VALIDATE) == (int(doc_id, 16) < 0.2 * 2**128)
    hashes = np.frombuffer(bytes.fromhex("".join(ids)), "S16")
    assert decision.digest == content_digest(hashes, np.array(fates, np.uint8))
    assert (decision.train, decision.validate) == (fates.count(Fate.TRAIN), fates.count(Fate.VALIDATE))


def test_a_split_that_is_worth_too_little_grows_up_to_its_cap(home: Homes, planted: list[str]) -> None:
    small, _ = home().decide("a", planted, share=0.02)
    fates, decision = home().decide("a", planted, share=0.02, worth=12, cap=0.5)
    sizes = np.array([len(text.encode()) for text in planted])
    assert 12 <= worth_of(sizes[np.array(fates) == Fate.VALIDATE]) < 13
    order = sorted((document_id(text), fate) for text, fate in zip(planted, fates, strict=True) if fate in KEPT)
    assert [fate for _, fate in order] == [Fate.VALIDATE] * decision.validate + [Fate.TRAIN] * decision.train
    assert all(now == Fate.VALIDATE for now, then in zip(fates, small, strict=True) if then == Fate.VALIDATE)
    _, decision = home().decide("a", planted, share=0.02, worth=1000, cap=0.1)
    assert decision.validate == int(decision.kept * 0.1)
    assert home().decide("a", planted, share=0.2, worth=1000, cap=0.1)[0] == home().decide("a", planted, share=0.2)[0]
    assert fates == home().decide("a", planted, share=0.02, worth=12, cap=0.5, cuts=(1, 1, 100, 237))[0]


def test_nothing_depends_on_how_the_work_is_cut(
    home: Homes, planted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, decision = (place := home()).decide("a", planted)
    files = {name: place.index("a").read(name) for name in place.index("a").files()}

    def shuffled(work: Callable[[dict], dict], tasks: list[dict], *_: object) -> None:
        for task in random.Random(9).sample(tasks, len(tasks)):
            work(task)

    monkeypatch.setattr(partition, "ROW_BYTES", 2**18)  # 64 rows may be held
    monkeypatch.setattr("rewarm.stages.ingest.dedup.decide.run_tasks", shuffled)
    other = home(memory_mb=16)
    assert partition.num_partitions(len(planted), 16) > 5
    fates, again = other.decide("a", planted, cuts=(1, 1, 100, 237))
    assert fates == expected
    assert again == decision
    assert {name: other.index("a").read(name) for name in other.index("a").files()} == files


def test_a_run_that_was_killed_goes_on(home: Homes, planted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    expected, decision = home().decide("a", planted)
    place = home()
    staging, shards = place.stage("a", planted)
    done = []

    def stops(task: dict, **given: object) -> dict:
        if len(done) == 12:
            raise KeyboardInterrupt
        done.append(search.edges_file(task))
        return find_edges(task, **given)  # type: ignore[arg-type]

    monkeypatch.setattr("rewarm.stages.ingest.dedup.decide.find_edges", stops)
    with pytest.raises(KeyboardInterrupt):
        decide(staging, shards, [], place.settings, SplitSize(0.1), Silent())
    monkeypatch.undo()
    times = {name: (staging.path / name).stat().st_ino for name in done}
    assert decide(staging, shards, [], place.settings, SplitSize(0.1), Silent()) == decision
    assert {name: (staging.path / name).stat().st_ino for name in done} == times
    assert read_fates(staging, "00000").tolist() == expected


def test_a_series_of_arrivals_keeps_what_one_arrival_would(home: Homes, planted: list[str]) -> None:
    whole, _ = home().decide("all", planted)
    place, names, kept = home(), [], []
    for number in range(6):
        part = planted[number * 50 : (number + 1) * 50]
        fates, decision = place.decide(f"part-{number}", part, names)
        assert len(decision.overlaps) == number
        assert sum(overlap.near for overlap in decision.overlaps) == fates.count(Fate.EARLIER_NEAR)
        assert sum(overlap.exact for overlap in decision.overlaps) == fates.count(Fate.EARLIER_EXACT)
        kept += [fate in KEPT for fate in fates]
        names.append(f"part-{number}")
    assert kept == [fate in KEPT for fate in whole]
    assert not all(kept[50:])


def test_near_duplicates_of_validation_documents_never_train(home: Homes) -> None:
    rng = random.Random(2)
    originals = [document(rng) for _ in range(120)]
    copies = [edited(text, 0.9, rng) for text in originals]
    place = home()
    fates, _ = place.decide("a", originals + copies, share=0.3)
    held_out = [text for text, fate in zip(originals, fates, strict=False) if fate == Fate.VALIDATE]
    assert len(held_out) > 20
    assert not set(fates[120:]) & set(KEPT)
    later, decision = place.decide("b", [edited(text, 0.9, rng) for text in held_out] + [document(rng)], ["a"])
    assert later == [Fate.EARLIER_NEAR] * len(held_out) + [Fate.TRAIN]
    assert decision.overlaps[0].near == len(held_out)


def test_what_was_dropped_stands_for_nothing(home: Homes) -> None:
    """A ~ B ~ C, A not ~ C: B goes for A, so C stays; and what is as C goes for C."""
    rng = random.Random(11)
    a = document(rng, 400)
    b = edited(a, 0.72, rng)
    c = edited(b, 0.72, rng)
    assert jaccard(a, c) < 0.56
    fates, _ = home(similarity=0.6).decide("a", [a, b, c, c + " end"])
    assert [fate in KEPT for fate in fates] == [True, False, True, False]


def test_the_latest_of_an_address_stays(home: Homes, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    texts = [document(rng) for _ in range(8)]
    texts[6] = texts[0]
    old, new = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
    urls = ["http://a.org/x", "https://a.org/x/", "http://a.org/x#y", "http://b.org", "http://b.org", None, None, None]
    times = [old, new, None, None, None, new, old, None]
    expected = [True, False, True, True, False, False, False, False]
    for bytes_of_a_row in (128, 2**23):  # the second holds two rows
        monkeypatch.setattr(partition, "ROW_BYTES", bytes_of_a_row)
        place = home(latest_url=True, memory_mb=16)
        fates, decision = place.decide("a", texts, urls=urls, times=times)
        assert [fate == Fate.OLDER_URL for fate in fates] == expected
        assert fates[6] in KEPT, "the older version of an address does not stand for its text"
        told = repeats(Folder(place.root / "a"), "00000")
        assert {row: original for row, (_, _, original) in told.items()} == {0: 1, 2: 1, 3: 4}
        assert decision.drops["older version of the address"] == 3
    fates, _ = home().decide("a", texts, urls=urls, times=times)
    assert Counter(fates)[Fate.OLDER_URL] == 0
    assert fates[6] == Fate.DUPLICATE


def test_against_earlier_datasets_an_address_changes_nothing(home: Homes) -> None:
    rng = random.Random(4)
    text, update = document(rng), document(rng)
    place = home(latest_url=True)
    place.decide("a", [text, document(rng)], urls=["http://a.org", None])
    fates, _ = place.decide("b", [text, update], ["a"], urls=["http://a.org", "http://b.org"])
    assert fates == [Fate.EARLIER_EXACT, Fate.TRAIN]
    fates, _ = place.decide("c", [update], ["a"], urls=["http://a.org"])
    assert fates == [Fate.TRAIN]


def test_without_near_only_equal_texts_go_and_the_index_holds_ids_alone(home: Homes, planted: list[str]) -> None:
    place = home(near=False)
    fates, _ = place.decide("a", planted)
    assert Counter(fate in KEPT for fate in fates) == Counter({True: len(set(planted)), False: 29})
    assert place.index("a").files() == ["doc_ids.arrow"]
    assert read_index(place.index("a")).tobytes() == b"".join(
        sorted({bytes.fromhex(document_id(text)) for text in planted})
    )

    notes: list[str] = []

    class Listening(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    near = Home(place.root)
    staging, shards = near.stage("b", [planted[0], planted[1] + " end", "one two three"])
    decision = decide(staging, shards, [near.index("a")], near.settings, SplitSize(0.1), Listening())
    assert decision.overlaps[0].exact == 1
    assert decision.kept == 2
    assert "near-duplicates of a are not detected" in notes[0]
    assert notes[1:] == ["1 of 2 documents are held out for validation (50.0%), worth 1.0 of equal length"]


def test_an_index_of_other_settings_is_refused(home: Homes, planted: list[str]) -> None:
    place = home()
    place.decide("a", planted[:20])
    other = Home(place.root, place.settings.model_copy(update={"shingle": 3, "bands": 10}))
    with pytest.raises(UsageError, match=r"a: .*made with bands 20, shingle 5, but .* bands 10, shingle 3"):
        other.decide("b", planted[20:40], ["a"])
    similar = Home(place.root, place.settings.model_copy(update={"similarity": 0.9}))
    assert similar.decide("b", planted[20:40], ["a"])[1].rows == 20


def test_fates_that_the_caller_changes_are_those_of_digest_and_index(home: Homes, planted: list[str]) -> None:
    place = home()
    fates, decision = place.decide("a", planted, cuts=(150,))
    staging, first = Folder(place.root / "a"), fates.index(Fate.TRAIN)
    changed = np.array(fates[:150], np.uint8)
    changed[first] = Fate.DROP
    staging.write("00000.fates", changed.tobytes())
    assert staged_digest(staging, ["00000", "00001"]) != decision.digest
    for name in staging.files(".part"):
        staging.delete(name)
    index_documents(
        place.index("a"), staging, [("00000", 150), ("00001", len(planted) - 150)], place.settings, Silent()
    )
    ids = read_index(place.index("a"))
    assert len(ids) == decision.kept - 1
    assert bytes.fromhex(document_id(planted[first])) not in ids.tolist()


@pytest.mark.parametrize("texts", [[], ["one"], ["one", "one"]])
def test_small_arrivals(home: Homes, texts: list[str]) -> None:
    fates, decision = home().decide("a", texts)
    assert fates == [Fate.TRAIN, Fate.DUPLICATE][: len(texts)]
    assert decision.validate == 0


def random_arrival(folder: Path, rows: int, home: Home) -> tuple[Folder, list[tuple[str, int]]]:
    """Rows of random signatures, a tenth of which repeat the row before nearly."""
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**64 - 1, (rows, 20), np.uint64)
    sketches = rng.integers(0, 255, (rows, 16), np.uint8, endpoint=True)
    keys[9::10], sketches[9::10] = keys[8::10], sketches[8::10]
    ids = rng.integers(1, 255, (rows, 16), np.uint8).view("S16").reshape(-1)
    none = np.zeros(rows, np.int64)
    staging = Folder(folder)
    write_signatures(staging, "00000", ids, none.astype(np.uint64), none, Signatures(keys, sketches), home.settings)
    write_sizes(staging, "00000", [100] * rows)
    return staging, [("00000", rows)]


def test_a_hundred_thousand_rows_take_seconds_and_at_most_200_bytes_each(home: Homes) -> None:
    place = home()
    for rows in (10_000, 100_000):
        staging, shards = random_arrival(place.root / f"{rows}", rows, place)
        decision = decide(staging, shards, [], place.settings, SplitSize(0.02), Silent())
        index_documents(place.index(f"{rows}"), staging, shards, place.settings, Silent())
        assert decision.drops["near-duplicate inside"] == rows // 10
        size = sum((place.index(f"{rows}").path / name).stat().st_size for name in (NEAR_FILE, "doc_ids.arrow"))
        assert 192 * decision.kept < size <= 200 * decision.kept


def test_as_a_ray_data_job(
    ray_cluster: None, home: Homes, planted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = home().decide("a", planted)
    monkeypatch.setattr(jobs, "FEW_ROWS", 0)
    assert home(bands=20).decide("a", planted, cuts=(20, 200)) == expected
    wrong = partial(
        find_edges, staged=Staged(Folder(tmp_path / "nowhere"), ("00000",), (1,)), earlier=[], settings=home().settings
    )
    task = {"kind": "exact", "band": 0, "partition": 0, "partitions": 1, "without": "none"}
    with pytest.raises(OSError, match="nowhere"):
        jobs.run_tasks(wrong, [task], 1, Silent(), "looking")


def test_the_values_that_settle_reads_are_those_of_the_split() -> None:
    assert (Fate.TRAIN, Fate.VALIDATE) == (TRAIN, VALIDATE)


VIETNAMESE = "Hội đồng thành phố họp vào tối thứ Ba để bàn về tòa nhà thư viện mới."
FORMS = [
    (VIETNAMESE, unicodedata.normalize("NFD", VIETNAMESE)),
    ("시의회는 화요일 저녁에", unicodedata.normalize("NFD", "시의회는 화요일 저녁에")),
    ("Donaudampfschifffahrt & Co", "Donau\u00addampf\u00adschifffahrt &amp; Co"),
    ("می\u200cخواهم بروم", "میخواهم بروم"),
]


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize(("text", "other"), [*FORMS, *((other, text) for text, other in FORMS)])
def test_texts_in_another_form_are_exact_duplicates(home: Homes, text: str, other: str, near: bool) -> None:
    place = home(near=near)
    fates, decision = place.decide("a", [text, "another text", other, other])
    assert [Fate(fate) in KEPT for fate in fates] == [True, True, False, False]
    assert decision.drops["duplicate inside"] == 2
    assert {original for _, _, original in repeats(Folder(place.root / "a"), "00000").values()} == {0}
    place.decide("b", [text, other], earlier=["a"])
    assert read_fates(Folder(place.root / "b"), "00000").tolist() == [Fate.EARLIER_EXACT, Fate.DUPLICATE]
    fates, _ = place.decide("c", [other], earlier=["a"])
    assert fates == [Fate.EARLIER_EXACT]


class Notes(Silent):
    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def test_superscripts_and_wide_letters_are_other_texts(home: Homes) -> None:
    fates, _ = home(near=False).decide("a", ["x² of them", "x2 of them", "ＡＢＣ of them", "ABC of them"])
    assert all(Fate(fate) in KEPT for fate in fates)


def test_an_index_of_bytes_alone_finds_the_same_bytes_and_says_what_it_misses(home: Homes) -> None:
    place = home(near=False)
    composed, parted = FORMS[0]
    place.decide("a", [parted])
    write_index(place.index("a"), np.frombuffer(bytes.fromhex(document_id(parted)), "S16"))
    assert place.decide("b", [parted], earlier=["a"])[0] == [Fate.EARLIER_EXACT]
    notes = Notes()
    fates, _ = place.decide("c", [composed, "another text"], earlier=["a"], progress=notes)
    assert Fate(fates[0]) in KEPT
    assert any("1 datasets were indexed before texts were normalised (a)" in note for note in notes.told)
