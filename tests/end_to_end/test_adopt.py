"""A release is tuned on prompts and completions, adopted, and the next update continues from the trunk."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from small_lineage import rewarm, stdlib

pytestmark = pytest.mark.faults


def called(*words: object) -> dict[str, Any]:
    done = rewarm(*words, "--json")
    assert done.returncode in (0, 3, 4), done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def tune(source: Path, out: Path, steps: int = 80) -> None:
    """Supervised fine-tuning in its simplest form: the loss of the completion alone."""
    words = transformers.AutoTokenizer.from_pretrained(source)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    prompt = words("Question: what does this module do?\n", add_special_tokens=False)["input_ids"]
    answer = [*words("Answer: it opens a file.", add_special_tokens=False)["input_ids"], words.eos_token_id]
    ids = torch.tensor([[*prompt, *answer]])[:, :64]
    labels = ids.clone()
    labels[:, : len(prompt)] = -100
    for _ in range(steps):
        loss = model(ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(out)
    words.chat_template = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
    words.save_pretrained(out)


def test_a_tuned_release_is_adopted_and_the_lineage_goes_on_from_its_trunk(updated: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    shutil.copytree(updated, workspace)
    assert rewarm("export", workspace, "1", "--to", tmp_path / "base").returncode == 0
    tune(tmp_path / "base", tmp_path / "tuned")
    before = called("status", workspace)
    allowed = [part for name in ("max_forgetting=20", "max_task_drop=1") for part in ("--set", f"gate.{name}")]
    found = called("adopt", workspace, "1", "--from", tmp_path / "tuned", *allowed)
    made = found["updates"][-1]
    assert (made["id"], made["state"], made["gate"]["against"]) == ("0002-tuned-code", "released", "0001-code")
    assert found["release"] == before["release"] == "0001-code", "the current release stays"
    assert max(made["forgetting"].values()) > 0.01, "tuning on one answer forgets"
    assert any(name.startswith("rewarm_") for name in made["lm_eval"])
    (tmp_path / "more").mkdir()
    for path in stdlib()[120:150]:
        (tmp_path / "more" / path.with_suffix(".txt").name).write_text(path.read_text(encoding="utf-8")[:8000])
    after = called("update", workspace, "--data", f"more={tmp_path / 'more'}")["updates"][-1]
    assert after["follows"] == "0001-code"
    assert after["gate"]["against"] == "0001-code"
    assert after["position"] == made["position"] + after["tokens"]["new"] + after["tokens"]["replayed"]
    assert called("verify", workspace)["problems"] == []
    tuned, words = (
        kind.from_pretrained(workspace / "updates" / "0002-tuned-code" / "release" / "model")
        for kind in (transformers.AutoModelForCausalLM, transformers.AutoTokenizer)
    )
    text = words.apply_chat_template(
        [{"role": "user", "content": "Question: what does this module do?"}], tokenize=False
    )
    answer = tuned.generate(**words(text, return_tensors="pt"), max_new_tokens=24, do_sample=False)
    assert "opens a file" in words.decode(answer[0])
