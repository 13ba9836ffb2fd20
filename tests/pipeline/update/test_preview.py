"""The dry run of an update: what is estimated from the files, and its lines."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from rewarm.pipeline.cli.preview_view import line, preview_lines
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.update.inputs import Arrival, recipe_of
from rewarm.pipeline.update.preview import estimate, preview
from rewarm.stages.ingest import InputFile

Command = Callable[..., tuple[int, str, str]]


def arrival(*sizes: int, kind: str = "jsonl") -> Arrival:
    files = [InputFile(f"/x/{number}", str(number), size, kind, "") for number, size in enumerate(sizes)]
    return Arrival(inputs={"forum": files}, digests={})


@pytest.mark.parametrize(
    ("sets", "trained", "steps", "passes"),
    [
        (["budget.update_tokens=409600", "replay.share=0"], 409_600, 100, 0.40),
        (["budget.update_tokens=409600", "replay.share=0.25"], 409_600, 100, 0.30),
        (["budget.update_tokens=5000"], 4096, 1, None),
        (["budget.update_tokens=null", "replay.share=0.5"], 2 * 1_024_000, 500, 1.0),
        (["budget.update_tokens=null", "replay.share=0", "select.epochs=2"], 2 * 1_024_000, 500, 2.0),
    ],
)
def test_tokens_steps_and_passes_follow_the_budget_and_the_share(
    lm: Workspace, monkeypatch: pytest.MonkeyPatch, sets: list[str], trained: int, steps: int, passes: float | None
) -> None:
    monkeypatch.setattr("rewarm.pipeline.update.preview.bytes_per_token", lambda _: 4.0)
    found = estimate(Lineage(lm), arrival(4_096_000), load_recipe("tiny", sets))
    assert (found["text_tokens"], found["trained_tokens"], found["steps"]) == (1_024_000, trained, steps)
    if passes is not None:
        assert found["passes"] == pytest.approx(passes, rel=0.01)


def test_the_text_per_token_is_that_of_the_last_dataset(lm: Workspace) -> None:
    lineage = Lineage(lm)
    name, entry = list(lineage.datasets().items())[-1]
    part = lineage.read(entry.id).data[name]
    text = part.ingest.num_bytes + part.ingest.validation_bytes
    tokens = part.tokenize.num_tokens + part.tokenize.validation_tokens
    assert estimate(lineage, arrival(text), recipe_of(lm))["text_tokens"] == tokens


def test_a_budget_below_one_step_and_many_passes_are_warned_of(lm: Workspace) -> None:
    recipe = load_recipe("tiny", ["budget.update_tokens=100"])
    lines = "\n".join(preview_lines(preview(Lineage(lm), arrival(1000), recipe, [])))
    assert "less than one step of 4,096 tokens" in " ".join(lines.split())
    lines = "\n".join(preview_lines(preview(Lineage(lm), arrival(1000, 2000), load_recipe("tiny"), [])))
    assert "the budget reads the arrival about" in " ".join(lines.split())
    assert "2 jsonl files, 3 kB" in lines


def test_the_lines_name_the_replayed_datasets(lm: Workspace, tmp_path: Path, rewarm: Command) -> None:
    (tmp_path / "late.jsonl").write_text("\n".join(json.dumps({"text": f"document {n}" * 9}) for n in range(50)))
    code, out, error = rewarm("update", lm.folder, "--data", f"late={tmp_path / 'late.jsonl'}", "--dry-run")
    assert code == 0, error
    assert "from docs, news, code" in " ".join(out.split())
    assert "0004-late starts from 0003-more" in " ".join(out.split())


@pytest.mark.parametrize(
    "path",
    [
        "/ข้อมูล/ข่าว ประจำ วัน ที่ สิบ สอง ของ เดือน นี้ และ ของ เดือน หน้า ทั้ง หมด ที่ มี อยู่ แล้ว ใน เครื่อง",
        "/डेटा/हिन्दी समाचार और लेख जो इस महीने में आए हैं और अगले महीने में आने वाले हैं सब एक साथ यहाँ",
        "/数据/新闻 与 文章 以及 本月 和 下个月 的 所有 内容 都 放在 这里 供 模型 学习 使用 请 不要 删除 任何 文件",
    ],
)
def test_lines_are_folded_by_columns_in_every_script(path: str) -> None:
    text = line("disk", f"3 GB needed, 4 GB free in {path}")
    assert "".join(text.split()) == "".join(f"disk 3 GB needed, 4 GB free in {path}".split())
    widths = [cell_len(one) for one in text.splitlines()]
    assert max(widths) <= 80 and min(widths[:-1]) > 60 and len(widths) > 1
    longest = "/数据/" + 60 * "字"
    assert longest in line("disk", f"3 GB needed in {longest} and elsewhere").split(), "a path stays whole"
