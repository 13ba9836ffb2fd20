"""Updates of large language models: continual pre-training with replay, gated and repeatable."""
