"""Hugging Face model folders: loading that accounts for every tensor, and writing that other programs can read.

``from_pretrained`` initialises missing tensors at random and drops unexpected ones, with a warning that is easily
missed; folders written by transformers 5 store rotary frequencies in fields that transformers 4, vLLM and converters do
not know. This module handles both for every stage that loads or writes a model.
"""

import dataclasses
import json
import re
import shutil
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.storage import Folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("vocab.bpe", "tekken.json", "tiktoken.model", "qwen.tiktoken", "tokenizer.model.v3"),
    *("chat_template.jinja", "chat_template.json", "document_form.json"),
)
"""Data files of a tokenizer: the fast tokenizer, the originals that converters read (SentencePiece, Tekken, tiktoken),
and a lineage's document form."""
LICENCE_FILES = (
    *("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "COPYRIGHT*", "USE_POLICY*", "*_LICENSE*"),
    *("*TERMS*", "*AGREEMENT*", "USAGE_POLICY*", "ACCEPTABLE_USE*"),
)
"""Terms that accompany the weights."""
PORTABLE_CLASS = "PreTrainedTokenizerFast"
"""The class that uses ``tokenizer.json`` unchanged, by the name known to transformers 4 and 5."""
POSITIONS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "max_seq_length"),
    *("max_target_positions", "n_ctx", "model_max_length"),
)
"""Configuration fields that bound the sequence length, by model type; the first one present counts."""
TEXT_PARTS = ("text_config", "llm_config", "language_config", "decoder")
"""Fields with the configuration of the text model inside a larger one."""
MASKS = re.compile(r"(\.(self_)?(attn|attention)\.(bias|masked_bias|causal_mask)|rotary_emb\.inv_freq)$")
"""Constants that older libraries stored with the weights; no model reads them from the files."""
SHOWN = 4  # tensors that a message names


def read_config(folder: Path, name: str = CONFIG) -> dict[str, Any]:
    """Read a folder's configuration; ``UsageError`` if it is not a JSON object."""
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UsageError(f"{folder / name}: not a configuration: {_line(error)}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{folder / name}: expected a JSON object, found {type(value).__name__}")
    return value


def weight_files(folder: Path) -> list[str]:
    """Return the names of the safetensors files that ``from_pretrained`` reads in a folder.

    Raises ``UsageError`` if there are none, if the index names a file that is missing or outside the folder, or if
    there are an index and a single file, of which only the latter would be read.
    """
    if (folder / WEIGHTS).is_file():
        if (folder / INDEX).is_file() and read_index(folder) != [WEIGHTS]:
            raise UsageError(
                f"{folder}: contains both {WEIGHTS} and {INDEX}, which names other files: two sets of weights, one of "
                "which may be out of date; remove one of them"
            )
        return [WEIGHTS]
    if not (folder / INDEX).is_file():
        others = sorted(path.name for path in folder.glob("*.safetensors"))
        found = f"found only {', '.join(others[:SHOWN])}" if others else "no *.safetensors"
        raise UsageError(
            f"{folder}: no weights in {WEIGHTS} or {INDEX} ({found}); pickled weights are not loaded: convert them to "
            "safetensors first (save_pretrained)"
        )
    names = read_index(folder)
    outside = [name for name in names if Path(name).name != name or name in ("", ".", "..")]
    if outside:
        raise UsageError(f"{folder / INDEX}: names files outside the folder: {', '.join(outside[:SHOWN])}")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            f"{folder / INDEX}: {len(missing)} of {len(names)} files are missing: {', '.join(missing[:SHOWN])}; "
            "download or copy the folder again"
        )
    return names


def read_index(folder: Path) -> list[str]:
    """Return the files named by a folder's index, sorted; ``UsageError`` if it is not an index."""
    try:
        names = set(read_config(folder, INDEX)["weight_map"].values())
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{folder / INDEX}: not an index with a weight_map: {error!r}") from error
    if not names or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{folder / INDEX}: its weight_map names no files")
    return sorted(names)


def load_causal_model(folder: Path, dtype: "torch.dtype | str") -> "PreTrainedModel":
    """Load a folder's causal model: safetensors only, no code from the folder, every tensor from the files.

    ``dtype`` "auto" is that of the files. Raises ``StageError``, naming the tensors, if any are missing from the files,
    have a different shape, or are unexpected. Exceptions are tied weights, which are stored once, and constants that
    older libraries stored (masks, rotary frequencies).
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    try:
        weight_files(folder)
    except UsageError as error:
        raise StageError(str(error)) from error
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # hides its table of faults: the message below replaces it
    loader: Any = AutoModelForCausalLM  # its stubs lack the report
    try:
        model, report = loader.from_pretrained(
            folder,
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as error:  # the library raises many kinds
        raise StageError(f"{folder}: transformers cannot load the model: {_line(error)}") from error
    finally:
        logging.set_verbosity(before)
    faults = loading_faults(report)
    if faults:
        raise StageError(
            f"{folder}: the weights do not match its {CONFIG} ({type(model).__name__}): {'; '.join(faults)}. "
            "Tensors are not initialised at random: copy the folder again, or save the model with save_pretrained"
        )
    return model  # type: ignore[no-any-return]


def loading_faults(report: dict[str, Any]) -> list[str]:
    """Describe the problems in the report of ``from_pretrained``; empty if every tensor is accounted for."""
    unexpected = sorted(name for name in report["unexpected_keys"] if not MASKS.search(name))
    mismatched = [
        f"{name} (stored {list(stored)}, needed {list(needed)})"
        for name, stored, needed in sorted(report["mismatched_keys"], key=lambda entry: str(entry[0]))
    ]
    kinds = [
        ("missing in the files", sorted(report["missing_keys"])),
        ("of another shape", mismatched),
        ("in the files but not in the model", unexpected),
    ]
    faults = [f"{len(names)} tensors {what}: {_some(names)}" for what, names in kinds if names]
    return [*faults, *map(_line, report.get("error_msgs") or [])]


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")


def _line(error: object) -> str:
    return " ".join(str(error).split())[:400]


def stored_dtypes(folder: Path) -> dict[str, str]:
    """Return the dtype of each tensor in a folder's weight files, as named by safetensors (``BF16``, ``F32`` …)."""
    from safetensors import safe_open

    found = {}
    for name in weight_files(folder):
        with safe_open(folder / name, framework="np") as stored:
            found.update({key: str(stored.get_slice(key).get_dtype()) for key in stored.keys()})  # noqa: SIM118
    return found


def stored_dtype(folder: Path) -> "torch.dtype":
    """Return the dtype of most of a folder's tensors: float32, bfloat16 or float16; others count as float32."""
    import torch

    counts = Counter(stored_dtypes(folder).values())
    names = {"BF16": torch.bfloat16, "F16": torch.float16}
    return names.get(counts.most_common(1)[0][0], torch.float32) if counts else torch.float32


def dtype_of(folder: Folder) -> str:
    """Return the dtype in a folder's configuration; ``float32`` if it has none, or one not used for releases."""
    config = json.loads(folder.read(CONFIG))
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return name if name in ("bfloat16", "float16") else "float32"


def longest_sequence(folder: Path) -> tuple[int, str] | None:
    """Return the maximum sequence length of a folder's model, and the field that sets it; None if unbounded.

    This is the smallest bound in ``config.json``, at its top level or in the text model's part; if there is none, the
    default of the model type.
    """
    if not (folder / CONFIG).is_file():
        return None
    config = read_config(folder)
    return bound_of(config) or _default_bound(config)


def bound_of(config: dict[str, Any]) -> tuple[int, str] | None:
    """Return the smallest bound on the sequence length in a configuration, and its field."""
    parts = [("", config), *((f"{part}.", config[part]) for part in TEXT_PARTS if isinstance(config.get(part), dict))]
    bounds = []
    for prefix, fields in parts:
        given = [(fields[name], f"{prefix}{name}") for name in POSITIONS if isinstance(fields.get(name), int)]
        bounds += [bound for bound in given if bound[0] > 0][:1]
    return min(bounds, default=None)


def _default_bound(config: dict[str, Any]) -> tuple[int, str] | None:
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING

    try:
        known = CONFIG_MAPPING[config["model_type"]](**config)
    except (KeyError, TypeError, ValueError, StrictDataclassError):
        return None  # transformers cannot load it, which is refused elsewhere
    bound = bound_of(known.to_dict())
    return bound and (bound[0], f"{bound[1]} ({known.model_type}'s default)")


# -- writing -------------------------------------------------------------------------------------------------


def companions(source: Path) -> list[str]:
    """Return the names of the files that are copied with a folder's weights: tokenizer and licence."""
    names = sorted(path.name for path in source.iterdir() if path.is_file())
    return [
        name
        for name in names
        if name in TOKENIZER_FILES or any(fnmatchcase(name.upper(), pattern) for pattern in LICENCE_FILES)
    ]


def carry_over(source: Path, target: Path, tokenizer: Path | None = None) -> None:
    """Copy tokenizer and licence, byte for byte, to a model's folder; call ``make_portable`` afterwards.

    ``tokenizer`` is a folder whose tokenizer is copied instead of ``source``'s.
    """
    for name in companions(source):
        if tokenizer is None or name not in TOKENIZER_FILES:
            shutil.copyfile(source / name, target / name)
    if tokenizer is not None:
        for name in set(companions(tokenizer)) & set(TOKENIZER_FILES):
            shutil.copyfile(tokenizer / name, target / name)


def make_portable(folder: Path) -> None:
    """Make a written folder readable by transformers 4 and software built on it, as well as by transformers 5.

    ``config.json`` records the dtype of the files and receives the older names in addition to the newer ones.
    ``tokenizer_config.json`` is unchanged unless it uses names that only transformers 5 knows.
    """
    config = {**read_config(folder), "dtype": str(stored_dtype(folder)).removeprefix("torch.")}
    write_config(folder / CONFIG, with_older_names(config))
    path = folder / "tokenizer_config.json"
    if path.is_file():
        given = read_config(folder, path.name)
        made = portable_tokenizer(given)
        if made != given:
            write_config(path, made)


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Write a configuration as transformers does; it may contain Infinity, which strict JSON does not allow."""
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def with_older_names(config: dict[str, Any]) -> dict[str, Any]:
    """Return a transformers 5 configuration with the names of transformers 4 added, also in nested parts.

    ``dtype`` is ``torch_dtype``; ``rope_parameters`` is ``rope_theta``, ``rope_scaling`` and
    ``partial_rotary_factor`` (GPT-NeoX: ``rotary_emb_base``, ``rotary_pct``). If it differs by layer type, the fields
    are those of full attention, and ``rope_local_base_freq`` (or ``local_rope_theta``) that of sliding windows. Fields
    that a class stores under an alias (Qwen3-MoE's ``num_experts``) are included under both names.
    """
    made = {
        name: with_older_names(value) if isinstance(value, dict) and name != "rope_parameters" else value
        for name, value in config.items()
    }
    if "dtype" in made:
        made["torch_dtype"] = made["dtype"]
    made |= older_fields(made)
    parameters = made.get("rope_parameters")
    if isinstance(parameters, dict) and parameters:
        made |= older_rope(parameters, str(made.get("model_type", "")))
    return made


def older_fields(config: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that a configuration's class stores under an alias, by their original names."""
    from transformers import CONFIG_MAPPING

    if config.get("model_type") not in CONFIG_MAPPING:
        return {}
    kind = CONFIG_MAPPING[config["model_type"]]
    own = {field.name for field in dataclasses.fields(kind)}
    return {name: config[stored] for name, stored in kind.attribute_map.items() if name in own and stored in config}


def older_rope(parameters: dict[str, Any], model_type: str) -> dict[str, Any]:
    """Return ``rope_parameters`` under the names of transformers 4."""
    by_kind = {kind: value for kind, value in parameters.items() if isinstance(value, dict)}
    main = by_kind.get("full_attention", next(iter(by_kind.values()))) if by_kind else parameters
    local = by_kind.get("sliding_attention", {}).get("rope_theta")
    own = {"rope_theta", "partial_rotary_factor"}
    scaling = {name: value for name, value in main.items() if name not in own}
    found: dict[str, Any] = {"rope_scaling": None if scaling.get("rope_type", "default") == "default" else scaling}
    theta, share = main.get("rope_theta"), main.get("partial_rotary_factor")
    if model_type.startswith("gpt_neox"):
        found |= {"rotary_emb_base": theta, "rotary_pct": share}
    elif model_type.startswith("modernbert"):
        found |= {"global_rope_theta": theta, "local_rope_theta": local}
    else:
        found |= {"rope_theta": theta, "partial_rotary_factor": share, "rope_local_base_freq": local}
    return {name: value for name, value in found.items() if value is not None or name == "rope_scaling"}


def portable_tokenizer(config: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer's configuration without fields specific to transformers 5 or this machine."""
    made = dict(config)
    if made.get("tokenizer_class") == "TokenizersBackend":
        made["tokenizer_class"] = PORTABLE_CLASS
    for name in ("is_local", "local_files_only", "backend"):
        made.pop(name, None)
    if isinstance(made.get("extra_special_tokens"), list):
        named = made.pop("extra_special_tokens")
        made.setdefault("additional_special_tokens", named)
    return made
