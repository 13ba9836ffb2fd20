"""The verification of the lineage as a chain: each update's start, position, release and replay positions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xxhash

from rewarm.pipeline.lineage.lineage import PLAN, UPDATE
from rewarm.pipeline.lineage.verify.data import RESTORE, checked_manifest
from rewarm.pipeline.lineage.verify.findings import Findings
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.record import HELD_BACK, Adoption, UpdateRecord
from rewarm.stages import replay, train
from rewarm.stages.core.shapes import Manifest
from rewarm.stages.core.storage import Folder
from rewarm.stages.data.mixture import Mixture, Source
from rewarm.stages.data.order import Order, Position
from rewarm.stages.data.tokens import SELECTION, read_selection
from rewarm.stages.evaluate.losses import read_totals
from rewarm.stages.evaluate.run import losses_file


class ChainCheck:
    """The check of all updates in order: each starts from the trunk of an earlier one."""

    def __init__(self, workspace: Workspace, updates: Sequence[UpdateRecord], findings: Findings) -> None:
        self.workspace, self.updates, self.findings = workspace, updates, findings
        self.places = {update.id: place for place, update in enumerate(updates)}
        self.positions: dict[str, int] = {}  # tokens of the trunk, by update
        self.replayed: dict[str, replay.Carried] = {}  # all replay up to the end of an update, by update

    def run(self, update: UpdateRecord) -> None:
        """Check an update against the earlier ones."""
        folder = self.workspace.update(update.id)
        if update.adopted is not None:
            self.check_adopted(update, update.adopted)
            return
        trunk = checked_manifest(folder / "trunk", self.findings)
        earlier = self.updates[: self.places[update.id]]
        origin, trained = None, 0
        if trunk is not None:
            name, outcome = self.findings.name(folder / "trunk", "manifest.json"), trunk["outcome"]
            self.findings.compare(name, "a trunk of digest", update.weights.trunk, outcome["digest"], RESTORE)
            trained = outcome.get("tokens", 0)
            origin = self.origin(update, trunk, earlier)
        self.check_position(update, origin, trained)
        self.check_release(update)
        self.check_evaluation(update)
        self.check_mixture(update, origin)
        self.check_selections(update)

    def origin(self, update: UpdateRecord, trunk: Manifest, earlier: Sequence[UpdateRecord]) -> UpdateRecord | None:
        """Return the update whose trunk this one started from: the previous one, or one before refused ones."""
        folder = self.workspace.update(update.id)
        if not earlier:
            if "start" in trunk["identity"]["inputs"]:
                initial = checked_manifest(folder / "initial", self.findings)
                start, made = trunk["identity"]["inputs"]["start"], initial and initial["outcome"]["digest"]
                self.findings.compare(self.findings.name(folder / "trunk"), "a start from", made, start, RESTORE)
            return None
        possible = []
        for before in reversed(earlier):
            if before.adopted is not None:
                continue
            possible.append(before)
            if before.state not in HELD_BACK:
                break
        if update.follows is not None:
            possible = [before for before in earlier if before.id == update.follows]
        start = trunk["identity"]["inputs"].get("start")
        found = next((before for before in possible if before.weights.trunk == start), None)
        if found is None:
            self.findings.add(
                self.findings.name(folder / "trunk", "manifest.json"),
                "a start from "
                + " or ".join(f"the trunk of {before.id}, {before.weights.trunk}" for before in possible),
                str(start),
                RESTORE,
            )
        return found

    def check_position(self, update: UpdateRecord, origin: UpdateRecord | None, trained: int) -> None:
        """Check that the position is the sum of the start's position and the update's own tokens."""
        file = self.findings.name(self.workspace.update(update.id), UPDATE)
        before = self.positions.get(origin.id, 0) if origin else 0
        if origin is not None or update.number == 0:
            self.findings.compare(file, "position", before + trained, update.position, RESTORE)
        self.positions[update.id] = update.position

    def check_release(self, update: UpdateRecord) -> None:
        """Check that the release has the recorded trunk and digest. An imported model's release has no manifest."""
        folder = self.workspace.update(update.id) / "release"
        if not folder.committed() and not update.schedule:
            return
        manifest = checked_manifest(folder, self.findings)
        if manifest is not None:
            file = self.findings.name(folder, "manifest.json")
            inputs, outcome = manifest["identity"]["inputs"], manifest["outcome"]
            self.findings.compare(file, "a branch off", update.weights.trunk, inputs["trunk"], RESTORE)
            self.findings.compare(file, "a release of", update.weights.release, outcome["digest"], RESTORE)

    def check_adopted(self, update: UpdateRecord, adopted: Adoption) -> None:
        """Check a release that was tuned outside of the lineage: its origin, its digest and its losses."""
        folder = self.workspace.update(update.id)
        self.positions[update.id] = update.position
        file = self.findings.name(folder, UPDATE)
        before = [one for one in self.updates[: self.places[update.id]] if one.id == adopted.tuned_from]
        found = before[0].weights.release if before else None
        self.findings.compare(file, f"the release of {adopted.tuned_from}", found, adopted.release, RESTORE)
        if before:
            self.findings.compare(file, "position", before[0].position, update.position, RESTORE)
            self.replayed[update.id] = self.replayed.get(before[0].id, replay.Carried())
        manifest = checked_manifest(folder / "release", self.findings)
        if manifest is not None:
            name, outcome = self.findings.name(folder / "release", "manifest.json"), manifest["outcome"]
            self.findings.compare(name, "a release of", update.weights.release, outcome["digest"], RESTORE)
            tuned = manifest["identity"]["inputs"].get("release")
            self.findings.compare(name, "tuned from the release", adopted.release, tuned, RESTORE)
        self.check_evaluation(update)

    def check_evaluation(self, update: UpdateRecord) -> None:
        """Check that the losses by document add up to the recorded losses."""
        folder = self.workspace.update(update.id) / "evaluation"
        if not update.losses:
            return
        manifest = checked_manifest(folder, self.findings)
        if manifest is not None:
            for part, digest in ((part, digest) for part, digest in vars(update.weights).items() if digest):
                found = manifest["identity"]["inputs"][part]
                self.findings.compare(self.findings.name(folder), f"losses of the {part}", digest, found, RESTORE)
        for model, losses in update.losses.items():
            for dataset, loss in losses.items():
                file = losses_file(model, dataset)
                name = self.findings.name(folder / "losses", file)
                with self.findings.reading(name, "losses by document", RESTORE):
                    totals = read_totals(folder / "losses", file)
                    self.findings.checked["losses"] += 1
                    if not math.isclose(totals.loss, loss, rel_tol=1e-9):
                        self.findings.add(name, f"a mean of {loss} nats", str(totals.loss), RESTORE)

    def check_mixture(self, update: UpdateRecord, origin: UpdateRecord | None) -> None:
        """Check that replay resumes at the position of the earlier updates, and reads as many tokens as recorded."""
        folder = self.workspace.update(update.id)
        before = self.replayed.get(origin.id, replay.Carried()) if origin else replay.Carried()
        if update.schedule:
            checked_manifest(folder / "mixture", self.findings)
            file = self.findings.name(folder / "mixture", replay.MIXTURE)
            with self.findings.reading(file, "the order of the training data", RESTORE):
                mixture = Mixture.from_json((folder / "mixture").read_json(replay.MIXTURE))
                self.check_sources(update, mixture, file)
                self.check_replayed(update, mixture, before, file)
            with self.findings.reading(self.findings.name(folder / "trunk", train.CURVE), "the curve", RESTORE):
                (folder / "trunk").read_json(train.CURVE)
        after = self.replayed[update.id] = before.after(update.replay.by_dataset)
        if update.replay.carried is not None and origin is not None:
            file = self.findings.name(folder, UPDATE)
            self.findings.compare(file, "carried replay", after.to_json(), update.replay.carried, RESTORE)

    def check_sources(self, update: UpdateRecord, mixture: Mixture, file: str) -> None:
        """Check that every source of the mixture exists, with its original number of sequences."""
        folder = self.workspace.update(update.id) / "mixture"
        sets = replay.token_sets(folder, mixture, lambda name: self.workspace.dataset(name) / "tokens" / "train")
        for source in mixture.sources:
            found = sets[source.key].open().num_sequences(mixture.seq_len)
            what = f"sequences of {source.key}:"
            self.findings.compare(file, what, source.num_sequences, found, "restore the dataset's token shards")

    def check_replayed(self, update: UpdateRecord, mixture: Mixture, before: replay.Carried, file: str) -> None:
        """Check counts and start of each replayed source; records of order 1 count sequences, not tokens."""
        counts = mixture.count(0, mixture.steps)
        new = len(mixture.new)
        decisions = update.train.decisions if update.train else []
        steps = [step - 1 for step in train.steps_without_effect(decisions)]
        left = replay.sequences_of_steps(mixture, steps)
        trained = [count - away for count, away in zip(counts, left, strict=True)]
        found = {"new": sum(trained[:new]) * mixture.seq_len, "replayed": sum(trained[new:]) * mixture.seq_len}
        for name, tokens in found.items():
            self.findings.compare(file, f"{name} tokens", getattr(update.tokens, name), tokens, RESTORE)
        self.findings.compare(file, "an order of version", update.replay.version, mixture.version, RESTORE)
        settings = self.workspace.update(update.id).read_json(PLAN).get("recipe", {}).get("replay", {})
        unit, count_of = (mixture.seq_len, replay.tokens_of) if mixture.version > 1 else (1, replay.sequences_of)
        for source, count in zip(mixture.replayed, counts[new:], strict=True):
            part: Mapping[str, Any] = update.replay.by_dataset.get(source.key, {})
            goes_on = part.get("order") != "reshuffled" and settings.get("position", "continue") == "continue"
            first = count_of(before.read.get(source.key, ())) if goes_on else 0
            place = [part.get("from"), part.get("to")]
            what = f"{source.key} replayed from and to"
            self.findings.compare(file, what, place, [first, first + count * unit], RESTORE)
            self.check_order(source, mixture, before if goes_on else replay.Carried(), file)

    def check_order(self, source: Source, mixture: Mixture, before: replay.Carried, file: str) -> None:
        """Check that a source begins where replay stopped in its own order."""
        runs = before.read.get(source.key, ())
        if mixture.version == 1:
            stopped = replay.sequences_of(runs)
            self.findings.compare(file, f"{source.key} replayed from", stopped, source.start, RESTORE)
            return
        order = Order(source.num_tokens, source.order_seed, source.key)
        last = ((mixture.seq_len, source.start),) if source.start else ()
        position = Position(source.passes, (*source.read, *last))
        self.findings.compare(file, f"{source.key} replayed from", replay.locate(order, runs), position, RESTORE)

    def check_selections(self, update: UpdateRecord) -> None:
        """Check that the selected documents have the recorded digest."""
        for name, record in update.data.items():
            if record.select is not None:
                folder = self.workspace.update(update.id) / "selection" / name
                with self.findings.reading(self.findings.name(folder, SELECTION), "the chosen documents", RESTORE):
                    found = selection_digest(folder)
                    what = "a choice of digest"
                    expected = record.select.digest
                    self.findings.compare(self.findings.name(folder, SELECTION), what, expected, found, RESTORE)


def selection_digest(folder: Folder) -> str:
    """Return the digest of a selection, as ``stages.select`` computes it."""
    rows: np.ndarray = read_selection(folder)
    return str(xxhash.xxh3_128_hexdigest(rows.astype("<i8").tobytes()))
