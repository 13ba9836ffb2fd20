"""Which model types keep packed documents apart: a small model of each, tried as ``rewarm init`` tries it.

Run from the repository with ``python benchmarks/document_masks.py [TYPE …]``: prints a table of the largest change, in
nats, of a token's loss when the document packed before it is another one. No training and no Ray; a minute on one core.
"""

import sys
import time
from typing import Any

SIZES = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), 4),
    **dict.fromkeys(("intermediate_size", "ffn_dim"), 128),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 128),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **{"num_key_value_heads": 2, "head_dim": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 64},
    **{"shared_expert_intermediate_size": 64, "word_embed_proj_dim": 64, "rotary_dim": 8, "sliding_window": 16},
}
"""Small values for the fields that model types name their sizes by."""
OWN: dict[str, dict[str, Any]] = {
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1, "attn_layer_indices": [1]},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 4},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 1},
    "qwen3_next": {
        "layer_types": ["linear_attention", "full_attention"],
        **{"linear_num_value_heads": 4, "linear_num_key_heads": 2},
        **{"linear_key_head_dim": 16, "linear_value_head_dim": 16},
    },
    "recurrent_gemma": {"lru_width": 64, "num_hidden_layers": 3, "attention_window_size": 16},
    "rwkv": {"attention_hidden_size": 64, "context_length": 128},
    "deepseek_v2": {
        **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16},
        **{"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_key_value_heads": 4},
    },
    "glm4_moe": {"n_group": 1, "topk_group": 1},
    "granitemoehybrid": {
        **{"layer_types": ["mamba", "attention"], "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_n_groups": 1},
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "llama4_text": {"intermediate_size_mlp": 64, "attention_chunk_size": 8},
    "minimax": {"layer_types": ["linear_attention", "full_attention"], "block_size": 16},
    "nemotron_h": {
        "layers_block_type": ["linear_attention", "full_attention"],
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "n_groups": 1,
    },
}
"""What else some of them need to be small."""
TYPES = """
llama mistral qwen2 qwen3 gemma gemma2 gemma3_text phi phi3 gpt2 gpt_neo gpt_neox gptj gpt_bigcode codegen stablelm
starcoder2 olmo olmo2 olmo3 cohere cohere2 granite glm glm4 nemotron persimmon seed_oss smollm3 helium ernie4_5 exaone4
arcee apertus hunyuan_v1_dense bitnet diffllama doge vaultgemma ctrl gpt_neox_japanese
mixtral qwen2_moe qwen3_moe olmoe phimoe granitemoe jetmoe deepseek_v2 glm4_moe ernie4_5_moe llama4_text flex_olmo
falcon mpt bloom opt xglm biogpt gpt_oss openai-gpt
mamba mamba2 falcon_mamba falcon_h1 bamba jamba recurrent_gemma qwen3_next lfm2 lfm2_moe rwkv granitemoehybrid minimax
nemotron_h xlstm
"""
SEQ_LEN = 64


def small_fields(kind: str) -> dict[str, Any]:
    """``model.config`` of a small model of a type."""
    import transformers

    known = transformers.CONFIG_MAPPING[kind]().to_dict()
    return {name: size for name, size in SIZES.items() if name in known} | OWN.get(kind, {})


def main(kinds: list[str]) -> None:
    """Print the table."""
    from rewarm.stages.train import ModelSettings, model_config
    from rewarm.stages.train.document_mask import LARGEST_CHANGE, leak, own_loss, trained_loss, tried_model

    print("| model type | largest change, nats | own loss − trained | seconds | |\n|---|--:|--:|--:|---|")
    for kind in kinds:
        began = time.perf_counter()
        model = tried_model(model_config(ModelSettings(type=kind, config=small_fields(kind)), 300, 0, SEQ_LEN), SEQ_LEN)
        found, gap = leak(model), own_loss(model) - trained_loss(model)
        verdict = "apart" if found <= LARGEST_CHANGE else "refused with train.document_mask"
        print(f"| {kind} | {found:.2g} | {gap:.0e} | {time.perf_counter() - began:.1f} | {verdict} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or TYPES.split())
