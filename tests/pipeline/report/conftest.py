"""Records such as a lineage leaves them, from the demo's three updates to a dozen."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from rewarm.pipeline.gate.verdict import Check, Verdict
from rewarm.pipeline.record import (
    Attempts,
    Cost,
    DatasetPart,
    Forecast,
    Laid,
    Plan,
    Replay,
    StepTaken,
    Tokens,
    Training,
    Weights,
)
from rewarm.pipeline.record.gap import gaps
from rewarm.pipeline.report import (
    CurvePoint,
    DatasetShown,
    PromotionRecord,
    StageRecord,
    TextRecord,
    UpdateShown,
    ValidationPoint,
    WorkspaceRecord,
)
from rewarm.pipeline.shift.choices import Choice
from rewarm.pipeline.shift.shift import Shift
from rewarm.stages.ingest import IngestOutcome
from rewarm.stages.tokenize import TokenizeOutcome

BATCH = 4096
PEAK, CONSTANT, LOWEST = 2e-3, 1.1e-3, 2e-4


def lineage(names: Sequence[str] = ("sci-docs", "ml-docs", "code"), steps: int = 300) -> WorkspaceRecord:
    """A workspace that learned ``names`` one after the other under an infinite schedule."""
    updates: list[UpdateShown] = []
    trunk_end = 0
    for index in range(len(names)):
        length = steps if index == 0 else steps // 2
        updates.append(_update(names, index, trunk_end, length, updates[-1] if updates else None))
        trunk_end += length * BATCH
    history = [PromotionRecord(update.id, f"2026-03-01T{9 + i:02d}:05:00+00:00") for i, update in enumerate(updates)]
    return WorkspaceRecord(
        workspace="/data/rewarm-demo",
        release=updates[-1].id,
        generated="2026-03-01T14:05:00+00:00",
        datasets=[
            DatasetShown(name, part(4210 - 97 * i, 1_234_567 // (1 + i), 31 * i, 3 * (i % 2)), _text(names, i))
            for i, name in enumerate(names)
        ],
        updates=updates,
        versions={"rewarm": "0.1.0", "ray": "2.60.0", "torch": "2.13.0", "deepspeed": "0.19.8"},
        history=history,
    )


def part(documents: int, tokens: int, duplicates: int = 0, quarantined: int = 0) -> DatasetPart:
    """A dataset's counts."""
    ingested = IngestOutcome(documents, 2000 * documents, 96, 192_000, quarantined, {}, duplicates, 0, "1d")
    made = TokenizeOutcome(tokens, documents, 2000 * documents, 40_000, 96, 192_000, "tokenizers", "", "t", "7d")
    return DatasetPart(ingested, made)


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
                **({"passed_over": {"record of type request": 4321}} if name == "read" else {}),
                **({"not_applied": {"mean word length: not defined for the script": 210}} if "gopher" in name else {}),
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


def _update(names: Sequence[str], index: int, start: int, length: int, before: UpdateShown | None) -> UpdateShown:
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
        name: {
            "dataset": name,
            "sequences": int(length * 16 * share / index),
            "tokens": int(tokens * share / index),
            "share": share / index,
        }
        for name in names[:index]
    }
    return UpdateShown(
        id=f"{index:04d}-{names[index]}",
        arrival=names[index],
        state="released",
        datasets=[names[index]],
        start=before.id if before else None,
        gate=_gate(before, losses["release"], names[index]) if before else None,
        finished=f"2026-03-01T{9 + index:02d}:05:00+00:00",
        parameters=1_845_504,
        tokens=Tokens(tokens, tokens - int(tokens * share), int(tokens * share), tokens * 15 // 100),
        schedule=Laid(
            "infinite", [], settings={"peak": PEAK, "minimum": LOWEST, "warmup_tokens": 24576, "cooldown": "cosine"}
        ),
        replay=Replay(share, share - 0.0002, "earlier tokens", earlier) if index else Replay(),
        losses=losses,
        window_losses={branch: {n: loss + 1 for n, loss in value.items()} for branch, value in losses.items()},
        bits_per_byte={branch: {n: loss * 0.41 for n, loss in value.items()} for branch, value in losses.items()},
        forgetting=forgetting,
        gap=gaps(looks),
        lm_eval={
            f"{name}-{kind}": (
                {"acc,none": 0.31 + 0.07 * index, "acc_stderr,none": 0.021}
                if kind == "continuation"
                else {"bits_per_byte,none": 1.9 - 0.1 * index, "bits_per_byte_stderr,none": None}
            )
            for name in names[: index + 1]
            for kind in ("continuation", "rolling")
        },
        steps={
            "ingest": StepTaken(4.2, 1),
            "tokenize": StepTaken(6.1, 1),
            "replay": StepTaken(0.6, 1),
            "train": StepTaken(71.0 + index, 2 if index == 1 else 1),
            "anneal": StepTaken(12.5, 1),
            "evaluate": StepTaken(18.2, 1),
        },
        attempts=Attempts(2, 1, 130.0, 17.0) if index == 1 else Attempts(1, 0, 115.0),
        cost=Cost(0.0316, 0.08, "USD") if index > 1 else Cost(0.0316),
        weights=Weights(f"{index}a" * 16, f"{index}b" * 16),
        train=Training(length, 2, 8431.0, [40, 80] if index == 1 else []),
        plan=_plan(tokens, share, length) if index > 1 else None,
        stages=[
            StageRecord(
                stage, f"updates/{index:04d}/{stage}", 1, f"{index:x}{number:x}" * 16, 2.5, "2026-03-01T09:05:00Z"
            )
            for number, stage in enumerate(("mixture", "trunk", "release", "evaluation"))
        ],
        digests={"weights of the trunk": f"{index}a" * 16, "weights of the release": f"{index}b" * 16},
        notes=["anneal: branched at the trunk's end"],
        curve=_curve(index, start, length),
        validation=validation,
    )


def _check(kind: str, name: str, metric: str, role: str, **values: object) -> Check:
    known = {"kind": kind, "name": name, "metric": metric, "role": role, "n": 96, "units": 96, "worth": None}
    known |= {"detectable": None, "outcome": "passed", "passed": True, "because": ""}
    return Check(**{**known, **values})  # type: ignore[arg-type]


def _gate(before: UpdateShown, losses: dict[str, float], arrival: str) -> Verdict:
    """A verdict that lets the candidate pass."""

    def figures(candidate: float, current: float, limit: float | None, p: float, adjusted: float) -> dict[str, object]:
        change = candidate - current
        pair = {"candidate": candidate, "current": current, "change": change}
        return {**pair, "limit": limit, "p": p, "p_adjusted": adjusted}

    checks = [
        _check("loss", name, "nats/token", "old", **figures(losses[name], loss, 0.1, 2e-5, 8e-5))
        for name, loss in before.losses["release"].items()
    ]
    new = _check("loss", arrival, "nats/token", "new", **figures(losses[arrival], 4.2, 0.0, 0, 0))
    task = _check("task", f"{arrival}-continuation", "acc", "new", **figures(0.38, 0.31, None, 0.21, 0.42), n=64)
    order = _check("order", arrival, "word order", "new", **figures(0.94, 0.25, 0.5, 1e-20, 4e-20), n=48)
    return Verdict(True, before.id, 0.05, "holm", ["every check passed"], [*checks, new, order, task])


def _plan(tokens: int, share: float, steps: int) -> Plan:
    told = "the trunk needs 1.52 times the bits per byte that it needs on the nearest earlier dataset"
    read = {"new": tokens - int(tokens * share), "replayed": int(tokens * share), "annealed": tokens * 15 // 100}
    return Plan(
        Shift("strong", [told], 3.0, 2.5, 1.2, 1.0, 0.1, 0.2, "sci-docs"),
        {"replay.share": Choice(share, "a strong shift"), "schedule.kind": Choice("infinite", "the base has one")},
        {},
        Forecast(read, steps, {}, 0.028, 0.07, "USD"),
    )


def refused_lineage(lines: WorkspaceRecord) -> WorkspaceRecord:
    """``lines`` with the last but one update refused, and the last from the trunk before it; a rollback, and back."""
    *before, refused, last = lines.updates
    assert refused.gate is not None
    harm = "sci-docs: loss +0.412 nats/token, above its limit of 0.100 (adjusted p < 0.001)"
    checks = [
        replace(refused.gate.checks[0], change=0.412, passed=False, outcome="refused", because=harm),
        *refused.gate.checks[1:],
    ]
    gate = replace(refused.gate, passed=False, outcome="refused", because=[harm], checks=checks)
    refused = replace(refused, state="refused", gate=gate)
    last = replace(last, start=before[-1].id)
    ids = [*(update.id for update in before), last.id, before[0].id, last.id]
    because = [*("passed the gate" for _ in range(len(ids) - 2)), "answers about fees were wrong", "they were not"]
    history = [
        PromotionRecord(name, f"2026-03-02T{i:02d}:00:00Z", why)
        for i, (name, why) in enumerate(zip(ids, because, strict=True))
    ]
    return replace(lines, updates=[*before, refused, last], release=last.id, history=history)


@pytest.fixture(scope="session")
def guarded() -> WorkspaceRecord:
    """Five updates, the fourth refused by the gate; a rollback and its end."""
    return refused_lineage(lineage(["sci-docs", "ml-docs", "news-2026-01", "shuffled", "news-2026-02"]))


@pytest.fixture(scope="session")
def demo() -> WorkspaceRecord:
    """Three updates that all went well."""
    return lineage()


@pytest.fixture(scope="session")
def unfinished(demo: WorkspaceRecord) -> WorkspaceRecord:
    """An update whose release was refused, then one under way."""
    last = demo.updates[-1]
    under_way = UpdateShown(
        "0003-news",
        "news",
        "unfinished",
        start=last.id,
        tokens=Tokens(614_400, 100_000),
        steps={"ingest": StepTaken(3.0, 1)},
        attempts=Attempts(3, 2, 9.0, 6.0),
    )
    refused = replace(last, state="refused")
    updates = [*demo.updates[:2], refused, under_way]
    return replace(demo, release=demo.updates[1].id, updates=updates, history=demo.history[:2])


@pytest.fixture(scope="session")
def imported() -> WorkspaceRecord:
    """Open weights, imported and not updated yet: nothing was trained or measured here."""
    base = UpdateShown("0000-base", "base", "released", steps={"import": StepTaken(9.0)})
    return WorkspaceRecord("s3://bucket/llm", base.id, "2026-03-01T14:05:00Z", [], [base])


@pytest.fixture(scope="session")
def make_lineage() -> Callable[..., WorkspaceRecord]:
    """`lineage`, for a test that wants other names or more steps."""
    return lineage
