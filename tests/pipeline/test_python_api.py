"""The Python API on a small lineage: data frames, figures, models, and the page that describes it."""

import contextlib
import io
import math
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest
from documentation import PAGES
from release_world import write_texts

import rewarm
from rewarm.pipeline.api.workspace import assigned, overrides
from rewarm.pipeline.lineage.workspace import Workspace as StoredWorkspace
from rewarm.stages.core.errors import DamagedError, UsageError


@pytest.fixture
def workspace(lm: StoredWorkspace) -> rewarm.Workspace:
    return rewarm.Workspace(lm.folder.path)


def test_losses_are_those_of_the_records(workspace: rewarm.Workspace) -> None:
    losses = workspace.losses()
    assert list(losses.index) == [record.id for record in workspace.updates]
    for record in workspace.updates:
        for dataset, loss in record.losses["release"].items():
            assert losses.loc[record.id, dataset] == loss
    assert math.isnan(losses.loc["0000-docs", "news"])
    assert (workspace.losses("trunk").stack().dropna() > 0).all()
    with pytest.raises(ValueError, match="nats or bits"):
        workspace.losses(unit="words")


def test_forgetting_is_that_of_the_records(workspace: rewarm.Workspace) -> None:
    frame = workspace.forgetting()
    assert isinstance(frame, pd.DataFrame)
    assert {index: dict(row.dropna()) for index, row in frame.iterrows()} == {
        record.id: dict(record.forgetting) for record in workspace.updates
    }


def test_figures_can_be_drawn(workspace: rewarm.Workspace, tmp_path: Path) -> None:
    figures = workspace.figures()
    assert "validation-loss" in figures
    for name, figure in figures.items():
        assert isinstance(figure, go.Figure)
        assert len(figure.data) > 0
        figure.write_html(tmp_path / f"{name}.html", include_plotlyjs=False)


def test_a_damaged_release_is_not_loaded(workspace: rewarm.Workspace, lm: StoredWorkspace) -> None:
    model, tokenizer = workspace.load()
    assert model(**tokenizer("The", return_tensors="pt")).logits.shape[-1] == model.config.vocab_size
    (weights,) = Path(lm.folder.path, "updates", str(workspace.release), "release", "model").glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-7] ^= 1
    weights.write_bytes(data)
    with pytest.raises(DamagedError):
        workspace.load()


def test_no_workspace(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        rewarm.Workspace(tmp_path / "none")
    with pytest.raises(UsageError):
        rewarm.update(tmp_path / "none", {"news": tmp_path}, quiet=True)


def test_an_arrival_that_was_ingested_before_changes_nothing(workspace: rewarm.Workspace, tmp_path: Path) -> None:
    files = write_texts(tmp_path)
    before = [record.id for record in workspace.updates]
    assert [record.id for record in rewarm.update(workspace, {"news": files["news"]}, quiet=True).updates] == before


def test_arguments_are_those_of_the_command_line() -> None:
    assert assigned({"a": "x", "b": [Path("y"), "z"]}) == ["a=x", "b=y", "b=z"]
    assert overrides({"replay.share": 0.1, "gate.min_order": None, "clean.languages": ["no", "de"]}) == [
        "replay.share=0.1",
        "gate.min_order=null",
        "clean.languages=['no', de]",
    ]
    assert overrides(None) == []


def test_the_page_runs(workspace: rewarm.Workspace, lm: StoredWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(lm.folder.path).parent)
    (page,) = (page for page in PAGES if page.name == "docs/python.md")
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile("\n".join(page.blocks("python")), page.name, "exec"), {})
    assert "0001-news" in shown.getvalue()
