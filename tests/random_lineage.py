"""Lineages of random updates, and what each dataset is due in them by the definition: the test and the benchmark."""

from collections import defaultdict
from fractions import Fraction
from typing import Literal

import numpy as np

from rewarm.stages.core.storage import Folder
from rewarm.stages.replay import Carried, Earlier, ReplaySettings
from rewarm.stages.replay.run import share_out
from rewarm.stages.replay.settings import exact_share
from rewarm.stages.replay.shares import Part, weigh

Kind = Literal["tokens", "recency", "shares", "domains"]
KINDS: tuple[Kind, ...] = ("tokens", "recency", "shares", "domains")
NOWHERE = Folder("/nowhere")


class RandomLineage:
    """Updates of random sizes, shares of replay and weights, each of which brings one dataset or two.

    ``due`` is the sum of each dataset's (or domain's) parts in sequences, ``got`` what was replayed of it.
    """

    def __init__(self, seed: int, kind: Kind) -> None:
        self.random = np.random.default_rng(seed)
        self.kind = kind
        self.order: Literal["original", "reshuffled"] = "original" if seed % 2 else "reshuffled"
        self.seq_len = int(self.random.choice([64, 256, 2048]))
        self.datasets: list[tuple[str, int, int]] = []  # key, tokens, number of the update in which it was new
        self.carried = Carried()
        self.due: dict[str, float] = defaultdict(float)  # exact fractions would grow with every update
        self.got: dict[str, int] = defaultdict(int)
        self._arrive(0)

    def _arrive(self, number: int) -> None:
        for place in range(int(self.random.integers(1, 3))):
            size = int(10 ** self.random.uniform(2.5, 9)) if self.random.random() < 0.7 else 100_000
            domains = int(self.random.integers(1, 4)) if self.kind == "domains" else 1
            for domain in range(domains):
                key = f"d{number}.{place}" + (f"@{domain}" if self.kind == "domains" else "")
                self.datasets.append((key, max(self.seq_len + 1, size // (domain + 1)), number))

    def _settings(self) -> ReplaySettings:
        by = "tokens" if self.kind == "domains" else self.kind
        drawn = self.random.choice([0.0, 1.0, 7.3], len(self.datasets)).tolist()
        shares = {key: part for (key, _, _), part in zip(self.datasets, drawn, strict=True)}
        shares[self.datasets[0][0]] = 1.0
        half_life = float(self.random.choice([0.5, 4, 30]))
        return ReplaySettings(by=by, shares=shares if by == "shares" else {}, half_life=half_life, order=self.order)

    def _parts(self, number: int, chosen: ReplaySettings) -> list[Part]:
        found = []
        for key, tokens, since in self.datasets:
            name, _, domain = key.partition("@")
            earlier = Earlier(name, NOWHERE, NOWHERE, 0, number - since)
            if weight := weigh(earlier, tokens, chosen):
                found.append(Part(earlier, (tokens - 1) // self.seq_len, tokens, weight, domain))
        return found

    def update(self, number: int) -> None:
        """Replay in one more update, and let its datasets arrive."""
        chosen = self._settings()
        share = exact_share(Fraction(f"{self.random.choice([0.05, 0.25, self.random.uniform(0.01, 0.9)]):.4f}"))
        places = int(self.random.choice([4, 64, self.random.integers(2, 3000)]))
        parts = self._parts(number, chosen)
        counts = self.replay(parts, share, places, chosen)
        whole = sum((part.weight for part in parts), Fraction(0))
        for part, count in zip(parts, counts, strict=True):
            self.due[part.key] += float(share * places * part.weight / whole)
            self.got[part.key] += count
        assert abs(sum(counts) - share * places) <= 1, "the update's own share"
        self._arrive(number)

    def replay(self, parts: list[Part], share: Fraction, places: int, chosen: ReplaySettings) -> list[int]:
        """The sequences of each part in one update, as the product gives them."""
        shares, _ = share_out(parts, self.carried, share, places, self.seq_len)
        self.carried = self.carried.after(
            {one.part.key: one.to_json(self.seq_len, 0, chosen, places) for one in shares}
        )
        return [one.count for one in shares]

    def deviation(self) -> float:
        """The largest difference between what a dataset was due and what was replayed of it, in sequences."""
        return max(abs(self.due[key] - self.got[key]) for key, _, _ in self.datasets)
