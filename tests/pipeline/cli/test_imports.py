"""Modules that a command must not import: each of them would take a good part of the command's half second of CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_workspace import make

from rewarm.pipeline.lineage.lineage import PLAN
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.stages.core.progress import Silent
from rewarm.stages.ingest import digest_inputs, find_inputs

MODELS = {"torch", "ray", "transformers", "deepspeed", "lm_eval", "datasets"}
TABLES = {"pandas", "scipy", "sklearn", "plotly", "jinja2", "pyarrow.dataset", "pyarrow.compute", "huggingface_hub"}
TEXT = {"aiohttp", "fsspec", "ftfy", "kingfisher_sdk", "phonenumbers", "py3langid", "selectolax", "icu4py"}
NEVER = MODELS | TABLES | TEXT
WORK = {"tokenizers"} | {
    f"rewarm.stages.{stage}.run" for stage in ("anneal", "distill", "ingest", "select", "tokenize", "train")
}
RUN = """
import json, sys
from rewarm.pipeline.cli import main
try:
    main()
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def imported(*arguments: object) -> set[str]:
    """Run a command in a process of its own; the modules that it has imported at its end."""
    command = [sys.executable, "-c", RUN, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose first dataset is that of ``docs.txt`` beside it."""
    folder = tmp_path_factory.mktemp("imports")
    workspace, text = make(folder / "lm"), folder / "docs.txt"
    text.write_text("a text of the base")
    settings = load_recipe("tiny").ingest
    plan = workspace.update("0000-docs").read_json(PLAN)
    digests = {"docs": digest_inputs(find_inputs([str(text)], settings, Silent()), Silent())}
    workspace.update("0000-docs").write_json(PLAN, {**plan, "data": digests})
    return folder


def test_the_help_needs_no_tables_and_no_settings() -> None:
    assert imported("--help") & (NEVER | {"numpy", "pyarrow", "rewarm.pipeline.recipe.recipe"}) == set()


def test_the_settings_are_listed_without_what_uses_them() -> None:
    assert imported("settings") & (NEVER | WORK | {"pyarrow"}) == set()


def test_the_status_is_read_without_what_made_it(workspace: Path) -> None:
    assert imported("status", workspace / "lm") & (NEVER | WORK) == set()


def test_an_update_with_nothing_to_do_starts_nothing(workspace: Path) -> None:
    data = f"docs={workspace / 'docs.txt'}"
    never = MODELS | {"scipy.stats", "sklearn", "pandas", "plotly.graph_objects"}
    assert imported("update", workspace / "lm", "--data", data) & never == set()
