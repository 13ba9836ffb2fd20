"""Where the workspaces of a watch's tests are: on a disk and, in the long suite, in a bucket that fails at random."""

import uuid
from collections.abc import Iterator

import pytest
from unsteady_store import CREDENTIALS, Store, address, store, unsteady

SHARE = 0.1  # of the requests that are refused, reset, or carried out without an answer


@pytest.fixture(scope="session")
def lake() -> Iterator[Store]:
    """A bucket for all tests."""
    with store() as made:
        yield made


@pytest.fixture(params=["disk", pytest.param("unsteady store", marks=pytest.mark.faults)])
def home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A place for a workspace; nothing is there yet."""
    if request.param == "disk":
        yield str(request.getfixturevalue("tmp_path") / "lm")
        return
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("REWARM_STORE_DEADLINE", "120")
    with unsteady(request.getfixturevalue("lake").port, seed=1, share=SHARE) as proxy:
        yield address(proxy.port, f"lm-{uuid.uuid4().hex}")
