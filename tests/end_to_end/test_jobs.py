"""``ray job submit`` against a real Ray cluster with token authentication, from an empty folder on another machine."""

import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from job_cluster import Cluster, Machine
from small_lineage import Lineage, rewarm, started_by

pytestmark = pytest.mark.faults

VARIABLES = json.dumps({"env_vars": {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "2", "REWARM_TEST": "1"}})
RUNTIME = ("--runtime-env-json", VARIABLES)
TRAINING = ("TrainController", "RayTrainWorker", "Tracker", "ModelHost")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, machine: Machine) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        machine.wait_ready(made)
        yield made
    finally:
        made.kill()


@pytest.fixture(scope="module")
def workspace(base: Lineage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workspace as the base left it, where no node's working directory lies."""
    copy = tmp_path_factory.mktemp("shared") / "lm"
    shutil.copytree(base.workspace, copy)
    return copy


@pytest.fixture(scope="module")
def refused(base: Lineage, workspace: Path, machine: Machine, cluster: Cluster) -> str:
    """What a job said whose entrypoint takes one of the two CPUs that training's two workers need."""
    done = machine.submit(
        cluster, "greedy", *base.update(workspace), options=("--entrypoint-num-cpus", "1"), check=False
    )
    assert done.returncode != 0
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def updated(base: Lineage, workspace: Path, machine: Machine, cluster: Cluster, refused: str) -> dict[str, Any]:
    """The update that a job made, after the one that was refused."""
    assert refused
    machine.submit(cluster, "code", *base.update(workspace), options=RUNTIME)
    return status(workspace)


def status(workspace: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rewarm("status", workspace, "--json").stdout)
    return found


def job_status(machine: Machine, cluster: Cluster, name: str) -> str:
    done = machine.ray(cluster, "job", "status", name)
    return done.stdout + done.stderr


def wait_until(what: str, holds: Any, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.2)


def test_an_entrypoint_that_leaves_too_few_cpus_is_refused_clearly(refused: str, workspace: Path) -> None:
    assert "train.num_workers 2 needs 1 CPU per worker" in refused
    assert "and 1 more held by the entrypoints of jobs (--entrypoint-num-cpus)" in refused
    assert workspace.exists()


def test_an_entrypoint_that_takes_every_cpu_is_refused_before_anything(
    workspace: Path, machine: Machine, cluster: Cluster, base: Lineage, updated: dict[str, Any]
) -> None:
    assert updated["release"] == "0001-code"
    more = ["update", str(workspace), "--data", f"more={base.docs}"]
    done = machine.submit(cluster, "all", *more, options=("--entrypoint-num-cpus", "2"), check=False)
    assert done.returncode != 0
    assert "leave none for work" in done.stdout + done.stderr
    assert status(workspace)["updates"][-1]["id"] == "0001-code"


def test_a_job_from_an_empty_folder_runs_an_update_to_the_end(
    updated: dict[str, Any], workspace: Path, machine: Machine, cluster: Cluster
) -> None:
    assert updated["release"] == "0001-code"
    assert [update["state"] for update in updated["updates"]] == ["released", "released"]
    assert "Job 'code' succeeded" in job_status(machine, cluster, "code")
    uploaded = list(cluster.temp.glob("session_*/runtime_resources/working_dir_files/_ray_pkg_*"))
    assert uploaded, "the working directory was sent"
    assert [path for folder in uploaded for path in folder.rglob("*") if path.is_file()] == []
    assert list(machine.folder.iterdir()) == [], "and nothing was left in it"
    assert updated["run"]["state"] == "done"


@pytest.mark.usefixtures("updated")
def test_its_log_is_there_by_job_and_by_workspace(workspace: Path, machine: Machine, cluster: Cluster) -> None:
    said = machine.ray(cluster, "job", "logs", "code").stdout
    kept = rewarm("logs", workspace, "1").stdout
    for text in ("ingest", "train", "anneal", "evaluate", "validation loss", "report: "):
        assert text in said
        assert text in kept
    assert "needs 1 CPU per worker" in kept, "the run that was refused"
    [whole] = cluster.temp.glob("session_2*/logs/job-driver-code.log")
    log = whole.read_text()
    assert "\x1b[" not in log, "no bars where nobody watches"
    for text in ("RayTrainWorker", "model shards", "it/s"):
        assert text not in log
    assert len(log.splitlines()) < 120


@pytest.mark.usefixtures("updated")
def test_a_submission_id_is_taken_once(base: Lineage, workspace: Path, machine: Machine, cluster: Cluster) -> None:
    again = machine.submit(cluster, "code", *base.update(workspace), check=False)
    assert again.returncode != 0
    assert "already exists" in again.stdout + again.stderr
    assert status(workspace)["release"] == "0001-code"


def test_a_folder_with_a_recipe_is_all_that_a_base_needs(
    base: Lineage, machine: Machine, cluster: Cluster, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(base.recipe, folder / "mine.yaml")
    words = ["init", str(tmp_path / "made"), "--recipe", "mine.yaml", "--data", f"docs={base.docs}", "--dry-run"]
    done = machine.submit(cluster, "recipe", *words, folder=folder)
    assert "0000-docs starts from random weights" in done.stdout
    assert not (tmp_path / "made").exists()


PROJECT = """
import json, sys
import pipeline, stages
import ray, rewarm

ray.init(log_to_driver=False)

@ray.remote
def places():
    import pipeline, stages
    import rewarm.stages.core.storage as ours
    return [pipeline.WHOSE, stages.WHOSE, ours.__file__]

found = ray.get(places.remote())
lm = rewarm.update(sys.argv[1], {"mine": sys.argv[2]})
print(json.dumps([pipeline.WHOSE, stages.WHOSE, *found, lm.updates[-1].state]))
"""


def test_a_project_with_packages_of_our_folders_names_runs_an_update(
    base: Lineage, machine: Machine, cluster: Cluster, tmp_path: Path
) -> None:
    workspace, folder = tmp_path / "lm", tmp_path / "project"
    shutil.copytree(base.workspace, workspace)
    for name in ("pipeline", "stages"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("WHOSE = 'mine'\n")
    (folder / "main.py").write_text(PROJECT)
    words = ("job", "submit", "--working-dir", ".", "--submission-id", "project", "--", "python", "main.py")
    done = machine.ray(cluster, *words, workspace, base.code, folder=folder)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith('["mine"')]
    *whose, place, state = json.loads(line)
    assert whose == ["mine"] * 4
    assert Path(place).parts[-4:] == ("rewarm", "stages", "core", "storage.py")
    assert state == "released"
    assert status(workspace)["release"] == "0001-mine"


def test_nobody_submits_without_the_token(machine: Machine, cluster: Cluster, tmp_path: Path) -> None:
    stranger = Machine(tmp_path)
    known, cluster.token = cluster.token, "0" * 64
    try:
        done = stranger.submit(cluster, "stranger", "recipes", check=False)
    finally:
        cluster.token = known
    assert done.returncode != 0
    assert "stranger" not in machine.ray(cluster, "job", "list").stdout


@pytest.mark.timeout(2400)
def test_stopped_and_without_its_head_an_update_goes_on(
    base: Lineage, machine: Machine, cluster: Cluster, tmp_path: Path
) -> None:
    workspace = tmp_path / "lm"
    shutil.copytree(base.workspace, workspace)
    update = base.update(workspace, "--set", "budget.update_tokens=60000")  # long enough to be met in training
    checkpoints = workspace / "updates" / "0001-code" / "checkpoints" / "train"

    def newest() -> str:
        return max((path.parent.name for path in checkpoints.glob("checkpoint_*/progress.json")), default="")

    machine.submit(cluster, "first", *update, options=("--no-wait",))
    again = machine.submit(cluster, "first", *update, check=False)
    assert "already exists" in again.stdout + again.stderr, "while it runs, too"
    wait_until("a first checkpoint", newest)
    machine.ray(cluster, "job", "stop", "first")
    assert "Job 'first' was stopped" in job_status(machine, cluster, "first")
    assert "stopped by SIGTERM" in machine.ray(cluster, "job", "logs", "first").stdout
    left = status(workspace)
    assert (left["release"], left["updates"][-1]["state"]) == ("0000-docs", "unfinished")
    assert left["run"]["state"] == "stopped"
    wait_until("no training process is left", lambda: not training(cluster), 60)
    listed = machine.ray(cluster, "list", "actors", "--format", "json").stdout
    actors = json.loads(listed[listed.index("[") :])
    assert [one for one in actors if one["state"] == "ALIVE" and one["class_name"] in TRAINING] == []

    other = Cluster(tmp_path / "other")
    try:
        machine.wait_ready(other)
        before = newest()
        machine.submit(other, "first", *update, options=("--no-wait",))
        wait_until("a checkpoint more", lambda: newest() != before)
    finally:
        other.kill()
    assert status(workspace)["updates"][-1]["state"] == "unfinished"

    machine.submit(cluster, "second", *update)
    found = status(workspace)
    assert found["release"] == "0001-code"
    steps = found["updates"][1]["train"]["resumed_from"]
    assert len(steps) == 2, "it was taken up twice"
    assert 10 <= steps[0] <= steps[1], "each time where it was"

    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(base.workspace, undisturbed)
    done = rewarm(*base.update(undisturbed, *update[4:]))
    assert done.returncode == 0, done.stderr[-3000:]
    for field in ("weights", "losses", "forgetting"):
        assert found["updates"][1][field] == status(undisturbed)["updates"][1][field], field


@pytest.mark.timeout(1200)
def test_of_overlapping_attempts_of_a_job_one_updates_the_workspace(
    base: Lineage, machine: Machine, cluster: Cluster, tmp_path: Path
) -> None:
    """A second attempt is submitted to the same head, and to another one, while the first still trains."""
    workspace = tmp_path / "lm"
    shutil.copytree(base.workspace, workspace)
    update = base.update(workspace, "--set", "budget.update_tokens=100000")  # long enough to be met in training
    checkpoints = workspace / "updates" / "0001-code" / "checkpoints" / "train"
    other = Cluster(tmp_path / "other")
    try:
        machine.wait_ready(other)
        machine.submit(cluster, "attempt-1", *update, options=("--no-wait",))
        wait_until("a first checkpoint", lambda: any(checkpoints.glob("checkpoint_*/progress.json")))
        for head in (cluster, other):
            second = machine.submit(head, "attempt-2", *update, check=False)
            said = second.stdout + second.stderr
            assert second.returncode != 0, said[-3000:]
            assert "another rewarm command is writing to this workspace" in said, said[-3000:]
    finally:
        other.kill()
    wait_until("the release", lambda: status(workspace)["release"] == "0001-code")
    wait_until("its end", lambda: "succeeded" in job_status(machine, cluster, "attempt-1"), 60)
    late = machine.submit(cluster, "attempt-3", *update)
    assert "took in these files already" in late.stdout + late.stderr
    found = status(workspace)
    assert [one["id"] for one in found["updates"]] == ["0000-docs", "0001-code"]
    assert found["updates"][1]["attempts"]["count"] == 1


@pytest.mark.timeout(2400)
def test_a_watch_is_a_job_and_its_arrival_survives_the_loss_of_the_head(
    base: Lineage, machine: Machine, cluster: Cluster, tmp_path: Path
) -> None:
    workspace, inbox = tmp_path / "watched", tmp_path / "inbox"
    shutil.copytree(base.workspace, workspace)
    shutil.copytree(base.code, inbox / "code")
    (inbox / "code" / "_SUCCESS").touch()
    watch = ["watch", str(workspace), "--inbox", str(inbox), "--every", "1", "--set", "evaluate.task_documents=0"]
    checkpoints = workspace / "updates" / "0001-code" / "checkpoints" / "train"

    first = Cluster(tmp_path / "first")
    try:
        machine.wait_ready(first)
        machine.submit(first, "watch", *watch, options=("--no-wait",))
        wait_until("a checkpoint", lambda: any(checkpoints.glob("checkpoint_*/progress.json")))
    finally:
        first.kill()
    machine.submit(cluster, "watch", *watch, options=("--no-wait",))
    wait_until("the release", lambda: status(workspace)["release"] == "0001-code")
    wait_until("its metrics", lambda: metric(cluster, "arrivals", state="released") == 1, 60)
    assert metric(cluster, "watch_running") == 1
    assert metric(cluster, "arrivals", state="held") == 0
    found = status(workspace)
    assert [update["id"] for update in found["updates"]] == ["0000-docs", "0001-code"]
    assert found["updates"][1]["train"]["resumed_from"], "what was trained before the head was lost stayed"
    journal = [json.loads(line) for line in (workspace / "watch" / "journal.jsonl").read_text().splitlines()]
    kinds = [event["kind"] for event in journal]
    assert (kinds.count("started"), kinds.count("released")) == (2, 1)
    assert job_status(machine, cluster, "watch").count("RUNNING") == 1
    machine.ray(cluster, "job", "stop", "watch")
    assert "Job 'watch' was stopped" in job_status(machine, cluster, "watch")
    assert "stopped; the next watch resumes from here" in machine.ray(cluster, "job", "logs", "watch").stdout
    assert not json.loads(rewarm("watch", workspace, "--status", "--json").stdout)["watched"]


def metric(cluster: Cluster, name: str, **labels: str) -> float | None:
    """The newest value of a metric of ours that the cluster exports, with these labels."""
    with urllib.request.urlopen(cluster.metrics, timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    found = [line for line in lines if line.startswith(f"ray_rewarm_{name}{{") and all(one in line for one in wanted)]
    return max((float(line.rpartition(" ")[2]) for line in found), default=None)


def training(cluster: Cluster) -> list[psutil.Process]:
    """The training workers among a cluster's processes."""
    found = []
    for process in started_by(psutil.Process(cluster.process.pid)):
        try:
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found
