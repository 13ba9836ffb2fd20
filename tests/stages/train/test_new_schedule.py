"""A new schedule kind is a change of one file: the example of CONTRIBUTING.md, made and run in a copy of the code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from copied_source import copy_source

ROOT = Path(__file__).parents[3]
PATCH = {
    "stages/train/schedule.py": [
        ('"autoregressive", "constant", "auto"]', '"autoregressive", "constant", "auto", "sqrt"]'),
        (
            'DECAYING = ("cosine", "linear", "autoregressive")',
            'DECAYING = ("cosine", "linear", "autoregressive", "sqrt")',
        ),
        (
            'shape: Shape = "linear" if settings.kind == "linear" else "cosine"',
            'shapes: dict[str, Shape] = {"linear": "linear", "sqrt": "1-sqrt"}\n'
            '    shape = shapes.get(settings.kind, "cosine")',
        ),
    ]
}
SHOWN = """
import json
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.stages.train import schedule_for
settings = load_recipe("tiny", ["schedule.kind=sqrt", "schedule.peak=1", "schedule.warmup_share=0"]).schedule
schedule = schedule_for(settings, 0, 100, None)
print(json.dumps([schedule.kind, schedule.decayed, [schedule.rate(tokens) for tokens in (0, 25, 100)]]))
"""


@pytest.mark.faults
def test_a_new_schedule_kind_is_a_change_of_one_file(tmp_path: Path) -> None:
    for package in ("rewarm", "pipeline", "stages"):
        copy_source(ROOT / package, tmp_path / package)
    for name, edits in PATCH.items():
        text = (tmp_path / name).read_text()
        for before, after in edits:
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        (tmp_path / name).write_text(text)

    def run(*words: str) -> str:
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    kind, decayed, rates = json.loads(run("-c", SHOWN))
    assert (kind, decayed) == ("sqrt", True)
    assert rates == pytest.approx([1.0, 1 - 0.9 * 0.5, 0.1])
    shown = json.loads(run("-m", "rewarm", "schedule", "tiny", "--set", "schedule.kind=sqrt", "--json"))
    assert "1-sqrt" in json.dumps(shown)
    assert len(PATCH) == 1
