"""The benchmarks' own arithmetic, and that a peer does the work it is compared on."""

import dataclasses
from pathlib import Path
from types import ModuleType

import pytest
from training_world import make_world

from stages import train
from stages.progress import Silent

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def throughput(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # the peer's processes find the module by this name too
    import train_throughput

    return train_throughput


@pytest.mark.parametrize("wrong", [["--steps", "10"], ["--steps", "45"], ["--rounds", "0"], ["--workers", "3"]])
def test_options_that_cannot_be_run_are_refused(
    throughput: ModuleType, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        throughput.parse(wrong)
    assert f"{wrong[0]} {wrong[1]}: expected" in capsys.readouterr().err


def test_the_ratio_is_taken_round_by_round(throughput: ModuleType) -> None:
    rates = [(990, 1000), (490, 500), (1900, 2000)]
    rounds = [throughput.Round(throughput.Run(ours, [2.0]), throughput.Run(bare, [2.0])) for ours, bare in rates]
    said = throughput.summary(rounds)
    assert "rewarm/bare: median 0.980, min 0.950, max 0.990" in said
    assert "bare tokens/s: median 1,000, min 500, max 2,000" in said
    assert said.endswith("on the median: met")
    assert throughput.summary(rounds[2:]).endswith("missed")


def test_rounds_that_other_work_has_decided_give_no_verdict(throughput: ModuleType) -> None:
    rounds = [throughput.Round(throughput.Run(ours, [2.0]), throughput.Run(1000, [2.0])) for ours in (990, 1000, 1450)]
    assert "median: cannot be told" in throughput.summary(rounds)


def test_the_bare_loop_does_the_same_work(throughput: ModuleType, ray_cluster: None, tmp_path: Path) -> None:
    job = make_world(tmp_path).job("ours", steps=20, validate_every=0, checkpoint_every=20, cpus_per_worker=1)
    job = dataclasses.replace(job, validation={})
    outcome = train.run(job, Silent())
    ours = [row["loss"] for row in job.out.read_json(train.CURVE)["steps"]]
    bare = throughput.run_bare(job, tmp_path / "bare")
    each = throughput.Round(throughput.Run(outcome.tokens_per_second, ours), bare)
    assert len(ours) == len(bare.losses) == 20
    assert ours[-1] < ours[0] - 0.1
    assert each.largest_difference < 1e-4
    assert 0.1 < each.ratio < 10
