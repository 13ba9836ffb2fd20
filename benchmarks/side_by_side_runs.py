"""The scripts that ``side_by_side.py`` runs, in their order, and the form of a row of its table."""

from dataclasses import dataclass

from figures import Judged, Measured


@dataclass(frozen=True)
class Run:
    """A script and its arguments: ``{out}`` is the folder of all, ``{own}`` its own, ``{peer}`` the peer's interpreter.

    ``after`` is the run whose files it reads. Exit codes other than 0 are named where a script says with them that it
    missed its goal.
    """

    name: str
    command: tuple[str, ...]
    after: str = ""
    codes: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Row:
    """A figure, the run that prints it, its peer, and what bounds it where it misses its goal."""

    what: str
    run: str
    reads: Measured | Judged
    peer: str = "–"
    bound: str = ""


def run(name: str, command: str, after: str = "", codes: tuple[int, ...] = (0,)) -> Run:
    """A run whose arguments hold no blanks."""
    return Run(name, tuple(command.split()), after, codes)


MISSES = (0, 1)
PEER = "--peer-python {peer}"
RUNS = (
    run("command-line", "command_line.py --rounds 4"),
    run("replay-lineage", "replay_lineage.py --lineages 10 --updates 300"),
    run("scale-simulation", "scale_simulation.py"),
    run("loss-memory", "loss_memory.py", codes=MISSES),
    run("loss-memory-bf16", "loss_memory.py --precision bf16", codes=MISSES),
    run("long-lineage", "long_lineage.py --updates 10 100 1000 --measured 32"),
    run("gate-error-rates", "gate_error_rates.py --draws 250"),
    run("gate-skewness", "gate_skewness.py --draws 800 --families 60"),
    run("gate-many-datasets", "gate_many_datasets.py --verdicts 200"),
    run("decontamination", "decontamination.py --out {own}"),
    run("demo", "rewarm demo --dir {own}"),
    run("demo-seconds", "update_seconds.py --workspace {out}/demo/workspace", after="demo"),
    run(
        "command-line-demo",
        "command_line.py --rounds 4 --workspace {out}/demo/workspace "
        "--data sci-docs={out}/demo/text/sci-docs.jsonl.zst",
        after="demo",
    ),
    run("small-update", "update_seconds.py --dir {own} --rounds 2"),
    run("training", "train_throughput.py --steps 60 --rounds 4"),
    run("start-memory", "start_memory.py --millions 500 --start parts", codes=MISSES),
    run("interruptions", "interruptions.py --minutes 60", codes=MISSES),
    run("tokens", f"tokenize_throughput.py --rounds 1 --contestants rewarm datatrove {PEER}"),
    run("near-duplicates", f"near_duplicates.py --documents 20000 --out {{own}} {PEER}"),
    run("near-duplicates-series", "near_duplicates.py --documents 20000 --series 10 --out {own}"),
    run("pages", "pages.py --pages 2000 --out {own}"),
    run("ingest-pages", f"ingest_pages.py --warc {{out}}/pages --out {{own}} {PEER}", after="pages"),
    run("main-text", "main_text.py", codes=MISSES),
    run("main-text-speed", f"main_text.py --warc {{out}}/pages {PEER}", after="pages"),
    run("rules", f"rules_against_peer.py {{out}}/pages --rounds 2 --most 500 {PEER}", after="pages"),
    run("ingest-series", "ingest_growth.py --series 10 --megabytes 30 --out {own}"),
    run("ingest-memory", "ingest_growth.py --memory 1,4,16 --megabytes 20 --out {own}"),
)
