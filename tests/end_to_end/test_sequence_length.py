"""A lineage on an imported bfloat16 model whose updates change ``train.seq_len``: 64 → 128 → 32 tokens.

Each release keeps the model's dtype, a killed update resumes to the same weights, and no position of a dataset is
replayed a second time while others have not been replayed once.
"""

import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from model_folders import write_folder
from small_lineage import RECIPE, Lineage, command, docstrings, kill_when, rewarm

from rewarm.pipeline.lineage.lineage import Lineage as Record
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.trace import trunks
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.model_folder import dtype_of, stored_dtypes

pytestmark = pytest.mark.faults

BF16 = ["train.precision=bf16", "train.num_workers=1", "evaluate.task_documents=0", "budget.update_tokens=12288"]
LENGTHS = {"code": 128, "more": 32}


def settings(*values: str) -> list[str]:
    return [part for value in values for part in ("--set", value)]


def passed(*arguments: object) -> str:
    """What a command that succeeds prints."""
    done = rewarm(*arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def updating(workspace: Path, data: Path, name: str) -> list[str]:
    """The update that brings a dataset, with its own length."""
    given = ["update", str(workspace), "--data", f"{name}={data}"]
    return given + settings(*BF16, f"train.seq_len={LENGTHS[name]}")


@pytest.fixture(scope="module")
def lineage(ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The workspace after both updates, of which the first was killed in training, and that of an undisturbed one."""
    root = tmp_path_factory.mktemp("lengths")
    data = Lineage(root)
    model = write_folder(root / "model", dtype=torch.bfloat16, max_position_embeddings=128)
    recipe = {key: value for key, value in RECIPE.items() if key not in ("model", "tokenizer")}
    recipe["train"] = {**RECIPE["train"], "checkpoint_every": 3}
    data.recipe.write_text(yaml.safe_dump(recipe))
    later = list(dict.fromkeys(docstrings()))[1500:]  # the base has those before
    (root / "more.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in later))

    workspace, undisturbed = root / "workspace", root / "undisturbed"
    given = ["--recipe", data.recipe, "--from", model, "--data", f"docs={data.docs}", *settings(*BF16)]
    passed("init", workspace, *given)
    shutil.copytree(workspace, undisturbed)
    first = updating(workspace, data.code, "code")
    checkpoints = workspace / "updates" / "0001-code" / "checkpoints" / "train"
    assert kill_when(command(*first), lambda: any(checkpoints.glob("*/progress.json")))
    assert passed_state(workspace) == "unfinished"
    passed(*first)
    passed(*updating(undisturbed, data.code, "code"))
    passed(*updating(workspace, root / "more.jsonl", "more"))
    return {"workspace": Workspace(str(workspace)), "undisturbed": Workspace(str(undisturbed))}


def passed_state(workspace: Path) -> str:
    """The state of the last update."""
    return str(json.loads(passed("status", workspace, "--json"))["updates"][-1]["state"])


def test_every_release_keeps_the_imported_dtype(lineage: dict[str, Any]) -> None:
    workspace = lineage["workspace"]
    updates = Record(workspace).updates
    assert [update.id for update in updates] == ["0000-docs", "0001-code", "0002-more"]
    for update in updates:
        release: Folder = workspace.update(update.id) / "release" / "model"
        assert dtype_of(release) == "bfloat16"
        assert set(stored_dtypes(release.path).values()) == {"BF16"}
    assert len({update.weights.release for update in updates}) == 3


def test_a_resumed_update_has_the_weights_of_an_undisturbed_one(lineage: dict[str, Any]) -> None:
    resumed, undisturbed = (Record(lineage[name]).read("0001-code") for name in ("workspace", "undisturbed"))
    assert resumed.weights == undisturbed.weights
    assert resumed.losses == undisturbed.losses


def test_verify_and_trace_accept_it(lineage: dict[str, Any]) -> None:
    home = lineage["workspace"].folder.path
    passed("verify", home)
    assert "0002-more" in passed("trace", home)


def test_no_token_is_read_twice_in_one_role(lineage: dict[str, Any]) -> None:
    """Tokens of each dataset, counted over both updates; the second resumes a dataset's order where the first ended."""
    record = Record(lineage["workspace"])
    reads: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    sizes: dict[str, int] = {}
    for run in trunks(record, None):
        mixture = run.mixture
        assert mixture.seq_len == LENGTHS[run.update.id.partition("-")[2]]
        numbers, positions = mixture.assign(np.arange(mixture.steps * mixture.global_batch, dtype=np.int64))
        for number, source in enumerate(mixture.sources):
            starts = source.starts(positions[numbers == number], mixture.seq_len)
            role = "new" if number < len(mixture.new) else "replayed"
            reads[source.dataset, role] += [np.arange(start, start + mixture.seq_len) for start in starts]
            sizes[source.dataset] = run.stream(number).num_tokens
    assert reads.keys() == {("code", "new"), ("more", "new"), ("docs", "replayed"), ("code", "replayed")}
    for (dataset, role), spans in reads.items():
        tokens = np.concatenate(spans)
        assert len(tokens) < sizes[dataset], f"{dataset} is too small for this test"
        assert len(np.unique(tokens)) == len(tokens), f"{dataset}, {role}: read twice"
    first, second = (record.read(name).replay.by_dataset["docs"] for name in ("0001-code", "0002-more"))
    assert 0 == first["from"] < first["to"] == second["from"] < second["to"]
    assert first["tokens"] % 128 == second["tokens"] % 32 == 0
