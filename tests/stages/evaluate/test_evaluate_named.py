"""The tasks that a recipe names: unknown ones and those without data are refused before anything is spent."""

import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rewarm.stages.core.errors import UsageError
from rewarm.stages.evaluate import EvaluateSettings, check_tasks
from rewarm.stages.evaluate.named_tasks import TaskData, check_data, named_tasks, task_data
from rewarm.stages.evaluate.task_sets import SETS, expand

ROWS = '{"q": "one and one make", "choices": ["2", "3"], "label": 0}\n'


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of definitions: on local files, in the Hugging Face cache, and not here at all."""
    import datasets

    root = tmp_path_factory.mktemp("definitions")
    (root / "sums.jsonl").write_text(ROWS)
    files = {"test": str(root / "sums.jsonl")}
    datasets.load_dataset("json", data_files=files, cache_dir=str(root / "made"))
    (made,) = (root / "made" / "json").glob("*/*/*/dataset_info.json")
    cached = root / "cache" / "acme___sums" / "default" / "0.0.0" / "x"
    shutil.copytree(made.parent, cached)
    (cached / "json-test.arrow").rename(cached / "sums-test.arrow")
    read = {"output_type": "multiple_choice", "doc_to_text": "q", "doc_to_choice": "choices", "doc_to_target": "label"}
    sources: dict[str, dict[str, Any]] = {
        "on-disk": {"dataset_path": "json", "dataset_kwargs": {"data_files": files, "trust_remote_code": True}},
        "gone": {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(root / "gone.jsonl")}}},
        "cached": {
            "dataset_path": "acme/sums",
            "dataset_name": "default",
            "dataset_kwargs": {"cache_dir": str(root / "cache")},
        },
        "distant": {"dataset_path": "acme/products", "dataset_name": "one", "tag": "far"},
        "farther": {"dataset_path": "acme/products", "dataset_name": "two", "tag": "far"},
    }
    for name, source in sources.items():
        (root / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, "test_split": "test", **read, **source}))
    members = ["on-disk", {"task": "distant", "dataset_name": "three"}, {"group": "inner", "task": ["farther"]}]
    (root / "group.yaml").write_text(yaml.safe_dump({"group": "mixed", "task": members}))
    return root


def test_unknown_names_are_refused_with_near_matches_and_the_sets(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'helaswag' \(nearest: .*hellaswag.*paper-english, paper-german") as refused:
        check_tasks(EvaluateSettings(tasks=("piqa", "helaswag", "paper-germn")))
    assert "'paper-germn' (nearest: paper-german" in str(refused.value)
    with pytest.raises(UsageError, match="include_path"):
        check_tasks(EvaluateSettings(include_path=str(tmp_path / "none")))


def test_every_task_of_every_set_is_lm_evals_and_has_its_data_named(tasks: Path) -> None:
    manager = named_tasks(EvaluateSettings(include_path=str(tasks)))
    for name in SETS:
        wanted = list(expand((name,), None))
        assert set(wanted) <= set(manager.all_tasks)
        assert {one.asked for one in task_data(manager, wanted)} >= set(wanted) - {"truthfulqa_mc2"}  # of mc1's data
    assert len([one for one in task_data(manager, ["mmlu"]) if one.path == "cais/mmlu"]) == 57
    assert [(one.path, one.name) for one in task_data(manager, ["mixed"])] == [
        ("json", None), ("acme/products", "three"), ("acme/products", "two"),
    ]  # fmt: skip
    assert [one.name for one in task_data(manager, ["far"])] == ["one", "two"]

    here = [one for name in ("on-disk", "cached") for one in task_data(manager, [name])]
    check_data(here)
    with pytest.raises(UsageError, match=r"gone\.jsonl"):
        check_data(task_data(manager, ["gone"]))
    with pytest.raises(UsageError, match=r"acme/products, 2 parts for far: not in the cache\. Download") as refused:
        check_data([*here, *task_data(manager, ["far"])])
    assert "load(['far'])" in str(refused.value)
    assert "acme/sums" not in str(refused.value)


class NotFound(http.server.BaseHTTPRequestHandler):
    """A hub that has nothing."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")  # as the real one says it
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NotFound) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def checked(endpoint: str, *sources: TaskData) -> subprocess.CompletedProcess[str]:
    """The check in a process that may use the network, of which there is ``endpoint``."""
    program = f"from rewarm.stages.evaluate.named_tasks import *; check_data({list(sources)!r})"
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": endpoint, "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)


def test_without_an_answer_from_the_hub_only_local_data_will_do(hub: str, tasks: Path) -> None:
    local = TaskData("on-disk", "json", None, {"data_files": {"test": str(tasks / "sums.jsonl")}})
    distant = TaskData("distant", "acme/products", "one", {})
    silent = "http://127.0.0.1:9"
    assert checked(silent, local).returncode == 0
    refused = checked(silent, local, distant)
    assert "hub does not answer, and acme/products (one) for distant must be downloaded from it" in refused.stderr
    assert "set HF_HUB_OFFLINE=1" in refused.stderr
    missing = checked(hub, local, distant)
    assert "cannot read data: acme/products (one) for distant: Dataset 'acme/products' doesn't exist" in (
        missing.stderr
    )


def test_without_named_tasks_the_check_loads_nothing() -> None:
    program = (
        "import sys; from rewarm.stages.evaluate import *; check_tasks(EvaluateSettings());"
        "sys.exit(len({'torch', 'lm_eval', 'transformers', 'ray', 'datasets'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
