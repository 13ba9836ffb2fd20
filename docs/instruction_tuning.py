"""Instruction tuning of a release: supervised fine-tuning with TRL on Ray Train.

    rewarm export lm --to lm-base                                  # a release as a Hugging Face folder
    pip install trl                                                # not a dependency of rewarm
    python docs/instruction_tuning.py lm-base chats.jsonl lm-chat --workers 1

The records are JSON lines, either chats (``messages``: a list of ``role`` and ``content``), which the model's chat
template turns into text, or pairs (``prompt`` and ``completion``), of which the completion alone is learned.
"""

import argparse
import json
from pathlib import Path
from typing import Any


def read_records(path: Path) -> list[dict[str, Any]]:
    """Read the records; raises ``SystemExit`` with the first line that has neither of the two forms."""
    records: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        record = json.loads(line)
        names = ("messages",) if "messages" in record else ("prompt", "completion")
        if not all(name in record for name in names):
            raise SystemExit(f"{path}, line {number}: expected messages, or prompt and completion")
        records.append({name: record[name] for name in names})
    if len({tuple(record) for record in records}) != 1:
        raise SystemExit(f"{path}: expected records of one form, all chats or all pairs")
    return records


def tune(config: dict[str, Any]) -> None:
    """Train on one worker of Ray Train, whose process group TRL's trainer uses."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    records = read_records(Path(config["data"]))
    tokenizer = AutoTokenizer.from_pretrained(config["model"])
    if config["template"]:
        tokenizer.chat_template = Path(config["template"]).read_text(encoding="utf-8")
    if "messages" in records[0] and not tokenizer.chat_template:
        raise ValueError(f"{config['model']} has no chat template: name a file with one (--template)")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    trainer = SFTTrainer(
        model=config["model"],
        args=SFTConfig(
            output_dir=f"{config['out']}.checkpoints",
            num_train_epochs=config["epochs"],
            learning_rate=config["rate"],
            per_device_train_batch_size=config["batch"],
            max_length=config["length"],
            gradient_checkpointing=config["gpus"],
            bf16=config["gpus"],
            use_cpu=not config["gpus"],
            warmup_steps=0.1,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=Dataset.from_list(records),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.save_model(config["out"])  # weights by the first worker, gathered from all


def main() -> None:
    """Tune a model on the workers of a Ray cluster, or of this machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Hugging Face folder of the release, as `rewarm export` writes it")
    parser.add_argument("data", help="JSON lines; on a cluster, a path that all nodes see")
    parser.add_argument("out", help="folder of the tuned model; on a cluster, a path that all nodes see")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--gpus", action="store_true", help="one GPU for each worker")
    parser.add_argument("--template", help="file with a chat template, for a model without one")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=1e-5, help="peak learning rate")
    parser.add_argument("--batch", type=int, default=4, help="records of a worker's step")
    parser.add_argument("--length", type=int, default=2048, help="tokens at which a record is cut")
    config = vars(parser.parse_args())
    read_records(Path(config["data"]))
    config |= {name: str(Path(config[name]).absolute()) for name in ("model", "data", "out")}
    if config["template"]:
        config["template"] = str(Path(config["template"]).absolute())

    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    TorchTrainer(
        tune,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=config["workers"], use_gpu=config["gpus"]),
        run_config=RunConfig(name=Path(config["out"]).name, storage_path=f"{config['out']}.ray"),
    ).fit()


if __name__ == "__main__":
    main()
