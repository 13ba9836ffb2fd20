"""The benchmarks' own arithmetic, and that a peer does the work it is compared on."""

import dataclasses
import random
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from training_world import make_world

from rewarm.stages import train
from rewarm.stages.core.progress import Silent

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # the peer's processes find the modules by their names too


@pytest.fixture
def throughput() -> ModuleType:
    return import_module("train_throughput")


@pytest.mark.parametrize("wrong", [["--steps", "10"], ["--steps", "45"], ["--rounds", "0"], ["--workers", "3"]])
def test_options_that_cannot_be_run_are_refused(
    throughput: ModuleType, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        throughput.parse(wrong)
    assert f"{wrong[0]} {wrong[1]}: expected" in capsys.readouterr().err


def test_the_ratio_is_taken_round_by_round(throughput: ModuleType) -> None:
    rates = [(990, 1000), (490, 500), (1900, 2000)]
    run = throughput.Run
    rounds = [throughput.Round(run(ours, [2.0]), {"bare": run(bare, [2.0])}) for ours, bare in rates]
    said = throughput.summary("bare", rounds)
    assert "rewarm/bare: median 0.980, min 0.950, max 0.990" in said
    assert "bare tokens/s: median 1,000, min 500, max 2,000" in said
    assert said.endswith("on the median: met")
    assert throughput.summary("bare", rounds[2:]).endswith("missed")


def test_rounds_that_other_work_has_decided_give_no_verdict(throughput: ModuleType) -> None:
    run = throughput.Run
    rounds = [throughput.Round(run(ours, [2.0]), {"trainer": run(1000, [2.0])}) for ours in (990, 1000, 1450)]
    assert "median: cannot be told" in throughput.summary("trainer", rounds)


def test_the_gates_rules_are_judged_on_the_same_draws() -> None:
    rates = import_module("gate_error_rates")
    settings, rng = rates.GateSettings(max_forgetting=0.2), np.random.default_rng(0)
    parts = [rates.Part(200, -0.5, kind="new"), rates.Part(200, 0.4)]
    drawn = [rates.Simulated().draw(rng, part.documents, part.change, part.sites) for part in parts]
    assert (rates.judge_before(parts, drawn, settings), rates.judge(parts, drawn, settings)) == ("refused", "refused")
    best = [parts[0], rates.Part(200, 0.9, kind="best")]
    drawn = [rates.Simulated().draw(rng, part.documents, part.change, part.sites) for part in best]
    assert (rates.judge_before(best, drawn, settings), rates.judge(best, drawn, settings)) == ("passed", "refused")


@pytest.mark.faults
def test_the_peers_do_the_same_work(throughput: ModuleType, ray_cluster: None, tmp_path: Path) -> None:
    job = make_world(tmp_path).job("ours", steps=20, validate_every=0, checkpoint_every=20, cpus_per_worker=1)
    job = dataclasses.replace(job, validation={})
    outcome = train.run(job, train.Group(Silent()))
    ours = [row["loss"] for row in job.out.read_json(train.CURVE)["steps"]]
    peers = {name: throughput.run_peer(job, tmp_path / "peers", name) for name in throughput.GOALS}
    each = throughput.Round(throughput.Run(outcome.tokens_per_second, ours), peers)
    assert {len(ours), *(len(peer.losses) for peer in peers.values())} == {20}
    assert ours[-1] < ours[0] - 0.1
    assert each.largest_difference < 1e-4
    assert all(0.1 < ratio < 10 for ratio in each.ratios.values())


def test_rates_end_to_end_and_steady_are_of_the_best_times() -> None:
    lines = import_module("tokenize_throughput").lines
    times = {"rewarm": (1.0, 10.0, 20.0), "datatrove": (30.0, 120.0, 120.0)}  # a quarter, all, all from end to end
    prints = {"rewarm": (7, "a"), "datatrove": (7, "b")}
    ours, peer = lines(8192, times, prints, total=400_000_000, part=100_000_000)
    assert ours == "| 8,192 | rewarm | 20.0 |  | 33.3 |  | 7 | yes |"
    assert peer == "| 8,192 | datatrove | 3.3 | 6.00 × | 3.3 | 10.00 × | 7 | NO |"


@pytest.mark.parametrize("target", [0.9, 0.8, 0.7, 0.5, 0.3])
def test_a_planted_copy_is_as_similar_as_it_says(target: float) -> None:
    benchmark = import_module("near_duplicates")
    words = [f"w{number}" for number in range(400)]
    copy = benchmark.edited(words, target, [f"v{number}" for number in range(1000)], random.Random(1))
    one, two = ({tuple(text[at : at + 5]) for at in range(396)} for text in (words, copy))
    assert len(one & two) / len(one | two) == pytest.approx(target, abs=benchmark.TOLERANCE)
