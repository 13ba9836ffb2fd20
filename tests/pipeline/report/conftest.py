"""Records such as a lineage leaves them, from the demo's three updates to a dozen."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from pipeline.gap import gaps
from pipeline.report import (
    CurvePoint,
    DatasetRecord,
    GapRecord,
    ReplayPart,
    ReplayRecord,
    TextRecord,
    TokenRecord,
    TrainRecord,
    UpdateRecord,
    ValidationPoint,
    WorkspaceRecord,
)

BATCH = 4096
PEAK, CONSTANT, LOWEST = 2e-3, 1.1e-3, 2e-4


def lineage(names: Sequence[str] = ("sci-docs", "ml-docs", "code"), steps: int = 300) -> WorkspaceRecord:
    """A workspace that learnt ``names`` one after the other under an infinite schedule."""
    updates: list[UpdateRecord] = []
    trunk_end = 0
    for index in range(len(names)):
        length = steps if index == 0 else steps // 2
        updates.append(_update(names, index, trunk_end, length, updates[-1] if updates else None))
        trunk_end += length * BATCH
    return WorkspaceRecord(
        workspace="/data/rewarm-demo",
        release=updates[-1].id,
        generated="2026-03-01T14:05:00+00:00",
        datasets=[
            DatasetRecord(name, 4210 - 97 * i, 1_234_567 // (1 + i), 96, 31 * i, 3 * (i % 2), _text(names, i))
            for i, name in enumerate(names)
        ],
        updates=updates,
        versions={"rewarm": "0.1.0", "ray": "2.60.0", "torch": "2.13.0", "deepspeed": "0.19.8"},
    )


def _text(names: Sequence[str], index: int) -> TextRecord:
    """An account as ingest leaves it."""
    steps = [
        ("read", 5000, 4900, {"text not a string": 60, "HTTP status": 40}),
        ("gopher-quality", 4900, 4400, {"gopher-quality: mean word length": 500}),
        ("exact duplicates", 4400, 4310, {"already in this arrival": 90}),
    ]
    return TextRecord(
        steps=[
            {
                "name": name,
                "documents_in": into,
                "documents_out": out,
                "bytes_in": into * 2000,
                "bytes_out": out * 2000,
                "reasons": reasons,
            }
            for name, into, out, reasons in steps
        ],
        languages={"en": 4000, "de": 210, "unknown": 3},
        domains={f"www{number}.example.org": 500 // (number + 1) for number in range(14)},
        qualities={"3": 120, "14": 900, "19": 30},
        lengths={str(power): 10 * power for power in range(6, 15)},
        earlier={names[0]: {"exact": 40, "near": 12}} if index else {},
        decontaminated={"validation of this": 4},
    )


def _loss(index: int, done: float, noise: random.Random) -> float:
    floor = 3.2 + 0.15 * (index % 3)
    height = 5.1 if index == 0 else 0.9
    return floor + height * math.exp(-7 * done) + noise.gauss(0, 0.05)


def _curve(index: int, start: int, length: int) -> list[CurvePoint]:
    noise = random.Random(index)
    points = []
    for step in range(1, length + 1):
        done = step / length
        lr = CONSTANT
        if index == 0:
            lr = PEAK * min(1, done / 0.02) if done < 0.05 else PEAK
            lr = lr if done < 0.05 else CONSTANT + (PEAK - CONSTANT) / 2 * (1 + math.cos(math.pi * min(1, done / 0.7)))
        grad = 0.4 + math.exp(-9 * done) + abs(noise.gauss(0, 0.05))
        points.append(CurvePoint(start + step * BATCH, _loss(index, done, noise), lr, grad))
    branch = max(2, length * 15 // 100)
    for step in range(1, branch + 1):
        done = step / branch
        loss = _loss(index, 1, noise) - 0.18 * done
        points.append(
            CurvePoint(start + (length + step) * BATCH, loss, CONSTANT * (LOWEST / CONSTANT) ** done, 0.4, True)
        )
    return points


def _validation(names: Sequence[str], index: int, start: int, length: int) -> list[ValidationPoint]:
    points = []
    for done in (0.0, 1 / 128, 1 / 64, 1 / 32, 1 / 16, 0.2, 0.4, 0.6, 0.8, 1.0)[0 if index else 5 :]:
        losses = {}
        for i, name in enumerate(names[: index + 1]):
            settled = 3.25 + 0.15 * (i % 3) + 0.01 * (index - i)
            risen = 0.0 if i == index else 0.3 * (20 * done) * math.exp(1 - 20 * done) + 0.05 * (index - i) * done
            losses[name] = settled + risen + (0 if i < index else 5 if index == 0 else 1.2) * math.exp(-5 * done)
        points.append(ValidationPoint(start + int(done * length) * BATCH, losses))
    annealed = {name: loss - 0.14 for name, loss in points[-1].losses.items()}
    points.append(ValidationPoint(start + int(length * 1.15) * BATCH, annealed, True))
    return points


def _update(names: Sequence[str], index: int, start: int, length: int, before: UpdateRecord | None) -> UpdateRecord:
    tokens = length * BATCH
    share = (0.0, 0.05, 0.25)[min(index, 2)]
    validation = _validation(names, index, start, length)
    losses = {"trunk": dict(validation[-2].losses), "release": dict(validation[-1].losses)}
    looks = [{"tokens": point.tokens, "losses": point.losses} for point in validation if not point.is_anneal]
    known = before.losses["release"] if before else {}
    forgetting = {name: losses["release"][name] - loss for name, loss in known.items()}
    if before:
        forgetting[names[index]] = -0.84 - 0.1 * index
    earlier = {
        name: ReplayPart(int(length * 16 * share / index), int(tokens * share / index), share / index)
        for name in names[:index]
    }
    return UpdateRecord(
        id=f"{index:04d}-{names[index]}",
        arrival=names[index],
        state="released",
        tokens=TokenRecord(tokens, tokens - int(tokens * share), int(tokens * share), tokens * 15 // 100),
        schedule={"kind": "infinite", "peak": PEAK, "minimum": LOWEST, "warmup_tokens": 24576, "cooldown": "cosine"},
        replay=ReplayRecord(share, share - 0.0002, "earlier tokens", earlier) if index else None,
        losses=losses,
        window_losses={branch: {n: loss + 1 for n, loss in value.items()} for branch, value in losses.items()},
        bits_per_byte={branch: {n: loss * 0.41 for n, loss in value.items()} for branch, value in losses.items()},
        forgetting=forgetting,
        gap={name: GapRecord(**gap) for name, gap in gaps(looks).items()},
        lm_eval={
            f"{name}-{kind}": (
                {"acc,none": 0.31 + 0.07 * index, "acc_stderr,none": 0.021}
                if kind == "continuation"
                else {"bits_per_byte,none": 1.9 - 0.1 * index, "bits_per_byte_stderr,none": None}
            )
            for name in names[: index + 1]
            for kind in ("continuation", "rolling")
        },
        seconds={
            "ingest": 4.2,
            "tokenize": 6.1,
            "replay": 0.6,
            "train": 71.0 + index,
            "anneal": 12.5,
            "evaluate": 18.2,
        },
        train=TrainRecord(length, 2, 8431.0, (40, 80) if index == 1 else ()),
        curve=_curve(index, start, length),
        validation=validation,
    )


@pytest.fixture(scope="session")
def demo() -> WorkspaceRecord:
    """Three updates that all went well."""
    return lineage()


@pytest.fixture(scope="session")
def unfinished(demo: WorkspaceRecord) -> WorkspaceRecord:
    """An update that failed, then one under way, after the release."""
    last = demo.updates[-1]
    running = UpdateRecord("0003-news", "news", "running", TokenRecord(614_400, 100_000), seconds={"ingest": 3.0})
    failed = replace(last, state="failed")
    return replace(demo, release=demo.updates[1].id, updates=[*demo.updates[:2], failed, running])


@pytest.fixture(scope="session")
def imported() -> WorkspaceRecord:
    """Open weights, imported and not updated yet: nothing was trained or measured here."""
    base = UpdateRecord("0000-base", "base", "released", seconds={"import": 9.0})
    return WorkspaceRecord("s3://bucket/llm", base.id, "2026-03-01T14:05:00Z", [], [base])


@pytest.fixture(scope="session")
def make_lineage() -> Callable[..., WorkspaceRecord]:
    """`lineage`, for a test that wants other names or more steps."""
    return lineage
