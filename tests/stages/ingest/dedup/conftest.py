"""A place for arrivals, and one arrival full of duplicates."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from planted_duplicates import Home, document, edited

from rewarm.stages.ingest.settings import DuplicateSettings


@pytest.fixture
def home(tmp_path: Path) -> Callable[..., Home]:
    """A fresh home for each call."""
    count = iter(range(10_000))
    return lambda **settings: Home(tmp_path / str(next(count)), DuplicateSettings(**settings))


@pytest.fixture
def planted() -> list[str]:
    """300 documents in a fixed order: 100 originals, copies at 0.97 to 0.3, exact ones, and chains of copies."""
    rng = random.Random(5)
    originals = [document(rng, rng.choice([30, 200, 400])) for _ in range(100)]
    copies = [edited(text, target, rng) for target in (0.97, 0.9, 0.8, 0.5, 0.3) for text in originals[:30]]
    chain = [originals[40]]
    for _ in range(20):
        chain.append(edited(chain[-1], 0.9, rng))
    rest = originals[50:79]
    texts = originals + copies + chain[1:] + rest + [originals[0].upper()]
    rng.shuffle(texts)
    return texts
