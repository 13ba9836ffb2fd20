"""The sections of a model card, as Markdown. Text from data (names, reasons, sources) is escaped."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata

from rewarm.pipeline.escaping import visible
from rewarm.pipeline.gate.verdict import Check
from rewarm.pipeline.lineage.samples import Sample, compared_with
from rewarm.pipeline.record import Entry, UpdateRecord

SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#|~!$&])")
VERSIONS = ("rewarm", "torch", "transformers", "deepspeed", "ray", "tokenizers")
COMPARED = ("current", "candidate", "change", "limit", "detectable", "p", "p_adjusted")  # of a check of the gate
GATE_COLUMNS = ("check", "metric", "before", "this", "change", "limit", "detects", "p", "p adjusted", "verdict")
LIMITS = """This is a base language model: it continues text. It was not tuned to follow instructions or to refuse
requests, and no step of its training makes its output true, safe or free of bias. It may reproduce anything in its
training data, including errors and personal details. Losses and scores below are measured on held-out parts of the same
sources: they show how well this kind of text is predicted, not how well the model does in other uses. Test it on your
own data before you rely on it."""


TUNED_LIMITS = """This model was tuned from a base language model by another program, with data that this lineage does
not record; nothing here says how well it follows instructions, or what it refuses. It may reproduce anything in its
training data, including errors and personal details. Losses and scores below are measured on held-out parts of the
lineage's datasets: they show what the tuning cost in predicting this kind of text. Test it on your own data before you
rely on it."""


def sections(
    name: str,
    earlier: Sequence[Entry],
    update: UpdateRecord,
    intended_use: str,
    imported: bool,
    samples: Sequence[Sample] = (),
) -> Iterator[str]:
    """Yield the titles and paragraphs of the card's text."""
    parts: dict[str, Sequence[str]] = {
        f"# {escaped(name)}": (summary(earlier, update, imported),),
        "## Use and limits": (intended_use, TUNED_LIMITS if update.adopted else LIMITS, loading()),
        "## Data": (data_text(update, imported), replay_text(update)),
        "## Training": (training_text(update),),
        "## Results": (losses_text(update), tasks_text(update)),
        "## Samples": (samples_text(update, samples),),
        "## Gate": (gate_text(update),),
        "## Lineage": (lineage_text(earlier, update),),
        "## Made with": (versions_text(),),
    }
    for title, texts in parts.items():
        if any(texts):
            yield title
            yield from filter(None, texts)


def escaped(text: object) -> str:
    """Escape text from data for Markdown, on one line, so that it is also safe in tables."""
    return SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format a table with right-aligned numbers; empty without rows."""
    lines = [list(map(escaped, row)) for row in rows]
    if not lines:
        return ""
    rule = ["---", *["--:"] * (len(columns) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(columns), rule, *lines])


def summary(earlier: Sequence[Entry], update: UpdateRecord, imported: bool) -> str:
    """Return the introductory paragraph."""
    size = f"{update.parameters:,} parameters" if update.parameters else "a causal language model"
    if not earlier:
        how = "imported without changes from another model" if imported else "pre-trained from random weights"
        return f"A causal language model ({size}), the base of its lineage: {how}. Finished {escaped(update.finished)}."
    if update.adopted is not None:
        return (
            f"A causal language model ({size}), tuned by another program from the release of "
            f"{escaped(update.adopted.tuned_from)}. Adopted {escaped(update.finished)}."
        )
    added = f"added {escaped(', '.join(update.datasets))}"
    if not update.datasets:
        added = f"annealed another release of the trunk of {escaped(update.follows or '')}"
    return (
        f"A causal language model ({size}), kept up to date by continual pre-training: update {update.number} of its "
        f"lineage {added}. Finished {escaped(update.finished)}."
    )


def loading() -> str:
    """Return an example that loads the model."""
    return (
        "```python\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'model = AutoModelForCausalLM.from_pretrained("PATH_OR_HUB_ID")\n'
        'tokenizer = AutoTokenizer.from_pretrained("PATH_OR_HUB_ID")\n'
        "```"
    )


def data_text(update: UpdateRecord, imported: bool) -> str:
    """Describe the new datasets, and the documents that were excluded from them."""
    rows, reasons = [], []
    for name in update.datasets:
        part = update.data[name]
        counts = (part.ingest.documents, part.tokenize.num_tokens, part.ingest.validation_documents)
        rows.append((name, *(f"{count:,}" for count in (*counts, part.duplicates, part.ingest.quarantined))))
        reasons += [(f"{name}: {reason}", f"{count:,}") for reason, count in part.ingest.reasons.items()]
        if chosen := part.select:
            left_out = chosen.documents - chosen.chosen_documents
            reasons.append((f"{name}: not selected ({chosen.by})", f"{left_out:,}"))
    columns = ("dataset", "documents", "tokens", "held out", "duplicates removed", "refused or filtered")
    text = table(columns, rows) or "No data was added."
    if update.number == 0 and imported:
        text += (
            "\n\nThis data was not used for training here: it represents what the imported model was trained on, or was"
            " generated by it."
        )
    return "\n\n".join(part for part in (text, table(("reason for removal", "documents"), reasons)) if part)


def replay_text(update: UpdateRecord) -> str:
    """Describe the replay of earlier datasets."""
    parts = {key: part for key, part in update.replay.by_dataset.items() if part["tokens"]}
    if not parts:
        return ""
    rows = [
        (key, f"{part['tokens'] - part.get('left_out', 0):,}", f"{part.get('share', 0.0):.2%}")
        for key, part in parts.items()
    ]
    share = f"{update.replay.achieved:.2%} of the training tokens"
    replayed = table(("replayed", "tokens", "share"), rows)
    return f"Replay of earlier datasets, which limits forgetting: {share}.\n\n{replayed}"


def training_text(update: UpdateRecord) -> str:
    """Describe tokens, schedule, and the annealing of the release."""
    tokens = update.tokens
    if update.adopted is not None:
        origin = update.adopted
        about: list[tuple[str, object]] = [
            ("tuned from", origin.tuned_from),
            ("digest of that release's weights", origin.release),
            ("tensors that changed", f"{origin.changed:,} of {origin.tensors:,}"),
            ("distance from the release, relative", f"{origin.distance:.3%}"),
            ("chat template", "yes" if origin.chat_template else "no"),
            ("added tokens", ", ".join(origin.added_tokens) or "none"),
        ]
        return table(("", "value"), about)
    if not update.schedule and tokens.annealed:
        rows: list[tuple[str, object]] = [
            ("tokens of the annealed branch", f"{tokens.annealed:,}"),
            ("tokens in the lineage so far", f"{update.position:,}"),
        ]
        return "\n\n".join([table(("", "value"), rows), *(f"- {escaped(note)}" for note in update.notes[:1])])
    if not update.schedule:
        return "The model was imported without further training."
    rows = [
        ("new tokens", f"{tokens.new:,}"),
        ("replayed tokens", f"{tokens.replayed:,}"),
        *([("tokens of skipped and left-out steps", f"{tokens.left_out:,}")] if tokens.left_out else []),
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
    """Return the losses of the release on every dataset, beside those of the previous release."""
    rows = []
    for name, loss in update.losses.get("release", {}).items():
        change = update.forgetting.get(name)
        before, moved = ("", "new") if change is None else (f"{loss - change:.4f}", f"{change:+.4f}")
        bits = update.bits_per_byte.get("release", {}).get(name)
        rows.append((name, before, f"{loss:.4f}", moved, "" if bits is None else f"{bits:.4f}"))
    losses = table(("validation split", "previous release", "this release", "change", "bits per byte"), rows)
    if not losses:
        return "No losses were measured."
    return (
        "Mean loss in nats per token on held-out documents. A positive change on an earlier dataset is forgetting."
        f"\n\n{losses}"
    )


def scores(update: UpdateRecord) -> Iterator[tuple[str, str, float]]:
    """Yield lm-eval's results: task, metric, value."""
    for task, metrics in update.lm_eval.items():
        for metric, value in metrics.items():
            if isinstance(value, int | float) and math.isfinite(value):
                yield task, metric, float(value)


def tasks_text(update: UpdateRecord) -> str:
    """Return a table of lm-eval's scores."""
    rows = [(task, metric, f"{value:.4f}") for task, metric, value in scores(update)]
    return f"lm-eval:\n\n{table(('task', 'metric', 'value'), rows)}" if rows else ""


def samples_text(update: UpdateRecord, samples: Sequence[Sample]) -> str:
    """Return what this release and the one before write after the same beginnings; empty without samples."""
    if not samples:
        return ""
    temperature = samples[0].temperature
    how = f"drawn at temperature {temperature:g} with a fixed seed" if temperature else "the most likely tokens"
    parts = [f"Continuations of held-out documents, {how}; not chosen by hand."]
    for one in samples:
        texts = {"begins": one.prompt, "document": one.own}
        if one.before is not None:
            texts[compared_with(update) or "before"] = one.before
        texts["this release"] = one.text
        rows = [(name, visible(text)) for name, text in texts.items()]
        parts.append("\n".join((f"- {escaped(one.dataset)}", *(f"  - *{escaped(n)}*: {escaped(t)}" for n, t in rows))))
    return "\n\n".join(parts)


def gate_text(update: UpdateRecord) -> str:
    """Describe the gate's verdict; empty if there is none."""
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
    """Format a number of the verdict; empty if it is None."""
    return "" if value is None else f"{value:.4g}"


def said(check: Check) -> str:
    """Return the outcome of one check."""
    return "passed" if check.passed else "undecided" if check.outcome == "undecided" else "failed"


def lineage_text(earlier: Sequence[Entry], update: UpdateRecord) -> str:
    """Return a table of the updates up to this one."""
    facts = [*((one.id, one.state, one.facts) for one in earlier), (update.id, update.state, update.facts(0))]
    rows = [
        (name, ", ".join(one.datasets) or "none", f"{one.position:,}", state, one.weights.release)
        for name, state, one in facts
    ]
    return table(("update", "new datasets", "tokens so far", "state", "digest of the release's weights"), rows)


def versions_text() -> str:
    """Return a table of the versions of the software that produced the release."""
    rows = []
    for name in VERSIONS:
        try:
            rows.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return table(("package", "version"), rows)
