"""The structure and the language of the code base in figures, each beside its goal.

Run from a checkout: ``python benchmarks/house.py``. Nothing is imported but the recipe, whose settings are counted;
everything else is read from the sources. Exits with 1 if a goal is missed.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pipeline", "stages")
SHORT, LONG = 60, 400  # lines of a module
WIDE = 8  # parameters of a function
VAGUE = {"found", "made", "one", "part", "given", "place"}  # names that say that a value is there, not what it is
IDIOMS = (  # per thousand docstrings; position verbs and separable verbs in the place of plain ones
    r"\bst(?:and|ands|ood|anding) (?:in|on|at|there|beside|below|under|with|for)\b",
    r"\bl(?:ie|ies|ay|ying) (?:in|on|at|there|beside|below|under)\b",
    r"\b(?:go|goes|went|going|gone) on\b",
    r"\b(?:take|takes|took|taken|taking)(?: \w+)? in\b",
    r"\bwhat (?:became|becomes) of\b",
)
OPENINGS = ("What ", "How ", "Which ", "Where ")
IDEAS = {  # a word of the idea is part of the path of the file that holds it
    "compute-equivalent replay": r"replay/(?:run|shares)",
    "replay over a lineage": r"replay/\w*(?:lineage|reads|ledger)",
    "infinite schedule": r"schedule",
    "cosine re-warming": r"schedule",
    "anneal": r"anneal",
    "stability gap": r"gap",
    "MinHash": r"minhash",
    "decontamination": r"decontaminate",
    "language filter": r"filters/language",
    "WARC reader": r"readers/warc",
    "charset": r"charset",
    "main text of a page": r"main_text",
    "PII masks": r"pii",
    "tokenizer": r"tokeniz",
    "data order (mixture)": r"mixture|order",
    "document mask": r"document_mask",
    "weights digest": r"weights|digests",
    "checkpoint resume": r"checkpoint",
    "ZeRO engine": r"engine",
    "lm-eval": r"lm_eval",
    "forgetting": r"forgetting",
    "gate verdict": r"gate/verdict",
    "lease": r"lease",
    "promote and roll back": r"releases|promot",
    "rewarm plan": r"plan/plan",
    "the report's data": r"report/(?:record|data|from_lineage)",
}


@dataclass(frozen=True)
class Module:
    """A source file: its dotted name, its path from the root, its text and its tree."""

    name: str
    path: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """Lines, blank ones included."""
        return self.text.count("\n")


@cache
def modules() -> tuple[Module, ...]:
    """All modules of the product."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            text, name = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
            dotted = name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
            found.append(Module(dotted, name, text, ast.parse(text)))
    return tuple(found)


def imports(module: Module) -> Iterator[str]:
    """Modules of the product that a module imports anywhere, types included."""
    names = {other.name for other in modules()}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            base = node.module.removeprefix("rewarm.")
            for alias in node.names:
                for name in (f"{base}.{alias.name}", base):
                    if name in names:
                        yield name
                        break


def layers() -> list[list[str]]:
    """The levels that import-linter holds, upper first; each a list of rooms."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    found = max((contract["layers"] for contract in contracts if contract["type"] == "layers"), key=len)
    return [[room.strip("() ").removeprefix("rewarm.") for room in re.split(r"[|:]", level)] for level in found]


def room_of(name: str) -> str:
    """A module's room: the longest that the levels name, else its folder or file below the package."""
    named = [room for level in layers() for room in level if name == room or name.startswith(f"{room}.")]
    return max(named, key=len) if named and max(named, key=len) not in PACKAGES else ".".join(name.split(".")[:2])


def room_graph() -> dict[str, set[str]]:
    """Which rooms each room imports."""
    graph: dict[str, set[str]] = {}
    for module in modules():
        here = graph.setdefault(room_of(module.name), set())
        here |= {room_of(name) for name in imports(module)} - {room_of(module.name)}
    return graph


def in_cycles() -> int:
    """Rooms of ``pipeline`` that can reach themselves."""
    graph = room_graph()

    def reachable(start: str) -> set[str]:
        seen, stack = set(), list(graph.get(start, ()))
        while stack:
            room = stack.pop()
            if room not in seen:
                seen.add(room)
                stack += graph.get(room, ())
        return seen

    return sum(room.startswith("pipeline") and room in reachable(room) for room in graph)


def upward() -> int:
    """Arrows between rooms of the levels that do not point down."""
    rank = {room: level for level, rooms in enumerate(layers()) for room in rooms}
    return sum(
        rank[here] >= rank[there]
        for here, targets in room_graph().items()
        for there in targets
        if here in rank and there in rank
    )


def docstrings() -> list[str]:
    """Every docstring of the product."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for module in modules() for node in ast.walk(module.tree) if isinstance(node, kinds))
    return [text for node in nodes if (text := ast.get_docstring(node))]


def idioms() -> float:
    """Foreign idioms per thousand docstrings."""
    texts = docstrings()
    found = sum(len(re.findall(pattern, text, re.IGNORECASE)) for text in texts for pattern in IDIOMS)
    return 1000 * found / len(texts)


def question_openings() -> int:
    """Modules whose docstring opens with What, How, Which or Where."""
    return sum((ast.get_docstring(module.tree) or "").startswith(OPENINGS) for module in modules())


def short_share() -> float:
    """Share of the modules (packages' own files left out) that have less than ``SHORT`` lines, in percent."""
    real = [module for module in modules() if not module.path.endswith(("__init__.py", "__main__.py"))]
    return 100 * sum(module.lines < SHORT for module in real) / len(real)


def longest() -> int:
    """Lines of the longest module."""
    return max(module.lines for module in modules())


def story_files() -> int:
    """Files from the command to the commit of an update.

    These are the command's, the function behind it, the story's, and those of the functions that the story calls.
    """
    story = next(module for module in modules() if module.path == "pipeline/update/update.py")
    functions = {node.name: node for node in story.tree.body if isinstance(node, ast.FunctionDef)}
    told = ("update", "prepare", "put_in_order", "learn")
    called = {
        node.func.id
        for name in told
        for node in ast.walk(functions[name])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id[0].islower()
    }
    sources = {
        alias.asname or alias.name: node.module
        for node in story.tree.body
        if isinstance(node, ast.ImportFrom) and "pipeline.update" in str(node.module)
        for alias in node.names
    }
    return len({"cli/update", "api/updates", story.path} | {sources[name] for name in called if name in sources})


def unnamed_settings() -> list[str]:
    """Settings that no test, preset, benchmark or page names."""
    sys.path.insert(0, str(ROOT))
    from rewarm.pipeline.cli.options import setting_keys

    places = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").glob("*"), *(ROOT / "pipeline").rglob("*.yaml")]
    places += [page for page in (ROOT / "docs").glob("*.md") if page.name != "settings.md"] + [ROOT / "README.md"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in places if path.is_file())
    keys = [key.rstrip("=") for key, _ in setting_keys("")]

    def named(name: str) -> bool:
        """Whether a text has the name, or its pattern where a test counts through a family of settings."""
        family = re.sub(r"_\d+_", "_{n}_", name)
        return bool(re.search(rf"\b{re.escape(name)}\b", text)) or (family != name and family in text)

    return [key for key in keys if not named(key.rpartition(".")[2])]


def vague_names() -> float:
    """Assignments to vague names, loops included, per thousand lines."""
    assigned = sum(
        isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in VAGUE
        for module in modules()
        for node in ast.walk(module.tree)
    )
    return 1000 * assigned / sum(module.lines for module in modules())


def wide_functions() -> int:
    """Functions of more than ``WIDE`` parameters; those of a command are its options."""
    functions = (
        node
        for module in modules()
        if not module.path.startswith("pipeline/cli/")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )

    def width(arguments: ast.arguments) -> int:
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        return sum(argument.arg not in ("self", "cls") for argument in named)

    return sum(width(function.args) > WIDE for function in functions)


def format_files() -> int:
    """Files that name an input format, by its name, a suffix or its record; of formats whose name has no other use."""
    formats = ("csv", "tsv", "warc", "wet", "megatron", "datatrove")

    def names(module: Module, words: set[str]) -> bool:
        return any(
            (isinstance(node, ast.Constant) and node.value in words)
            or (isinstance(node, ast.Name) and node.id in words)
            or (isinstance(node, ast.alias) and node.name in words)
            for node in ast.walk(module.tree)
        )

    return max(sum(names(module, {name, f".{name}", name.upper()}) for module in modules()) for name in formats)


def readme_lines() -> int:
    """Lines of the README."""
    return (ROOT / "README.md").read_text(encoding="utf-8").count("\n")


def ideas_found() -> int:
    """Ideas of which a word is part of some file's path."""
    return sum(any(re.search(pattern, module.path) for module in modules()) for pattern in IDEAS.values())


Row = tuple[str, Callable[[], float], str, Callable[[float], bool]]  # name, measure, goal, whether it holds
ROWS: tuple[Row, ...] = (
    ("rooms of pipeline/ in import cycles", in_cycles, "0", lambda value: value == 0),
    ("imports between rooms that point upward", upward, "0", lambda value: value == 0),
    ("files from the command to the commit", story_files, "<= 7", lambda value: value <= 7),
    ("modules under 60 lines, percent", short_share, "<= 10", lambda value: value <= 10),
    ("longest module, lines", longest, "<= 400", lambda value: value <= LONG),
    ("idioms per 1,000 docstrings", idioms, "<= 6", lambda value: value <= 6),
    ("modules that open with a question word", question_openings, "0", lambda value: value == 0),
    ("settings that nothing names", lambda: len(unnamed_settings()), "0", lambda value: value == 0),
    ("vague names assigned per 1,000 lines", vague_names, "<= 17", lambda value: value <= 17),
    (f"functions of more than {WIDE} parameters", wide_functions, "0", lambda value: value == 0),
    ("files that name an input format", format_files, "<= 2", lambda value: value <= 2),
    ("README lines", readme_lines, "<= 230", lambda value: value <= 230),
    (f"ideas found by a word of a path, of {len(IDEAS)}", ideas_found, ">= 22", lambda value: value >= 22),
)


def main() -> int:
    """Print the table; 1 if a goal is missed."""
    missed = 0
    for name, measure, goal, holds in ROWS:
        value = measure()
        missed += not holds(value)
        print(f"{name:45}{value:10.1f}   goal {goal:8}{'' if holds(value) else 'missed'}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
