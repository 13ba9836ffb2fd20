"""Contracts between stages: document shards, token shards, the mixture, tokenizers and model folders."""
