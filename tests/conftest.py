"""One Ray cluster for each group of tests that needs one; the hypothesis profiles."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A run of ``make test`` draws the same examples each time, so that a red run is the change's; ``make test-random``
# draws new ones.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("random", derandomize=False, print_blob=True)
settings.load_profile("repeatable")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("REWARM_STORE_DEADLINE", "5")  # a test that asks a store which is not there has its answer soon
os.environ.setdefault("REWARM_WARM_WORKERS", "1")  # commands that join the tests' Ray fork their workers too


FOLDERS = pytest.StashKey[dict[Path, pytest.Collector | None]]()
LONG_FILES = (
    "test_watch_store.py", "test_holding.py", "test_engine.py", "test_teacher.py", "test_forecast.py", "test_doctor.py",
    "test_patience.py",
)  # fmt: skip
"""Files without Ray of 20 s and more. They begin first: none is left alone with one of them at the end."""


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A real local Ray with two CPUs, shared by every test that needs one."""
    import ray

    from rewarm.stages.core import warm

    forked = warm.runtime_env(joined=False)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=forked)
    yield
    ray.shutdown()


@pytest.hookimpl(wrapper=True)
def pytest_collect_directory(
    path: Path, parent: pytest.Collector
) -> Generator[None, pytest.Collector | None, pytest.Collector | None]:
    """Collect a folder once: after a file beside it, pytest 9.1 collects it again, without the fixtures in it."""
    found = yield
    return parent.stash.setdefault(FOLDERS, {}).setdefault(path, found)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests for parallel runs: two processes have a Ray cluster and begin first; the others take files."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: 0 if shares_ray(item) else 1 if item.path.name in LONG_FILES else 2)


def group(item: pytest.Item) -> str:
    """The tests that run in one process: those of training share a cluster, as do all others that need one."""
    if not shares_ray(item):
        return str(item.location[0])
    return "ray-train" if item.path.parent.name == "train" else "ray"


def shares_ray(item: pytest.Item) -> bool:
    """Whether a test uses the session's cluster."""
    return "ray_cluster" in getattr(item, "fixturenames", ())


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bodies and long texts are named after their argument: some hold the time at which they were compressed."""
    return argname if isinstance(val, bytes) or (isinstance(val, str) and len(val) > 80) else None
