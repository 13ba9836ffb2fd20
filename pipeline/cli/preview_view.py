"""The dry run of a base or an update as about ten lines; ``--json`` prints all of it, with every setting."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.cells import cell_len

from rewarm.pipeline.progress.pace import duration
from rewarm.pipeline.terminal import short
from rewarm.stages.core.sizes import size

WIDTH = 80
TITLED = 11  # columns before the blank and the text
LISTED = 6  # datasets named in a line


def preview_lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a preview (``pipeline.update.preview``)."""
    recipe, planned = found["recipe"], found["estimate"]
    yield f"{found['workspace']}: {found['update']} starts from {found['starts_from']}{resumed(found)}"
    for name, files in found["files"].items():
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in Counter(file["format"] for file in files).items())
        yield line("data", f"{name}: {kinds} file{'s' * (len(files) != 1)}, {size(sum(f['bytes'] for f in files))}")
    yield line(
        "tokens",
        f"at most about {short(planned['text_tokens'])} in {size(planned['text_bytes'])} of text, by the sizes of the "
        "files; `rewarm plan` reads a sample",
    )
    if found["distills"]:
        yield line("distills", f"{short(found['distills'])} tokens from the imported model, to be replayed later")
    yield line("training", training(planned, recipe["train"]))
    yield line("replay", replayed(found["replays"], planned["replay_share"], recipe["replay"]["share"]))
    schedule, anneal = recipe["schedule"], recipe["anneal"]
    inside = ", within the budget" if anneal["counted"] == "inside" else ""
    yield line(
        "schedule",
        f"{schedule['kind']}, peak {schedule['peak']:g}, annealed over {anneal['share']:.0%} of the steps{inside}",
    )
    train = recipe["train"]
    state = "an empty" if found["optimizer"] == "empty" else "the kept"
    optimizer = f"{state} optimizer" + ("" if train["optimizer"] == "adamw" else f" ({train['optimizer']})")
    workers = f"{train['num_workers']} (train.device={train['device']})"
    yield line("workers", f"{workers}, {train['precision']}, ZeRO stage {train['zero_stage']}, {optimizer}")
    known = found["seconds"] is not None
    yield line("time", f"about {duration(found['seconds'])}, by the update before" if known else "not known yet")
    for disk in found["disk"]:
        short_of = "" if disk["enough"] else "NOT ENOUGH: "
        yield line("disk", f"{short_of}{size(disk['needed'])} needed, {size(disk['free'])} free in {disk['path']}")
    yield from (line("warning", text) for text in warnings(found))
    yield "Nothing was written. --json prints every setting."


def line(title: str, text: str) -> str:
    """Return an indented line with a title of fixed width, folded at ``WIDTH`` columns of a terminal.

    Wide letters take two columns, combining marks none. A word that is longer than a line, such as a path, stays whole.
    """
    lines = [f"  {title}".ljust(TITLED)]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}"
        if cell_len(longer) > WIDTH and len(lines[-1]) > TITLED:
            longer = f"{TITLED * ' '} {word}"
            lines.append("")
        lines[-1] = longer
    return "\n".join(lines)


def resumed(found: dict[str, Any]) -> str:
    """Return a remark on the unfinished update that would be resumed, if there is one."""
    return f" (resumes {found['goes_on_with']})" if found["goes_on_with"] else ""


def training(planned: dict[str, Any], train: dict[str, Any]) -> str:
    """Return tokens, steps and passes."""
    if planned["passes"] is None:
        return "none: the model is imported"
    source = "by the budget" if planned["budget"] else "all of the arrival"
    passes = planned["passes"]
    over = f"{passes:.2f} passes" if passes < 10 else f"{passes:,.0f} passes"
    return (
        f"{short(planned['trained_tokens'])} tokens ({source}) in {planned['steps']:,} steps of "
        f"{train['global_batch']} x {train['seq_len']}: about {over} over the arrival"
    )


def replayed(datasets: list[str], share: float, asked: float | str) -> str:
    """Return the share of replay, and the datasets."""
    if not datasets:
        return "none"
    names = ", ".join(datasets[-LISTED:]) + (f" and {len(datasets) - LISTED:,} more" if len(datasets) > LISTED else "")
    return f"a share of {asked if asked == 'auto' else format(share, '.2%')} from {names}"


def warnings(found: dict[str, Any]) -> Iterator[str]:
    """Yield what the user should know before starting."""
    planned = found["estimate"]
    if found["awaits"]:
        yield found["awaits"]
    if planned["passes"] is not None and not planned["steps"]:
        yield f"less than one step of {planned['tokens_per_step']:,} tokens: lower train.global_batch or add data"
    if planned["passes"] is not None and planned["passes"] > 4:
        yield (
            f"the budget reads the arrival about {planned['passes']:.0f} times; up to 4 passes are nearly as good as "
            "new text, more are not (Muennighoff et al. 2023, abstract)"
        )
