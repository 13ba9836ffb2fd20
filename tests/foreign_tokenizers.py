"""Tokenizers as other people's models have them: BOS before a text, several tokens there, SentencePiece's pieces."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TEXTS = (
    "The mean of an array along an axis: nan values are ignored.",
    "def mean(values, axis=None):\n    return sum(values) / len(values)\n",
    "Привет, мир! Модели учатся на новых данных каждый месяц.",
    "模型每个月都会学习新的数据。",
    "He said </s> and <s>, and the page went on. <|begin_of_text|> is a marker, <|im_end|> too.",
    "naïve café größer 👩‍👩‍👧 \t\r\n\n",
)


def save(folder: Path, raw: Any, **config: object) -> Path:
    """The two files that a fast tokenizer's folder needs."""
    folder.mkdir(parents=True, exist_ok=True)
    raw.save(str(folder / "tokenizer.json"))
    given = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **config}
    (folder / "tokenizer_config.json").write_text(json.dumps(given))
    return folder


def byte_level(
    folder: Path,
    special: Iterable[str] = ("<|begin_of_text|>", "<|end_of_text|>"),
    template: str = "<|begin_of_text|> $A",
    texts: Iterable[str] = TEXTS,
    **config: object,
) -> Path:
    """Byte-level BPE, as Llama 3's: its post-processor puts ``template`` around a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(texts, trainer)
    around = [token for token in template.split() if token != "$A"]
    if around:
        raw.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[(token, raw.token_to_id(token)) for token in around]
        )
    named = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    return save(folder, raw, **{**named, **config})


def sentencepiece(folder: Path, texts: Iterable[str] = TEXTS) -> Path:
    """Unigram with byte fallback, whose vocabulary holds ``<s>`` and ``</s>`` as pieces; BOS before a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    characters = sorted({character for text in texts for character in text if character.isalpha()})
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    pieces += [("▁", -3.0), *((character, -5.0) for character in [*characters, *"<>/.,:()"])]
    pieces += [("▁the", -4.0), ("ing", -4.5), ("▁page", -6.0), ("es", -4.8)]
    raw = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    raw.add_special_tokens(["<unk>", "<s>", "</s>"])
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return save(folder, raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
