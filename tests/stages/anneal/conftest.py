"""One tiny training world for all tests of the anneal."""

import pytest
from training_world import World, make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("annealing"))
