"""The figures of ``side_by_side.py``: their goals, peers and bounds, and where a script prints them."""

from figures import After, Cell, Figure, Judged, Measured, Ratio, at_least, at_most
from side_by_side_runs import Row

# -- what bounds a figure ----------------------------------------------------------------------------------------------

IMPORTS = (
    "What is left are imports: some 120 modules of rewarm, pydantic's models, numpy, pyarrow and rich; load on the "
    "machine makes CPU seconds larger."
)
UPDATE = (
    "Of 53 to 61 s on idle cores some 16 are optimizer steps; the rest is the start of Ray and its workers, looks at "
    "validation and evaluation, which two cores compute one after the other."
)
FIRST_STEP = "The driver imports ray.train.torch (3.6 CPU s with Ray), and Ray's dashboard starts nine processes."
DEMO_UPDATE = (
    "The last update's evaluation takes 15.6 s: forward passes of two models over three whole validation splits and "
    "lm-eval's tasks, computation of two cores."
)
BARE = "Ray's processes beside the workers take 15 % of one core, on a machine whose two cores the workers keep busy."
START = "Of some 20 s for 300 MB, imports and the start of Ray and its workers take about 15, whatever the arrival."
PAGES = "On few pages most of the seconds are the fixed part of Ray Data's jobs: 4.2 on 400 pages, 11.8 on an idle day."
BUFFERS = (
    "Buffers with a bound that 320 MB of text do not reach: 32 MiB of word sequences in the driver, 512 MB of a search "
    "for duplicates, 128 MiB of the sieve of held-out sequences."
)
STALL = "A checkpoint of 1.2 GB takes some seconds on one disk; the line names the step from which on the goal holds."
KILL = "Without other work a kill took 3.1 to 3.9 s; with it 30.1 s once: 700 steps again, and the new workers' start."
GATHER = "Twice the largest tensor above share and libraries: gloo gathers into a second tensor of its size."
DRAWS = "5 % asked for; 250 draws know it to within 2.8 points."
SKEWED = "No test of so few units knows the tail that it has not seen; 60 families know 5 % to within 6 points."
LOOKUPS = "Each arrival is looked up in the indexes of all before it."
NOISE = "On an idle machine it was 1.01 to 1.13; other work on the two cores brought 1.24, and once 1.48."
CODE = (
    "Passages of code that two files share word for word are real copies, which no rule spares that finds planted ones."
)

# -- rows --------------------------------------------------------------------------------------------------------------


def seconds_of(command: str) -> Figure:
    """CPU seconds of a command that computes nothing."""
    return Cell("CPU s, least", {"command": f"rewarm {command}"})


def of_update(column: str, updates: str) -> Figure:
    """The largest figure of the updates that a pattern names."""
    return Cell(column, {"update": updates}, max)


def simulated(what: str) -> Figure:
    """A row of the simulation."""
    return Cell("figure", {"what": what})


LATER, BASE = r"(?!0000).*", r"0000-.*"
LONG = {"updates": "1,000"}
OUTSIDE, FIRST = "outside, s", "to the first step, s"
DRY_RUN = "update --dry-run, CPU s"
AT_16, AT_1 = {"input": "16 ×"}, {"input": "1 ×"}
REFUSED, RIGHT = "now: refused", {"right": "≤ 5 % refused"}
AT_TWICE = {"what is true": "60 datasets, one at twice its limit"}
TOKENS = {"contestant": "datatrove"}
JACCARD, PRECISION = {"": r"found at Jaccard 0\.8 .*"}, {"": "precision"}
OURS, PEERS = {"": "rewarm"}, {"": "datatrove"}
EXTRACTOR, ALL = {"extractor": "rewarm"}, {"rule": "all"}
DATATROVE = "datatrove"

ROWS = (
    Row("`rewarm --help`", "command-line", Measured(seconds_of("--help"), "CPU s", at_most(0.5)), bound=IMPORTS),
    Row("`rewarm settings`", "command-line", Measured(seconds_of("settings"), "CPU s", at_most(0.5)), bound=IMPORTS),
    Row("`rewarm status`", "command-line-demo", Measured(seconds_of("status"), "CPU s", at_most(0.5)), bound=IMPORTS),
    Row("`rewarm update`, nothing to do", "command-line-demo", Measured(seconds_of("update"), "CPU s", at_most(2))),
    Row("demo, base: seconds outside steps", "demo-seconds", Measured(of_update(OUTSIDE, BASE), "s", at_most(60))),
    Row(
        "demo, slower update: seconds outside steps",
        "demo-seconds",
        Measured(of_update(OUTSIDE, LATER), "s", at_most(40)),
        bound=DEMO_UPDATE,
    ),
    Row(
        "demo: tokens to the first step, longest",
        "demo-seconds",
        Measured(of_update(FIRST, ".*"), "s", at_most(6)),
        bound=FIRST_STEP,
    ),
    Row(
        "update of 100 documents, 50 steps, slower of two",
        "small-update",
        Measured(of_update("command, s", LATER), "s", at_most(45)),
        bound=UPDATE,
    ),
    Row("… seconds outside steps", "small-update", Measured(of_update(OUTSIDE, LATER), "s", at_most(40)), bound=UPDATE),
    Row(
        "… tokens to the first step",
        "small-update",
        Measured(of_update(FIRST, LATER), "s", at_most(6)),
        bound=FIRST_STEP,
    ),
    Row(
        "training, tokens/s, times the bare loop",
        "training",
        Measured(After("rewarm/bare: median"), "×", at_least(0.98)),
        "bare DeepSpeed",
        BARE,
    ),
    Row(
        "training, tokens/s, times Trainer",
        "training",
        Measured(After("rewarm/trainer: median"), "×", at_least(1)),
        "Hugging Face Trainer + DeepSpeed",
        BARE,
    ),
    Row(
        "loss memory, bytes per token × entry, fp32",
        "loss-memory",
        Measured(After("chunks:"), "B", at_most(4)),
        "whole logits",
    ),
    Row("… bf16", "loss-memory-bf16", Measured(After("chunks:"), "B", at_most(4)), "whole logits"),
    Row(
        "memory of a rank at start, 0.5 B, ZeRO 3, of 1.3 × share + 1 GB",
        "start-memory",
        Measured(Ratio(After("parts: peak"), After("share + 1 GB =")), "×", at_most(1)),
        bound=GATHER,
    ),
    Row("checkpoint stall, 100 M parameters", "interruptions", Judged("checkpoint stall"), bound=STALL),
    Row("work lost, with notice", "interruptions", Judged("work lost at a preemption with notice")),
    Row("work lost, without notice", "interruptions", Judged("work lost at a preemption without notice")),
    Row("kill to the next new step", "interruptions", Judged("kill to the next new step"), bound=KILL),
    Row("goodput", "interruptions", Judged("goodput at one preemption"), bound=KILL),
    Row("1 → 2 → 4 → 3 workers", "interruptions", Judged("1 → 2 → 4 → 3 workers")),
    Row(
        "1,000 updates: `rewarm status`",
        "long-lineage",
        Measured(Cell("status, CPU s", LONG), "CPU s", at_most(1)),
        bound=IMPORTS,
    ),
    Row("1,000 updates: `rewarm report`", "long-lineage", Measured(Cell("report, CPU s", LONG), "CPU s", at_most(3))),
    Row("… size", "long-lineage", Measured(Cell("report, MB", LONG), "MB", at_most(20))),
    Row(
        "… fixed part of an update, times that of 10 updates",
        "long-lineage",
        Measured(Ratio(Cell(DRY_RUN, LONG), Cell(DRY_RUN, {"updates": "10"})), "×", at_most(1.2)),
    ),
    Row("… records", "long-lineage", Measured(Cell("records, bytes an update", LONG), "B an update")),
    Row(
        "replay over random lineages: sequences off what is due",
        "replay-lineage",
        Measured(Cell("order 2: worst", over=max), "sequences", at_most(2)),
        "order 1",
    ),
    Row(
        "gate: refused at the limit, worst of five cases",
        "gate-error-rates",
        Measured(Cell(REFUSED, RIGHT, max), "%", at_most(7.8)),
        "the former rule",
        DRAWS,
    ),
    Row(
        "gate: 60 datasets, one at twice its limit, refused",
        "gate-error-rates",
        Measured(Cell(REFUSED, AT_TWICE), "%", at_least(80)),
        "the former rule",
    ),
    Row(
        "gate: no change, passed, fewer of two cases",
        "gate-error-rates",
        Measured(Cell("passed", {"right": "passes", "what is true": "(200|60) .*"}, min), "%", at_least(95)),
        "the former rule",
    ),
    Row(
        "gate: skewed changes (lognormal σ 1), 46 units, refused at the limit",
        "gate-skewness",
        Measured(Cell("46", {"changes": r"lognormal σ 1 \(6.2\), equal lengths", "rule": "now"}), "%", at_most(6.5)),
        "t alone, Hall",
        SKEWED,
    ),
    Row(
        "gate: 1,000 harmless datasets, refused",
        "gate-many-datasets",
        Measured(Cell("all at 0.1: refused", {"datasets": "1,000"}, max), "%", at_most(5)),
    ),
    Row(
        "gate: one of 1,000 forgets 0.2 nats over the limit, refused",
        "gate-many-datasets",
        Measured(Cell("one at 0.7: refused", {"datasets": "1,000", "measured": "all"}), "%", at_least(80)),
        bound="Holm's correction over 1,000 checks with validation splits of 100 documents.",
    ),
    Row("10^13 tokens: order of one step", "scale-simulation", Measured(simulated("order of one step"), "ms")),
    Row("… shards that a run reads", "scale-simulation", Measured(simulated("which shards the run reads"), "CPU s")),
    Row("… memory", "scale-simulation", Measured(simulated("memory of this process so far"), "MiB")),
    Row(
        "10^9 documents: index of duplicates",
        "scale-simulation",
        Measured(simulated(r"index of 1e\+09 documents"), "GB"),
    ),
    Row(
        "dollars a TB (23.75 published by the peer, for near-duplicates alone)",
        "scale-simulation",
        Measured(simulated("… a TB of it, dollars"), "dollars"),
        "NeMo Curator",
    ),
    Row("… 10^10 documents of 5 kB", "scale-simulation", Measured(simulated("… dollars"), "dollars")),
    *(
        Row(
            f"tokens end to end, 300 MB, vocabulary {name}",
            "tokens",
            Measured(Cell("rewarm's: ×", {"vocabulary": name, **TOKENS}), "×", at_least(10)),
            DATATROVE,
            START,
        )
        for name in ("8,192", "131,072")
    ),
    *(
        Row(
            f"… steady, vocabulary {name}",
            "tokens",
            Measured(Cell("rewarm's steady: ×", {"vocabulary": name, **TOKENS}), "×", at_least(10)),
            DATATROVE,
        )
        for name in ("8,192", "131,072")
    ),
    Row(
        "near-duplicates, 20,000 documents, time",
        "near-duplicates",
        Measured(After("datatrove/rewarm:"), "×", at_least(8)),
        DATATROVE,
    ),
    Row(
        "… recall at Jaccard 0.8, times the peer's",
        "near-duplicates",
        Measured(Ratio(Cell("rewarm", JACCARD), Cell("datatrove", JACCARD)), "×", at_least(1)),
        DATATROVE,
    ),
    Row(
        "… precision, times the peer's",
        "near-duplicates",
        Measured(Ratio(Cell("rewarm", PRECISION), Cell("datatrove", PRECISION)), "×", at_least(1)),
        DATATROVE,
    ),
    Row(
        "… tenth of ten arrivals, times the first",
        "near-duplicates-series",
        Measured(Cell("of the first", {"arrival": "10"}), "×", at_most(1.2)),
        bound=LOOKUPS,
    ),
    Row(
        "web archives to filtered documents, 2,000 pages",
        "ingest-pages",
        Measured(Ratio(Cell("pages a second", OURS), Cell("pages a second", PEERS)), "×", at_least(5)),
        DATATROVE,
        PAGES,
    ),
    Row("main text of 60 pages, recall", "main-text", Measured(Cell("recall", EXTRACTOR), "", at_least(0.97))),
    Row("… precision", "main-text", Measured(Cell("precision", EXTRACTOR), "", at_least(0.95))),
    Row(
        "… speed, 2,000 crawled pages, lower of two rounds",
        "main-text-speed",
        Measured(Cell("ratio", over=min), "×", at_least(5)),
        "datatrove's Trafilatura",
    ),
    Row("quality rules, all in order, CPU", "rules", Measured(Cell("ratio", ALL), "×"), DATATROVE),
    Row("… same decision", "rules", Measured(Cell("same decision", ALL), "%"), DATATROVE),
    Row(
        "decontamination: bytes taken, worst of the corpora",
        "decontamination",
        Measured(Cell("bytes", over=max), "%", at_most(2)),
        bound=CODE,
    ),
    Row(
        "… planted passages found, worst of the corpora",
        "decontamination",
        Measured(Cell("recall", over=min), "", at_least(0.99)),
        bound=CODE,
    ),
    Row(
        "ten equal arrivals: slowest, times the first",
        "ingest-series",
        Measured(Cell("relative to the first", over=max), "×", at_most(1.2)),
        bound=NOISE,
    ),
    Row(
        "memory of ingest, 16 × the text, driver",
        "ingest-memory",
        Measured(Ratio(Cell("driver, MiB", AT_16), Cell("driver, MiB", AT_1)), "×", at_most(1.2)),
        bound=BUFFERS,
    ),
    Row(
        "… largest worker",
        "ingest-memory",
        Measured(Ratio(Cell("largest worker, MiB", AT_16), Cell("largest worker, MiB", AT_1)), "×", at_most(1.2)),
        bound=BUFFERS,
    ),
)
