"""The sections of a card, as Markdown. What comes from data (names, reasons, sources) is escaped."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata

from rewarm.pipeline.gate.verdict import Check
from rewarm.pipeline.record import Entry, UpdateRecord

SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#|~!$&])")
VERSIONS = ("rewarm", "torch", "transformers", "deepspeed", "ray", "tokenizers")
COMPARED = ("current", "candidate", "change", "limit", "detectable", "p", "p_adjusted")  # of a check of the gate
GATE_COLUMNS = ("check", "metric", "before", "this", "change", "limit", "detects", "p", "p adjusted", "verdict")
LIMITS = """This is a base language model: it continues text. It was not tuned to follow instructions or to refuse, and
nothing was done here to make its output true, safe or free of bias. It has learned what is in its data, mistakes and
personal details included. Losses and scores below are measured on held-out parts of the same sources: they say how
well this kind of text is predicted, and nothing about other uses. Test it on your own before you rely on it."""


def sections(
    name: str, earlier: Sequence[Entry], update: UpdateRecord, intended_use: str, imported: bool
) -> Iterator[str]:
    """The card's text, part by part."""
    parts: dict[str, Sequence[str]] = {
        f"# {escaped(name)}": (summary(earlier, update, imported),),
        "## Use and limits": (intended_use, LIMITS, loading()),
        "## Data": (data_text(update, imported), replay_text(update)),
        "## Training": (training_text(update),),
        "## Results": (losses_text(update), tasks_text(update)),
        "## Gate": (gate_text(update),),
        "## Lineage": (lineage_text(earlier, update),),
        "## Made with": (versions_text(),),
    }
    for title, texts in parts.items():
        if any(texts):
            yield title
            yield from filter(None, texts)


def escaped(text: object) -> str:
    """Text from data as plain words of Markdown, on one line, in tables too."""
    return SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; numbers stand on the right. Empty without rows."""
    lines = [list(map(escaped, row)) for row in rows]
    if not lines:
        return ""
    rule = ["---", *["--:"] * (len(columns) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(columns), rule, *lines])


def summary(earlier: Sequence[Entry], update: UpdateRecord, imported: bool) -> str:
    """What this is, in a paragraph."""
    size = f"{update.parameters:,} parameters" if update.parameters else "a causal language model"
    if not earlier:
        how = "taken over as it was from an imported model" if imported else "pre-trained from random weights"
        return f"A causal language model ({size}), the base of its lineage: {how}. Finished {escaped(update.finished)}."
    return (
        f"A causal language model ({size}), kept up to date by continual pre-training: update {update.number} of its "
        f"lineage took in {escaped(', '.join(update.datasets))}. Finished {escaped(update.finished)}."
    )


def loading() -> str:
    """How to load it."""
    return (
        "```python\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained("PATH_OR_HUB_ID")\n'
        'tokenizer = AutoTokenizer.from_pretrained("PATH_OR_HUB_ID")\n'
        "```"
    )


def data_text(update: UpdateRecord, imported: bool) -> str:
    """The datasets that were new here, and what was kept out of them."""
    rows, reasons = [], []
    for name in update.datasets:
        part = update.data[name]
        counts = (part.ingest.documents, part.tokenize.num_tokens, part.ingest.validation_documents)
        rows.append((name, *(f"{count:,}" for count in (*counts, part.duplicates, part.ingest.quarantined))))
        reasons += [(f"{name}: {reason}", f"{count:,}") for reason, count in part.ingest.reasons.items()]
        if chosen := part.select:
            left_out = chosen.documents - chosen.chosen_documents
            reasons.append((f"{name}: not selected ({chosen.by})", f"{left_out:,}"))
    columns = ("dataset", "documents", "tokens", "held out", "duplicates left out", "refused or filtered")
    text = table(columns, rows) or "No data came with it."
    if update.number == 0 and imported:
        text += "\n\nNone of this was trained here: it stands for what the imported model has seen, or wrote itself."
    return "\n\n".join(part for part in (text, table(("left out because", "documents"), reasons)) if part)


def replay_text(update: UpdateRecord) -> str:
    """What was replayed against forgetting."""
    parts = {key: part for key, part in update.replay.by_dataset.items() if part["tokens"]}
    if not parts:
        return ""
    rows = [(key, f"{part['tokens']:,}", f"{part.get('share', 0.0):.2%}") for key, part in parts.items()]
    share = f"{update.replay.achieved:.2%} of the training tokens"
    found = table(("replayed", "tokens", "share"), rows)
    return f"Replayed from earlier datasets against forgetting: {share}.\n\n{found}"


def training_text(update: UpdateRecord) -> str:
    """Tokens, schedule, and how the release was made of the trunk."""
    if not update.schedule:
        return "Nothing was trained: the model was imported as it is."
    tokens = update.tokens
    rows: list[tuple[str, object]] = [
        ("new tokens", f"{tokens.new:,}"),
        ("replayed tokens", f"{tokens.replayed:,}"),
        ("tokens of the annealed branch", f"{tokens.annealed:,}"),
        ("tokens in the lineage so far", f"{update.position:,}"),
        ("optimizer steps", update.train.steps if update.train else ""),
        ("learning-rate schedule", update.schedule.kind),
    ]
    for phase in update.schedule.phases:
        what = f"{phase.initial:.3g} to {phase.final:.3g} over {phase.end - phase.start:,.0f} tokens"
        rows.append((f"{phase.name} ({phase.shape})", what))
    return "\n\n".join([table(("", "value"), rows), *(f"- {escaped(note)}" for note in update.notes[:1])])


def losses_text(update: UpdateRecord) -> str:
    """Losses of the release on every dataset, beside those of the release before."""
    rows = []
    for name, loss in update.losses.get("release", {}).items():
        change = update.forgetting.get(name)
        before, moved = ("", "new") if change is None else (f"{loss - change:.4f}", f"{change:+.4f}")
        bits = update.bits_per_byte.get("release", {}).get(name)
        rows.append((name, before, f"{loss:.4f}", moved, "" if bits is None else f"{bits:.4f}"))
    found = table(("validation split of", "release before", "this release", "change", "bits per byte"), rows)
    if not found:
        return "No losses were measured."
    return (
        "Mean loss in nats per token on documents that were held out of training. A positive change on an earlier "
        f"dataset is forgetting.\n\n{found}"
    )


def scores(update: UpdateRecord) -> Iterator[tuple[str, str, float]]:
    """lm-eval's figures: task, metric, value."""
    for task, metrics in update.lm_eval.items():
        for metric, value in metrics.items():
            if isinstance(value, int | float) and math.isfinite(value):
                yield task, metric, float(value)


def tasks_text(update: UpdateRecord) -> str:
    """lm-eval's scores."""
    found = table(
        ("task", "metric", "value"), [(task, metric, f"{value:.4f}") for task, metric, value in scores(update)]
    )
    return f"lm-eval:\n\n{found}" if found else ""


def gate_text(update: UpdateRecord) -> str:
    """The gate's verdict, where there was one."""
    gate = update.gate
    if not gate:
        return "There was no earlier release to compare with." if update.number == 0 else ""
    passed = {"passed": "passed", "held": "was held, undecided"}.get(gate.outcome, "did not pass")
    because = "".join(f"\n- {escaped(reason)}" for reason in gate.because)
    rows = [
        (check.name, check.metric, *(figure(getattr(check, key)) for key in COMPARED), said(check))
        for check in gate.checks
    ]
    text = f"Compared with release {escaped(gate.against)}, it {passed}." + (f"\n{because}" if because else "")
    return "\n\n".join(part for part in (text, table(GATE_COLUMNS, rows)) if part)


def figure(value: float | None) -> str:
    """A number of the verdict, or nothing."""
    return "" if value is None else f"{value:.4g}"


def said(check: Check) -> str:
    """The outcome of one check."""
    return "passed" if check.passed else "undecided" if check.outcome == "undecided" else "failed"


def lineage_text(earlier: Sequence[Entry], update: UpdateRecord) -> str:
    """The updates up to this one."""
    facts = [*((one.id, one.state, one.facts) for one in earlier), (update.id, update.state, update.facts(0))]
    rows = [
        (name, ", ".join(one.datasets) or "none", f"{one.position:,}", state, one.weights.release)
        for name, state, one in facts
    ]
    return table(("update", "new datasets", "tokens so far", "state", "digest of the release's weights"), rows)


def versions_text() -> str:
    """The versions of what made it."""
    rows = []
    for name in VERSIONS:
        try:
            rows.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return table(("package", "version"), rows)
