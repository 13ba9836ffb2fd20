"""Sampling: the distribution that is drawn from, the probabilities that are kept, and what a batch must not change."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from foreign_tokenizers import byte_level
from training_world import World

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.tokenizer import Definition, load_definition
from rewarm.stages.distill.sampling import Draft, Sampler, forbidden_tokens, uniforms
from rewarm.stages.distill.settings import DistillSettings
from rewarm.stages.inference.generate import draw
from rewarm.stages.tokenize import import_tokenizer

LENGTH = 48
BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"


@pytest.fixture(scope="module")
def words(writer: Folder) -> "object":
    return transformers.AutoTokenizer.from_pretrained(writer.path)


def definition_of(words: "object") -> Definition:
    return load_definition(Folder(words.name_or_path))


def sampler(folder: Folder, words: "object", **settings: object) -> Sampler:
    from rewarm.stages.inference.actors import load_model

    given = DistillSettings.model_validate(settings)
    return Sampler(load_model(folder, gpu=False), words, definition_of(words), given, LENGTH)


def surprises(model: "object", draft: Draft) -> np.ndarray:
    """-log p of every token that the model chose, by one forward pass over the whole document."""
    whole = torch.tensor([[0, *draft.tokens, *([0] if draft.ended else [])]])
    with torch.no_grad():
        found = model(input_ids=whole[:, :-1]).logits.log_softmax(dim=-1)
    return -found[0].gather(1, whole[0, 1:, None])[draft.prompt_tokens :].double().numpy()


def numbers(documents: range) -> np.ndarray:
    return np.stack([uniforms(7, document, LENGTH) for document in documents])


def test_a_draw_follows_the_distribution_exactly() -> None:
    chances = torch.tensor([0.5, 0.0, 0.2, 0.3])
    count = 1000
    places = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    drawn = draw(chances.log().expand(count, -1), places)
    assert torch.bincount(drawn, minlength=4).tolist() == [500, 0, 200, 300]
    assert draw(chances.log().expand(2, -1), torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)).tolist() == [0, 3]


def test_a_documents_numbers_are_its_own() -> None:
    assert (uniforms(1, 5, 8) == uniforms(1, 5, 8)).all()
    assert (uniforms(1, 5, 4) == uniforms(1, 5, 8)[:4]).all()
    assert not np.isin(uniforms(1, 5, 8), [*uniforms(1, 6, 8), *uniforms(2, 5, 8)]).any()


@pytest.mark.parametrize("shape", [{}, {"temperature": 0.7}, {"top_k": 5}, {"top_p": 0.8}])
def test_the_log_probabilities_are_those_of_a_forward_pass(writer: Folder, words: "object", shape: dict) -> None:
    made = sampler(writer, words, **shape)
    prompts = [[], [5, 9, 77], [30], [], [], [11, 12], [], []] * 3
    drafts = made.sample(prompts, numbers(range(24)))
    assert any(draft.ended for draft in drafts), "rows leave the batch while others go on"
    assert not all(draft.ended for draft in drafts)
    for prompt, draft in zip(prompts, drafts, strict=True):
        chosen = surprises(made.model, draft)
        assert draft.nats == pytest.approx(chosen.sum(), rel=1e-5)
        assert draft.mean_nats == pytest.approx(chosen.mean(), rel=1e-5)
        assert draft.tokens[: draft.prompt_tokens] == prompt
        assert draft.ended == (len(draft.tokens) < LENGTH)


def random_model(kind: str, words: "object", **more: int) -> "object":
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=len(words) + 5, max_position_embeddings=64, **sizes, **more)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma3_text"])
def test_other_caches_hold_the_same_context(kind: str, words: "object") -> None:
    model = random_model(kind, words, num_key_value_heads=2, **({} if kind == "llama" else {"sliding_window": 8}))
    with torch.no_grad():
        model.get_output_embeddings().weight[words.eos_token_id] *= 10  # so that some end early
    drafts = Sampler(model, words, definition_of(words), DistillSettings(), LENGTH).sample(
        [[], [5, 9, 77]] * 8, numbers(range(16))
    )
    assert len({draft.ended for draft in drafts}) == 2
    for draft in drafts:
        assert draft.nats == pytest.approx(surprises(model, draft).sum(), rel=1e-5)
        assert max(draft.tokens, default=0) < len(words), "rows that pad the vocabulary are no text"


def test_a_model_without_a_key_value_cache_is_refused(words: "object") -> None:
    made = Sampler(random_model("mamba", words, state_size=4), words, definition_of(words), DistillSettings(), LENGTH)
    with pytest.raises(UsageError, match="a mamba model cannot be distilled"):
        made.sample([[]], numbers(range(1)))


def test_a_document_does_not_depend_on_those_beside_it(writer: Folder, words: "object") -> None:
    made = sampler(writer, words)
    prompts = [[5, 9], [], [], [20, 21, 22], [], []]
    together = made.sample(prompts, numbers(range(6)))
    alone = [made.sample([prompt], numbers(range(place, place + 1)))[0] for place, prompt in enumerate(prompts)]
    assert [draft.tokens for draft in together] == [draft.tokens for draft in alone]
    assert [draft.nats for draft in together] == pytest.approx([draft.nats for draft in alone], rel=1e-5)


def test_the_likeliest_token_is_what_transformers_generates(writer: Folder, words: "object") -> None:
    made = sampler(writer, words, top_k=1)
    draft = made.sample([[5, 9, 77]], numbers(range(1)))[0]
    given = torch.tensor([[0, 5, 9, 77]])
    expected = made.model.generate(given, do_sample=False, max_new_tokens=LENGTH - 3, pad_token_id=0)[0, 1:].tolist()
    assert draft.tokens == expected[: len(draft.tokens)]


@pytest.mark.parametrize("special", [(BOS, EOS), (BOS, "[gMASK]", "<sop>", EOS)])
def test_a_model_with_bos_writes_from_bos_and_never_writes_it(special: tuple[str, ...], tmp_path: Path) -> None:
    """Documents are drawn from what the tokenizer puts before a text: one token, or two (GLM)."""
    opening = special[1:-1] or special[:1]
    import_tokenizer(byte_level(tmp_path / "source", special, " ".join((*opening, "$A"))), Folder(tmp_path / "lineage"))
    words = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "lineage"))
    model, end = random_model("llama", words), words.convert_tokens_to_ids(EOS)
    with torch.no_grad():
        model.get_output_embeddings().weight[end] *= 10
    made = Sampler(model, words, definition_of(words), DistillSettings(), LENGTH)
    drafts = made.sample([[], [20, 21, 22]] * 4, numbers(range(8)))
    assert any(draft.ended for draft in drafts)
    begin = words("")["input_ids"]
    assert begin == words.convert_tokens_to_ids(list(opening))
    for draft in drafts:
        whole = torch.tensor([[*begin, *draft.tokens, *([end] if draft.ended else [])]])
        with torch.no_grad():
            found = model(input_ids=whole[:, :-1]).logits.log_softmax(dim=-1)
        chosen = -found[0].gather(1, whole[0, 1:, None])[len(begin) - 1 + draft.prompt_tokens :].double()
        assert draft.nats == pytest.approx(float(chosen.sum()), rel=1e-5)
        assert not set(words.convert_tokens_to_ids(list(special))) & set(draft.tokens)


def test_what_is_no_text_is_never_drawn(words: "object") -> None:
    special = set(words.all_special_ids)
    assert forbidden_tokens(words, definition_of(words), len(words) + 3, words.eos_token_id).tolist() == [
        *sorted(special - {words.eos_token_id}),
        *range(len(words), len(words) + 3),
    ]


def test_a_diverged_model_is_noticed(world: World, words: "object") -> None:
    made = sampler(world.start, words)
    with torch.no_grad():
        made.model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(StageError, match="diverged"):
        made.sample([[]], numbers(range(1)))


def test_means_count_the_end_of_text() -> None:
    assert Draft([1, 2, 3, 4], 1, 8.0, ended=True).mean_nats == 2.0
    assert Draft([1, 2, 3, 4], 2, 8.0, ended=False).mean_nats == 4.0
    assert Draft([], 0, 3.0, ended=True).mean_nats == 3.0
