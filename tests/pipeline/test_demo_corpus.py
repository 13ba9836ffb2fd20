"""The demo's corpora: taken from real installed packages, the same each time."""

import ast
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import zstandard

from rewarm.pipeline.demo_text import (
    CORPORA,
    LEARNING,
    SCIENCE,
    Corpus,
    bare_code,
    collect,
    docstrings,
    find_packages,
    pack,
    source_files,
    write_corpora,
)
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent

SOURCE = '''"""Module words."""
# a comment
import os  # another

class A:
    """Class words."""

    async def f(self):
        """Method words,
           indented.
        """

    def g(self):
        def h():
            """Inner words."""
        return h
'''


def rows(data: bytes) -> list[dict[str, str]]:
    return [orjson.loads(line) for line in zstandard.decompress(data, max_output_size=1 << 26).splitlines()]


def test_docstrings_are_named_and_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewarm.pipeline.demo_text.MIN_DOCSTRING", 1)
    found = dict(docstrings(ast.parse(SOURCE)))
    assert found == {
        "": "Module words.",
        "A": "Class words.",
        "A.f": "Method words,\nindented.",
        "A.g.h": "Inner words.",
    }


def test_code_keeps_neither_docstrings_nor_comments_and_is_still_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewarm.pipeline.demo_text.MIN_MODULE", 1)
    ((_, text),) = bare_code(ast.parse(SOURCE))
    assert "words" not in text
    assert "#" not in text
    assert text == ast.unparse(ast.parse(text))
    assert "async def f(self):\n        pass" in text


def test_a_small_corpus_is_a_mixed_sample_of_real_packages_and_repeats_exactly() -> None:
    corpus = Corpus("some", ("numpy", "networkx"), docstrings, 200_000)
    roots = find_packages(corpus.packages)
    data = pack(collect(corpus, roots, Silent()))
    documents = rows(data)
    num_bytes = sum(len(row["text"].encode()) for row in documents)
    assert 200_000 <= num_bytes < 300_000
    assert {row["source"] for row in documents} == {"numpy", "networkx"}
    assert {row["source"] for row in documents[:20]} == {"numpy", "networkx"}, (
        "the packages are mixed, not one after another"
    )
    assert len({row["text"] for row in documents}) == len(documents)
    assert min(len(row["text"]) for row in documents) >= 120
    for row in documents[:20]:  # each address leads to its text
        assert row["url"].startswith(row["source"])
    assert data == pack(collect(corpus, roots, Silent()))


def test_tests_of_the_packages_are_passed_over() -> None:
    modules = [file.module for file in source_files("numpy", find_packages(("numpy",))["numpy"])]
    assert "numpy.linalg._linalg" in modules
    assert not [module for module in modules if ".tests" in module]


def test_a_missing_package_is_named_with_the_way_to_get_it() -> None:
    with pytest.raises(UsageError, match=r'no_such_package_here cannot be found: run pip install "rewarm\[demo\]"'):
        find_packages(("numpy", "no_such_package_here"))


def test_the_three_corpora_at_a_tenth_of_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smaller = tuple(replace(corpus, num_bytes=corpus.num_bytes // 10) for corpus in CORPORA)
    monkeypatch.setattr("rewarm.pipeline.demo_text.CORPORA", smaller)
    paths = write_corpora(tmp_path, Silent())
    assert {name: path.name for name, path in paths.items()} == {
        name: f"{name}.jsonl.zst" for name in ("sci-docs", "ml-docs", "code")
    }
    found = {name: rows(path.read_bytes()) for name, path in paths.items()}
    sizes = {name: sum(len(row["text"].encode()) for row in documents) for name, documents in found.items()}
    for name, expected in (("sci-docs", 6e5), ("ml-docs", 3e5), ("code", 3e5)):
        assert expected <= sizes[name] < 1.4 * expected
    assert {"torch", "transformers", "ray"} <= {row["source"] for row in found["ml-docs"]} <= set(LEARNING)
    assert {row["source"] for row in found["sci-docs"]} == set(SCIENCE)
    assert {"numpy", "torch"} <= {row["source"] for row in found["code"]}
    for row in found["code"]:
        assert ast.parse(row["text"]).body
    untouched = paths["code"].stat().st_ino
    assert write_corpora(tmp_path, Silent())["code"].stat().st_ino == untouched
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "code.jsonl.zst",
        "ml-docs.jsonl.zst",
        "sci-docs.jsonl.zst",
    ]
