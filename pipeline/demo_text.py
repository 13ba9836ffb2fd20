"""Text of the demo: docstrings and source code of installed Python packages, so that no download is needed.

Three corpora: "sci-docs" to start from, "ml-docs" (a weak shift: prose on another subject), "code" (a strong shift).
The packages are parsed, never imported; the same versions of them give the same files to the byte.
"""

import ast
import importlib.util
import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import xxhash
import zstandard

from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Progress
from rewarm.stages.core.storage import Folder

SCIENCE = ("numpy", "scipy", "sklearn", "pandas", "sympy", "networkx", "nltk")
LEARNING = ("torch", "transformers", "ray", "deepspeed", "datasets")
PASSED_OVER = {"tests", "test", "testing", "_vendor", "vendored", "externals", "thirdparty_files", "__pycache__"}
MIN_DOCSTRING = 120  # characters: shorter ones say little
MIN_MODULE = 400  # characters of code: shorter ones only import
MAX_SOURCE = 100_000  # bytes of a file: larger ones are generated tables

Parts = Iterator[tuple[str, str]]  # name inside the module ("" for the module itself), text


@dataclass(frozen=True)
class Corpus:
    """Sources of one corpus."""

    name: str
    packages: tuple[str, ...]
    extract: Callable[[ast.Module], Parts]
    num_bytes: int  # of text, about: the last file is taken whole


@dataclass(frozen=True)
class SourceFile:
    """One file of an installed package."""

    package: str
    module: str  # dotted
    path: Path

    @property
    def key(self) -> str:
        """Orders files at random, the same everywhere."""
        return str(xxhash.xxh3_128_hexdigest(f"{self.module}:{self.path.name}".encode()))


def write_corpora(out: Path, progress: Progress) -> dict[str, Path]:
    """Write ``{sci-docs,ml-docs,code}.jsonl.zst`` with ``text``, ``url`` (dotted name) and ``source`` (package).

    Files that already hold the same bytes are left as they are. Returns the path of each corpus by its name; raises
    ``UsageError`` if a package is not installed.
    """
    roots = find_packages(SCIENCE + LEARNING)
    written = {}
    for corpus in CORPORA:
        data = pack(collect(corpus, roots, progress))
        path = out / f"{corpus.name}.jsonl.zst"
        if not path.exists() or path.read_bytes() != data:
            Folder(out).write(path.name, data)
        written[corpus.name] = path
    return written


def find_packages(names: tuple[str, ...]) -> dict[str, Path]:
    """The folder of each package, found without importing it."""
    specs = {name: importlib.util.find_spec(name) for name in names}
    roots = {name: list(spec.submodule_search_locations or []) for name, spec in specs.items() if spec}
    missing = [name for name in names if not roots.get(name)]
    if missing:
        raise UsageError(
            f"the demo takes its text from installed packages, and {', '.join(missing)} cannot be found: "
            'run pip install "rewarm[demo]"'
        )
    return {name: Path(places[0]) for name, places in roots.items()}


def collect(corpus: Corpus, roots: dict[str, Path], progress: Progress) -> dict[str, dict[str, str]]:
    """Documents by content hash, from files in random order until there is enough: a uniform sample of the files."""
    progress.begin(f"collecting {corpus.name}", corpus.num_bytes, "bytes")
    files = [file for package in corpus.packages for file in source_files(package, roots[package])]
    documents: dict[str, dict[str, str]] = {}
    collected = 0
    for file in sorted(files, key=lambda file: file.key):
        if collected >= corpus.num_bytes:
            break
        tree = parse(file.path)
        before = collected
        for name, text in corpus.extract(tree) if tree else ():
            try:
                encoded = text.encode()
            except UnicodeEncodeError:  # a literal with half of a surrogate pair
                continue
            key = xxhash.xxh3_128_hexdigest(encoded)
            if key not in documents:
                url = f"{file.module}.{name}".rstrip(".")
                documents[key] = {"text": text, "url": url, "source": file.package}
                collected += len(encoded)
        progress.advance(min(collected, corpus.num_bytes) - before)
    return documents


def source_files(package: str, root: Path) -> Iterator[SourceFile]:
    """The Python files of a package without its tests and what it carries of others."""
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if PASSED_OVER.isdisjoint(parts) and not parts[-1].startswith(("test_", "conftest")):
            inside = parts[:-1] if parts[-1] == "__init__" else parts
            yield SourceFile(package, ".".join((package, *inside)), path)


def parse(path: Path) -> ast.Module | None:
    """Parse a file; return None if it is too large or not valid Python for this version (templates)."""
    data = path.read_bytes()
    if len(data) > MAX_SOURCE:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(data)
    except (SyntaxError, ValueError, RecursionError):
        return None


def docstrings(tree: ast.Module) -> Parts:
    """The docstrings of a module and of the classes and functions in it, with dotted names."""
    waiting: list[tuple[str, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]] = [("", tree)]
    while waiting:
        name, node = waiting.pop()
        text = inspect.cleandoc(ast.get_docstring(node, clean=False) or "")
        if len(text) >= MIN_DOCSTRING:
            yield name, text
        waiting += [
            (f"{name}.{child.name}".lstrip("."), child)
            for child in node.body
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]


def bare_code(tree: ast.Module) -> Parts:
    """The module's code without docstrings and comments, laid out anew."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            node.body = node.body[1:] or [ast.Pass()]
    try:
        text = ast.unparse(tree)
    except RecursionError:  # an expression nested deeper than Python's stack
        return
    if len(text) >= MIN_MODULE:
        yield "", text


def pack(documents: dict[str, dict[str, str]]) -> bytes:
    """JSON lines in the order of the content hashes, which mixes the packages; compressed."""
    lines = b"".join(orjson.dumps(documents[key], option=orjson.OPT_APPEND_NEWLINE) for key in sorted(documents))
    return zstandard.ZstdCompressor(level=9).compress(lines)


CORPORA = (
    Corpus("sci-docs", SCIENCE, docstrings, 6_000_000),
    Corpus("ml-docs", LEARNING, docstrings, 3_000_000),
    Corpus("code", SCIENCE + LEARNING, bare_code, 3_000_000),
)
