"""Import of a base model that was trained elsewhere: its checks, and its conversion to a lineage's first trunk.

Problems with a folder are found before any document is ingested: first from the names and headers of its files, then
from the tensors themselves.
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xxhash

from rewarm.stages.core.errors import StageError, UsageError
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.model_folder import (
    CONFIG,
    INDEX,
    MASKS,
    TOKENIZER_FILES,
    companions,
    longest_sequence,
    read_config,
    stored_dtype,
    stored_dtypes,
    weight_files,
)
from rewarm.stages.data.tokenizer import CONFIG as TOKENIZER_CONFIG
from rewarm.stages.data.tokenizer import TOKENIZER
from rewarm.stages.train.document_mask import WINDOW, refuse_leak

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

FLOATS = ("F64", "F32", "F16", "BF16")  # data types of safetensors that weights have
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
CARD = "README.md"
ALSO_READ = (CONFIG, "generation_config.json", INDEX, CARD)
BLOCK = 1 << 24  # bytes


def check_importable(source: Path) -> None:
    """Refuse a folder whose file names and headers show that it is not a complete causal model (``UsageError``)."""
    needed = (CONFIG, TOKENIZER)
    missing = [name for name in needed if not (source / name).is_file()]
    if not source.is_dir() or missing:
        raise UsageError(
            f"{source}: expected a Hugging Face folder; missing {', '.join(missing) or 'the folder itself'}"
        )
    adapters = [name for name in ADAPTERS if (source / name).is_file()]
    if adapters:
        raise UsageError(
            f"{source}: holds an adapter ({', '.join(adapters)}), which is not a complete model and would be loaded "
            "into the model in the same folder; merge it first (peft: merge_and_unload, save_pretrained), or remove "
            "the files"
        )
    refuse_pointers(source)
    check_config(source)
    refuse_quantized(source)
    refuse_repeated(source)
    read_model_config(source)
    if (source / TOKENIZER_CONFIG).is_file():
        read_config(source, TOKENIZER_CONFIG)
    check_vocabulary(source)


def refuse_quantized(source: Path) -> None:
    """Refuse integers and floats of 8 bits, whose scales are elsewhere or lost: they would be read as the weights.

    Masks that older libraries stored with the weights are integers too, and no model reads them.
    """
    from safetensors import SafetensorError

    try:
        dtypes = stored_dtypes(source)
    except (SafetensorError, OSError):
        return  # loading names the fault
    weights = {name: dtype for name, dtype in dtypes.items() if not MASKS.search(name)}
    names = [f"{name} ({dtype})" for name, dtype in sorted(weights.items()) if dtype not in FLOATS]
    if names:
        raise UsageError(
            f"{source}: {len(names)} tensors hold quantized values: {', '.join(names[:4])}, but its {CONFIG} does not "
            "say how they are scaled; import the model that they were made from"
        )


def refuse_repeated(source: Path) -> None:
    """Refuse a tensor that two files hold with different values: which one is read depends on the library."""
    from safetensors import SafetensorError, safe_open

    files: dict[str, list[str]] = {}
    try:
        for file in weight_files(source):
            with safe_open(source / file, framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118
                    files.setdefault(name, []).append(file)
        for name, several in files.items():
            if len(several) > 1 and differ(source, name, several):
                raise UsageError(
                    f"{source}: {name} is in {' and '.join(several[:4])}, with different values: files of several "
                    "models or checkpoints in one folder; download or copy the folder again"
                )
    except (SafetensorError, OSError):
        return  # loading names the fault


def differ(source: Path, name: str, files: list[str]) -> bool:
    """Return whether some files of a folder hold different values of a tensor."""
    import torch
    from safetensors import safe_open

    tensors = []
    for file in files:
        with safe_open(source / file, framework="pt") as stored:
            tensors.append(stored.get_tensor(name))
    return not all(torch.equal(tensors[0], other) for other in tensors[1:])


def refuse_pointers(source: Path) -> None:
    """Refuse a clone in which Git LFS left pointers in place of files (``UsageError``)."""
    names = [CONFIG, TOKENIZER, *weight_files(source)]
    pointers = [name for name in names if begins_with(source / name, LFS_POINTER)]
    if pointers:
        raise UsageError(
            f"{source}: {', '.join(pointers[:4])}: a Git LFS pointer instead of the file; run `git lfs pull` there, or "
            "download the folder again"
        )


def begins_with(file: Path, start: bytes) -> bool:
    """Return whether a file begins with some bytes."""
    with file.open("rb") as stream:
        return stream.read(len(start)) == start


def check_config(source: Path) -> None:
    """Refuse a configuration that is not one of transformers' causal models, or that redirects to other files."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = read_config(source)
    elsewhere = [name for name in ("configuration_files", "transformers_weights") if name in config]
    if elsewhere:
        raise UsageError(
            f"{source / CONFIG}: {', '.join(elsewhere)} redirects to other files than the standard ones; save the "
            "model with save_pretrained first"
        )
    part = config.get("text_config") or {}
    if not isinstance(part, dict):
        raise UsageError(f"{source / CONFIG}: text_config: expected an object, found {type(part).__name__}")
    quantized = config.get("quantization_config") or part.get("quantization_config")
    if quantized:
        method = quantized.get("quant_method", "an unnamed method") if isinstance(quantized, dict) else quantized
        raise UsageError(
            f"{source / CONFIG}: quantization_config: the weights are quantized ({method}) and cannot be trained; "
            "import the model that they were made from, or dequantize it (model.dequantize(), save_pretrained) first"
        )
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING or kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise UsageError(
            f"{source / CONFIG}: model_type {kind!r} is not a causal language model in transformers; models that need "
            "custom code are not loaded"
        )


def read_model_config(folder: Path) -> Any:
    """Read a folder's configuration with transformers; ``UsageError`` if that fails."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the library raises many kinds
        raise UsageError(f"{folder / CONFIG}: transformers cannot read it: {' '.join(str(error).split())}") from error


def check_vocabulary(source: Path) -> None:
    """Refuse a tokenizer with ids beyond the rows of the model's embedding."""
    config = read_config(source)
    sizes = [part.get("vocab_size") for part in (config, config.get("text_config") or {})]
    rows = next((size for size in sizes if isinstance(size, int)), None)
    ids = num_ids(source)
    if rows is not None and ids > rows:
        raise UsageError(
            f"{source}: the tokenizer has ids up to {ids - 1:,}, but the model's embedding has {rows:,} rows "
            f"(vocab_size): they belong to different models, or tokens were added without resize_token_embeddings"
        )


def num_ids(source: Path) -> int:
    """Return one more than the highest id of a folder's tokenizer, whichever token ends its documents."""
    from tokenizers import Tokenizer

    try:
        words = Tokenizer.from_file(str(source / TOKENIZER))
    except Exception as error:  # the library raises a bare Exception
        raise UsageError(f"{source / TOKENIZER}: the tokenizers library cannot load it: {error}") from error
    if not (vocabulary := words.get_vocab(with_added_tokens=True)):
        raise UsageError(f"{source / TOKENIZER}: its vocabulary is empty; download or copy the folder again")
    return max(vocabulary.values()) + 1


def check_length(model: Path, seq_len: int) -> None:
    """Refuse sequences longer than the maximum of a Hugging Face folder's model."""
    found = longest_sequence(model)
    if found is not None and seq_len > found[0]:
        raise UsageError(f"train.seq_len {seq_len} is longer than the model's {found[1]} {found[0]}")


def digest_folder(source: Path) -> str:
    """Return 32 hex digits over the names and bytes of every file of a folder that an import reads or copies."""
    names = {*weight_files(source), *companions(source), *ALSO_READ}
    state = xxhash.xxh3_128()
    for name in sorted(names):
        if not (source / name).is_file():
            continue
        state.update(f"{name} {(source / name).stat().st_size}\n".encode())
        with (source / name).open("rb") as stream:
            while block := stream.read(BLOCK):
                state.update(block)
    return str(state.hexdigest())


def import_model(
    source: Path, out: Folder, tokenizer: Folder | None = None, document_mask: bool = False
) -> dict[str, Any]:
    """Write ``out/model`` from a Hugging Face folder: safetensors and a fast tokenizer only, no code, no pickle.

    The weights keep the dtype of the files, the licence and the card are copied, and the tokenizer's files come from
    ``tokenizer`` (None: from the source). Returns the weights' digest and the number of parameters. Raises
    ``UsageError``, with nothing written, if the folder does not hold a complete model of finite weights, or, with
    ``document_mask``, if the model does not isolate packed documents.
    """
    from rewarm.stages.train.weights import digest, model_weights

    check_importable(source)
    if tokenizer is None:
        check_end_of_text(source)
    model = load_whole(source)
    bound = longest_sequence(source)
    if document_mask and (bound is None or bound[0] >= WINDOW):  # a shorter bound was tested with longer positions
        refuse_leak(model, str(source))
    found = digest(model_weights(model))
    write_as_stored(source, model, found, out, tokenizer)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"digest": found, "parameters": parameters}


def load_whole(source: Path) -> "PreTrainedModel":
    """Load a folder's model in fp32; ``UsageError`` if it is not complete, not finite, or ties what differs."""
    from rewarm.stages.train.weights import load_model

    try:
        model = load_model(source)
    except StageError as error:
        raise UsageError(str(error)) from error
    check_finite(source, model)
    check_tied(source, model)
    return model


def write_as_stored(
    source: Path,
    model: "PreTrainedModel",
    expected: str,
    out: Folder,
    tokenizer: Folder | None,
    origin: Path | None = None,
) -> None:
    """Write ``out/model`` with a loaded model's weights in the dtype of the source's files, and the source's card.

    ``expected`` is the digest of the weights; ``tokenizer``: as for ``import_model``. ``origin`` is the folder of the
    model that this one was made from: its licence is copied too.
    """
    from rewarm.stages.train.weights import model_weights, save_model, write_folder

    dtype = stored_dtype(source)
    weights = {name: narrowed(weight, dtype) for name, weight in model_weights(model)}

    def save(folder: Path) -> None:
        save_model(model, weights, folder)
        if (source / CARD).is_file():
            shutil.copyfile(source / CARD, folder / CARD)
        if origin is not None:
            for name in {*companions(origin)} - {*TOKENIZER_FILES}:
                shutil.copyfile(origin / name, folder / name)

    write_folder(out, source, save, expected, tokenizer)


def check_end_of_text(source: Path) -> None:
    """Refuse a tokenizer that is not fast, or that does not name a token to end a document with."""
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if words.eos_token_id is None or not words.is_fast:
        raise UsageError(f"{source}: the tokenizer needs an end-of-text token and a tokenizer.json (a fast tokenizer)")


def check_finite(source: Path, model: "torch.nn.Module") -> None:
    """Refuse NaN or infinite weights; ``UsageError`` names their tensors."""
    import torch

    broken = {
        name: int((~torch.isfinite(weight)).sum())
        for name, weight in model.state_dict().items()
        if weight.is_floating_point() and not torch.isfinite(weight).all()
    }
    if broken:
        names = ", ".join(f"{name} ({count:,} values)" for name, count in list(broken.items())[:4])
        raise UsageError(
            f"{source}: {len(broken)} tensors hold NaN or infinite values: {names}. Training from them would give NaN; "
            "copy the folder again, or use an earlier checkpoint"
        )


def check_tied(source: Path, model: Any) -> None:
    """Refuse a weight that the configuration ties to another one, if the files hold different values for both.

    transformers 5 unties them with a warning and writes a configuration that still ties them; other software ties them.
    """
    import torch

    stored = stored_tensors(source)
    for name, other in model.get_expanded_tied_weights_keys(all_submodels=True).items():
        if name in stored and other in stored and not torch.equal(stored[name](), stored[other]()):
            raise UsageError(
                f"{source}: {CONFIG} ties {name} to {other}, but the files hold different values for both; set "
                "tie_word_embeddings to false if the model was trained with both, or save it with save_pretrained"
            )


def stored_tensors(source: Path) -> dict[str, Callable[[], "torch.Tensor"]]:
    """Return a function for each tensor in a folder's weight files that reads it."""
    from safetensors import safe_open

    def read(file: Path, name: str) -> "torch.Tensor":
        with safe_open(file, framework="pt") as stored:
            tensor: torch.Tensor = stored.get_tensor(name)
            return tensor

    found: dict[str, Callable[[], torch.Tensor]] = {}
    for file in weight_files(source):
        with safe_open(source / file, framework="np") as stored:
            found.update({name: partial(read, source / file, name) for name in stored.keys()})  # noqa: SIM118
    return found


def narrowed(weight: "torch.Tensor", dtype: "torch.dtype") -> "torch.Tensor":
    """Return a weight in ``dtype`` if that represents every value exactly, else unchanged."""
    made = weight.to(dtype)
    return made if bool((made.float() == weight).all()) else weight
