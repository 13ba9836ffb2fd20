"""The objective of a micro batch: cross-entropy, the KL term on replayed sequences, and a router's loss."""

from typing import NamedTuple

import torch

from rewarm.stages.inference.causal import Documents, divergences, losses_of, predict, token_logits
from rewarm.stages.train.chunked_loss import ChunkedHead, Held
from rewarm.stages.train.data import MicroBatch
from rewarm.stages.train.ways import Ways


class Terms(NamedTuple):
    """A micro batch's objective, with its gradient, and the figures that are reported, without one."""

    objective: torch.Tensor
    cross_entropy: torch.Tensor  # mean over the tokens, in nats
    divergence: torch.Tensor | None  # contribution to the step's mean KL; None without a teacher or replay


class Objective:
    """Objective over all ranks' B sequences of S tokens, R of them replayed, with λ = ``kl_weight``.

    ``1/(B·S) · Σ −log p(token) + λ/(R·S) · Σ_replayed KL(p_teacher ‖ p)``; only the first term if R is 0 or there is no
    teacher. A mixture of experts whose own loss includes it adds its routers' load-balancing loss, as the mean over the
    micro batches. The step's objective is the mean of the micro batches' objectives, over all ranks.
    """

    def __init__(self, kl_weight: float, teacher: torch.nn.Module | None, teacher_head: ChunkedHead | None) -> None:
        """``teacher_head`` computes the teacher's logits in chunks if the student's are."""
        self.kl_weight = kl_weight
        self.teacher = teacher
        self.teacher_head = teacher_head

    def terms(self, model: torch.nn.Module, batch: MicroBatch, ways: Ways) -> Terms:
        """Return the terms of a micro batch."""
        documents = batch.documents if ways.by_documents else None
        if ways.head is None:
            return self._whole(model, batch, documents)
        held = self._held(batch)
        hidden, (_, router_loss) = ways.head.hidden(model, batch.inputs, batch.positions, documents)
        objective, cross_entropy, divergence = ways.head.losses(hidden, batch.targets, held)
        return Terms(
            objective if router_loss is None else objective + router_loss,
            cross_entropy,
            divergence if self.teacher is not None and batch.replayed_share else None,
        )

    def _whole(self, model: torch.nn.Module, batch: MicroBatch, documents: Documents | None) -> Terms:
        logits, router_loss = predict(model, batch.inputs, batch.positions, documents)
        objective = losses_of(logits, batch.targets).mean()
        cross_entropy, divergence = objective.detach(), None
        if router_loss is not None:
            objective = objective + router_loss
        if self.teacher is not None and batch.replayed_share:
            apart = self._divergence(self.teacher, batch, logits)
            objective = objective + self.kl_weight * apart
            divergence = apart.detach()
        return Terms(objective, cross_entropy, divergence)

    @staticmethod
    def _divergence(teacher: torch.nn.Module, batch: MicroBatch, logits: torch.Tensor) -> torch.Tensor:
        """Return a micro batch's contribution to the step's mean KL, which is the mean of all contributions and ranks.

        It is therefore divided by the step's replayed share, not by the number of replayed sequences in this micro
        batch, which may be 0.
        """
        if not batch.replayed:
            return logits.new_zeros(())
        with torch.no_grad():
            given = token_logits(teacher, batch.inputs[batch.replayed], batch.positions[batch.replayed])
        return divergences(given, logits[batch.replayed]).sum() / batch.positions.numel() / batch.replayed_share

    def _held(self, batch: MicroBatch) -> Held | None:
        """Run the teacher on the replayed sequences; None if there are none."""
        if self.teacher is None or self.teacher_head is None or not batch.replayed:
            return None
        with torch.no_grad():
            inputs, positions = batch.inputs[batch.replayed], batch.positions[batch.replayed]
            hidden, _ = self.teacher_head.hidden(self.teacher, inputs, positions)
        tokens = batch.positions.numel() * batch.replayed_share
        return Held(hidden.flatten(0, -2), self.teacher_head, batch.replayed, self.kl_weight, tokens)
