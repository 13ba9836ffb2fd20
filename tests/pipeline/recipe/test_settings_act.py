"""Settings that other tests leave at their defaults: each changes what it says it changes."""

import numpy as np
import pytest

from rewarm.pipeline.plan.sample import Sample
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.stages.distill.filters import UNLIKELY, Drafts, Reason, decide, judge
from rewarm.stages.distill.settings import DistillSettings
from rewarm.stages.evaluate.task_sets import expand
from rewarm.stages.ingest.decontaminate.rule import choose_rule
from rewarm.stages.ingest.filters.settings import RulesSettings
from rewarm.stages.ingest.filters.steps import before_rules, rule_steps
from rewarm.stages.ingest.records import Document, Refusal
from rewarm.stages.ingest.settings import CleanSettings, DecontaminateSettings

ENGLISH = "The council met on Tuesday evening to discuss the new library building, which is to open next spring. " * 4


def document(text: str, language: str | None = None) -> Document:
    return Document(text, None, None, language, None)


@pytest.mark.parametrize(("trust_language", "language"), [(False, "en"), (True, "sv")])
def test_trust_language(trust_language: bool, language: str) -> None:
    found = document(ENGLISH, "sv")
    for step in before_rules(CleanSettings(trust_language=trust_language)):
        result = step(found)
        assert isinstance(result, Document)
        found = result
    assert found.language == language


@pytest.mark.parametrize(("citations", "text"), [(True, "It is old. Yes."), (False, "It is old.[3] Yes.")])
def test_citations(citations: bool, text: str) -> None:
    c4 = {"citations": citations, "min_sentences": None, "min_words_in_line": None}
    (step,) = rule_steps(RulesSettings.model_validate({"apply": ["c4"], "c4": c4}))
    found = step(document("It is old.[3] Yes."))
    assert isinstance(found, Document)
    assert found.text == text


@pytest.mark.parametrize(("short_line", "kept"), [(30, False), (5, True)])
def test_short_line(short_line: int, kept: bool) -> None:
    off = dict.fromkeys(("min_punctuated_lines", "max_duplicate_line_characters", "max_line_breaks"))
    settings = {"apply": ["fineweb"], "fineweb": {**off, "short_line": short_line}}
    (step,) = rule_steps(RulesSettings.model_validate(settings))
    found = step(document("\n".join(f"line {number} of it" for number in range(9))))
    assert isinstance(found, Document if kept else Refusal)


@pytest.mark.parametrize(("long_passage", "words"), [(30, 30), (60, 60), (2, 13)])
def test_long_passage(long_passage: int, words: int) -> None:
    """If every rule costs too much, only passages of so many words are cut (at least those of one run)."""
    settings = DecontaminateSettings(long_passage=long_passage)
    rule = choose_rule(lambda rules: [10**6 * (rule.passage < words) for rule in rules], 1000, settings)
    assert rule.passage == words


@pytest.mark.parametrize(("drop_unlikely", "dropped"), [(0.0, 0), (0.25, 2), (0.5, 4)])
def test_drop_unlikely(drop_unlikely: float, dropped: int) -> None:
    hashes = np.array([f"{number:016d}" for number in range(8)], "S16")
    none = np.zeros(8, bool)
    drafts = Drafts(hashes, hashes, np.full(8, 40), np.linspace(1, 2, 8), none, np.full(8, 200), none)
    decision = decide(drafts, [], drop_unlikely, 40)
    assert decision is not None
    assert (decision.fates == UNLIKELY).sum() == dropped


@pytest.mark.parametrize(("repetition_ngram", "refused"), [(3, True), (11, False)])
def test_repetition_ngram(repetition_ngram: int, refused: bool) -> None:
    tokens = [*range(10), *range(100, 110), *range(10), *range(200, 210), *range(10)]
    settings = DistillSettings(repetition_ngram=repetition_ngram, min_tokens=1, max_repetition=0.3)
    found = judge("Some text.", tokens, len(tokens), 1.0, settings)
    assert (found is not None and found[0] == Reason.REPETITIVE) == refused


def test_num_fewshot() -> None:
    shots = load_recipe("tiny", ["evaluate.num_fewshot=3"]).evaluate.num_fewshot
    assert expand(["arc_easy"], shots) == {"arc_easy": 3}
    assert expand(["arc_easy"], None) == {"arc_easy": None}


def test_loss_bytes_bounds_what_the_plan_runs_the_model_on() -> None:
    settings = load_recipe("tiny", ["plan.loss_bytes=10000"]).plan
    sample = Sample.__new__(Sample)
    object.__setattr__(sample, "texts", {str(number): "x" * 3000 for number in range(9)})
    assert len(sample.first(settings.loss_bytes)) == 4
    assert len(sample.first(10**6)) == 9


def test_examples_bound_what_a_classifier_learns_from() -> None:
    assert load_recipe("tiny", ["select.examples=500"]).select.examples == 500
