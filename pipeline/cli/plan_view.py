"""Tables of a plan: measurements, choices with their reasons, and predictions."""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rewarm.pipeline.report import formats
from rewarm.pipeline.terminal import short

SHOWN_LANGUAGES = 4


def plan_view(plan: dict[str, Any]) -> Group:
    """Three tables, from the object that ``plan --json`` prints."""
    shift = plan["shift"]
    named = {"weak": "a weak shift", "strong": "a strong shift"}.get(shift["strength"], "an unclear shift")
    title = f"{'+'.join(plan['datasets'])}: {named}, measured on {plan['starts_from']}"
    notes = [Text(f"Of what was read, {one['sentence']}.") for one in plan.get("removals", ())]
    notes += [Text(note) for note in plan["notes"]]
    return Group(
        table(title, ("measure", "value"), shift_rows(shift, plan["arrival"])),
        table("Choices", ("setting", "value", "because"), choice_rows(plan["choices"])),
        table("Prediction", ("what", "update", "re-training from scratch"), prediction_rows(plan)),
        *([memory_view(plan["memory"])] if "memory" in plan else []),
        Text(f"Speed: {plan['because']}. Re-training: {plan['retrain']['because']}."),
        *notes,
    )


def table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    """A table with its title on the left."""
    made = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        made.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def shift_rows(shift: dict[str, Any], arrival: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the measurements."""
    margin = "" if arrival["tokens_margin"] is None else f" ± {short(arrival['tokens_margin'])}"
    read = "all of it" if arrival["complete"] else f"{arrival['read_bytes'] / arrival['file_bytes']:.1%} of its bytes"
    nearest = shift["nearest"] or "earlier data"
    return [
        ("because", "; ".join(shift["because"])),
        ("loss, nats per token", f"{figure(shift['arrival_loss'])}, on {nearest} {figure(shift['base_loss'])}"),
        (
            "bits per byte",
            f"{figure(shift['arrival_bits_per_byte'])}, on {nearest} {figure(shift['base_bits_per_byte'])}",
        ),
        ("token divergence, nats", ", ".join(f"{name} {value:.3f}" for name, value in shift["divergences"].items())),
        ("languages", f"{spoken(shift['languages'])}; earlier: {spoken(shift['earlier_languages'])}"),
        ("documents compared", f"{shift['documents']}, worth {shift['worth']:.1f} of equal length"),
        ("documents in earlier datasets", f"{shift['overlap']:.2%}"),
        ("runs of 13 tokens seen in a sample of earlier data", share(shift["shingle_overlap"])),
        ("training tokens", f"{short(arrival['tokens'])}{margin}, from {read}"),
    ]


def choice_rows(choices: dict[str, Any]) -> list[tuple[str, ...]]:
    """Settings, values, reasons."""
    return [(name, formats.setting(choice["value"]), choice["because"]) for name, choice in choices.items()]


def prediction_rows(plan: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the update's predicted cost next to that of re-training."""
    tokens, stored, again = plan["tokens"], plan["storage"], plan["retrain"]
    trained = tokens["new"] + tokens["replayed"]
    kept = f"{short(stored['lasting'])}B" + (f", {stored['per_month']:.2f} a month" if stored["per_month"] else "")
    return [
        (
            "tokens",
            f"{short(trained)}: {short(tokens['new'])} new, {short(tokens['replayed'])} replayed; "
            f"{short(tokens['annealed'])} annealed",
            short(again["tokens"]) if again["tokens"] else "unknown",
        ),
        ("steps", f"{plan['steps']:,}", ""),
        ("time", time(plan["hours"]), time(again["hours"])),
        (
            f"cost, {plan['workers']} workers",
            money(plan["cost"], plan["currency"]),
            money(again["cost"], plan["currency"]),
        ),
        ("storage", f"{kept}; {short(stored['checkpoints'])}B of checkpoints while it trains", ""),
        *(("disk" if one["enough"] else "disk: TOO LITTLE", room(one), "") for one in plan.get("disk", ())),
    ]


def room(demand: dict[str, Any]) -> str:
    """Describe the needed and the free space of a filesystem."""
    return f"{demand['path']}: needs {short(demand['needed'])}B, {short(demand['free'])}B free"


def time(hours: float | None) -> str:
    """Hours for people."""
    return "unknown" if hours is None else formats.duration(hours * 3600)


def money(value: float | None, currency: str) -> str:
    """An amount, or how to get one."""
    return "unknown without cost.per_worker_hour" if value is None else f"{value:,.2f} {currency}"


def figure(value: float | None) -> str:
    """A loss."""
    return "not measured" if value is None else f"{value:.3f}"


def share(value: float | None) -> str:
    """Format a share."""
    return "not measured" if value is None else f"{value:.2%}"


def spoken(languages: dict[str, float]) -> str:
    """The largest languages."""
    return ", ".join(f"{name} {part:.0%}" for name, part in list(languages.items())[:SHOWN_LANGUAGES]) or "none"


def memory_view(memory: dict[str, Any]) -> Group:
    """What fits where: GB of a worker by ZeRO stage, with the optimizer offloaded and activations recomputed."""
    parts = {name: value for name, value in memory["parts"].items() if value and name != "host"}
    said = ", ".join(f"{name} {value / 1e9:.3g}" for name, value in parts.items())
    title = (
        f"Memory of a worker, GB: {short(memory['parameters'])} parameters, {memory['workers']} workers, "
        f"{memory['micro_batch']} × {memory['seq_len']} tokens, {memory['precision']}"
    )
    ways = {(False, False): "as it is", (False, True): "recomputed", (True, False): "offloaded", (True, True): "both"}
    found = {
        (row["zero_stage"], (row["offload_optimizer"], row["gradient_checkpointing"])): row
        for row in memory["alternatives"]
    }
    rows = [
        (f"ZeRO {stage}", *(gigabytes(found.get((stage, way))) for way in ways))
        for stage in sorted({row["zero_stage"] for row in memory["alternatives"]})
    ]
    return Group(
        table(title, ("", *ways.values()), rows),
        Text(
            f"By formula, on each device; in brackets the smallest card. ZeRO {memory['zero_stage']} as it is: {said}."
        ),
    )


def gigabytes(row: dict[str, Any] | None) -> str:
    """A cell of the table: GB on the device, and the smallest card with room for it."""
    if row is None:
        return "–"
    return f"{row['device'] / 1e9:.3g} ({row['card'] or 'none'})"
