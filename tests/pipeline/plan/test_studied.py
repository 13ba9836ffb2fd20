"""A study's share as the plan's choice: only that of the same arrival from the same trunk."""

from pathlib import Path
from typing import Any

import pytest
from records import record

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.plan.studied import studied_share

DIGESTS = {"news": "d1"}
FORECAST = {"share": 0.18342, "tokens": 400_000.0}


def studied(workspace: Workspace, name: str, plan: dict[str, Any], **made: Any) -> None:
    folder = workspace.folder / "studies" / name
    folder.write_json("study.json", {"arrival": DIGESTS, "head": "0000-base", **plan})
    folder.write_json("results.json", {"arrival_cost": 0.05, "unfinished": [], "forecast": {"share": None}, **made})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(str(tmp_path))
    Lineage(made).record(record("0000-base", datasets=[]))
    return made


def test_a_forecast_goes_before_the_best_row(workspace: Workspace) -> None:
    assert studied_share(Lineage(workspace), DIGESTS) is None
    best = {"name": "replay.share=0.25", "settings": {"replay.share": 0.25}}
    studied(workspace, "a", {}, best=best)
    found = studied_share(Lineage(workspace), DIGESTS)
    assert found is not None
    assert found.value == 0.25
    assert "best row of study a" in found.because
    assert "at most 0.05 nats above" in found.because
    studied(workspace, "b", {}, best=best, forecast=FORECAST)
    found = studied_share(Lineage(workspace), DIGESTS)
    assert found is not None
    assert (found.value, found.because.split(":")[0]) == (0.1834, "the forecast of study b at 400,000 tokens")


@pytest.mark.parametrize(
    ("plan", "made"),
    [
        ({"arrival": {"news": "d2"}}, {}),
        ({"head": "0001-other"}, {}),
        ({}, {"unfinished": ["a-trial"]}),
        ({}, {"forecast": {"share": None}, "best": {"name": "row", "settings": {"train.beta1": 0.8}}}),
    ],
)
def test_another_studys_share_is_not_taken(workspace: Workspace, plan: dict[str, Any], made: dict[str, Any]) -> None:
    studied(workspace, "a", plan, **{"forecast": FORECAST, **made})
    assert studied_share(Lineage(workspace), DIGESTS) is None
