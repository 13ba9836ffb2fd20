"""No code decides by the words of an error or of a log: it reads types, kinds and codes (``stages.core.errors``)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The one place that reads codes out of other people's messages, and one that only adds an explanation to one.
READERS = {"stages/core/faults.py", "stages/ingest/readers/streams.py"}
DECIDING = {"startswith", "endswith", "find", "rfind", "index", "count", "partition", "rpartition", "removeprefix"}
PATTERNS = {"search", "match", "fullmatch", "findall", "finditer"}
PRINTED = {"log", "stderr", "printed", "output", "last_lines"}
ERRORS = ("Error", "Exception", "Failure")


def errors_of(function: ast.AST) -> set[str]:
    """Names of errors inside a function: those that are caught, and arguments that are annotated as such."""
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
        if isinstance(node, ast.arg) and node.annotation and ast.unparse(node.annotation).endswith(ERRORS):
            names.add(node.arg)
    return names


def searches_print(node: ast.Compare) -> bool:
    """Whether a comparison looks for fixed words in what a command has printed."""
    fixed = isinstance(node.left, ast.Constant) or (isinstance(node.left, ast.Name) and node.left.id.isupper())
    printed = any(isinstance(one, ast.Name) and one.id in PRINTED for one in node.comparators)
    return fixed and printed and isinstance(node.ops[0], ast.In | ast.NotIn)


def says(node: ast.AST, errors: set[str], words: set[str]) -> bool:
    """Whether an expression is an error's words, or one of ``words``, the names that hold such."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("str", "repr"):
        return any(isinstance(one, ast.Name) and one.id in errors for one in node.args)
    if isinstance(node, ast.Attribute) and node.attr in ("args", "message", "strerror"):
        return isinstance(node.value, ast.Name) and node.value.id in errors
    if isinstance(node, ast.Subscript):
        return says(node.value, errors, words)
    return isinstance(node, ast.Name) and node.id in words


def decides(node: ast.AST, errors: set[str], words: set[str]) -> bool:
    """Whether an expression decides by an error's words."""
    if isinstance(node, ast.Compare) and any(isinstance(one, ast.In | ast.NotIn | ast.Eq) for one in node.ops):
        sides = (node.left, *node.comparators)
        return any(says(one, errors, words) for one in sides) or searches_print(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in PATTERNS:
            return any(says(one, errors, words) for one in node.args)
        return node.func.attr in DECIDING and says(node.func.value, errors, words)
    return False


def faults(tree: ast.Module) -> Iterator[int]:
    """Lines in which words decide."""
    for function in [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]:
        errors = errors_of(function)
        assigned = [one for one in ast.walk(function) if isinstance(one, ast.Assign) and says(one.value, errors, set())]
        words = {name.id for one in assigned for name in one.targets if isinstance(name, ast.Name)}
        yield from (node.lineno for node in ast.walk(function) if decides(node, errors, words))


def test_no_code_reads_prose() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("pipeline", "stages")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if str(path.relative_to(ROOT)) not in READERS
        for line in faults(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, f"decide by the error's type or kind instead: {found}"


@pytest.mark.parametrize(
    "code",
    [
        "def f():\n try: g()\n except OSError as error:\n  if 'timed out' in str(error): return 1",
        "def f():\n try: g()\n except OSError as error:\n  said = str(error)\n  return said.startswith('no')",
        "def f(error: UsageError):\n return re.search('busy', str(error))",
        "def f(error: Exception):\n return error.args[0] == 'busy'",
        "def f(log):\n return BUSY in log",
        "def f(stderr):\n return 'is writing' in stderr",
    ],
)
def test_the_check_finds_what_it_is_for(code: str) -> None:
    assert list(faults(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "def f():\n try: g()\n except OSError as error:\n  raise StageError(str(error)) from error",
        "def f():\n try: g()\n except OSError as error:\n  return error.errno in (5, 28)",
        "def f(log):\n return name in log.finished",
    ],
)
def test_what_people_are_told_may_be_made_of_words(code: str) -> None:
    assert not list(faults(ast.parse(code)))
