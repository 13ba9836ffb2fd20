"""An update in the making: for each stage its inputs, its settings, its folder and what decides its result."""

from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.arrival import Arrival
from pipeline.config import Recipe
from pipeline.lineage import Lineage, Update
from pipeline.steps import Runner, now
from pipeline.workspace import Workspace
from stages import anneal, evaluate, ingest, replay, tokenize, train
from stages.mixture import Mixture
from stages.storage import Folder


@dataclass(frozen=True)
class Tokenizer:
    """What the tokenizer step leaves."""

    digest: str


@dataclass(frozen=True)
class Start:
    """The weights that an update starts from."""

    digest: str
    parameters: int


@dataclass
class Making:
    """An update in the making: everything its stages need to find their inputs."""

    workspace: Workspace
    lineage: Lineage
    arrival: Arrival
    recipe: Recipe
    id: str
    runner: Runner

    @property
    def folder(self) -> Folder:
        """The update's folder."""
        return self.workspace.update(self.id)

    def run_ingest(self, name: str) -> ingest.IngestOutcome:
        """Files → document shards, without what any earlier dataset holds."""
        earlier = self.lineage.datasets()
        before = [self.workspace.dedup(other) for other in [*earlier, *self._new_before(name)]]
        folder, settings = self.workspace.dataset(name), self.recipe.ingest
        return self.runner.run(
            f"ingest {name}" if len(self.arrival.inputs) > 1 else "ingest",
            lambda: ingest.run(
                self.arrival.inputs[name], folder, settings, before, self.workspace.dedup(name), self.runner.progress
            ),
            ingest.IngestOutcome,
            folder,
            settings.identity(),
            {"data": self.arrival.digests[name], "earlier": [*earlier, *self._new_before(name)]},
            version=ingest.VERSION,
        )

    def _new_before(self, name: str) -> list[str]:
        names = list(self.arrival.inputs)
        return names[: names.index(name)]

    def run_tokenizer(self) -> Tokenizer:
        """The lineage's tokenizer: made with the base, the same ever after."""
        folder, settings = self.workspace.tokenizer, self.recipe.tokenizer
        if self.lineage.updates:
            return Tokenizer(tokenize.tokenizer_digest(folder))
        path = self.recipe.model.path or settings.path
        source = None if path is None else Folder(path)

        def make() -> Tokenizer:
            if source is not None:
                tokenize.import_tokenizer(source.local(), folder)
            else:
                first = self.workspace.dataset(next(iter(self.arrival.inputs)))
                tokenize.train_tokenizer(first / "documents", folder, settings, self.runner.progress)
            return Tokenizer(tokenize.tokenizer_digest(folder))

        decides = (
            {"imported": tokenize.tokenizer_digest(source)}
            if source
            else {**settings.identity(), "data": self.arrival.digests}
        )
        return self.runner.run("tokenizer", make, Tokenizer, folder, decides, {})

    def run_tokenize(
        self, name: str, documents: ingest.IngestOutcome, tokenizer: Tokenizer
    ) -> tokenize.TokenizeOutcome:
        """Document shards → token shards."""
        dataset = self.workspace.dataset(name)
        return self.runner.run(
            f"tokenize {name}" if len(self.arrival.inputs) > 1 else "tokenize",
            lambda: tokenize.run(
                dataset, self.workspace.tokenizer, dataset / "tokens", self.recipe.tokenize, self.runner.progress
            ),
            tokenize.TokenizeOutcome,
            dataset / "tokens",
            self.recipe.tokenize.identity(),
            {"documents": documents.digest, "tokenizer": tokenizer.digest},
        )

    def run_start(self, tokenizer: Tokenizer) -> Start:
        """The trunk of the update before; for the base, weights drawn from the seed."""
        head, recipe = self.lineage.head, self.recipe
        if head is not None:
            return Start(head.weights["trunk"], 0)
        return self.runner.run(
            "initial weights",
            lambda: Start(
                **train.initial_model(
                    recipe.model, self.workspace.tokenizer, recipe.train.seq_len, recipe.seed, self.folder / "initial"
                )
            ),
            Start,
            self.folder / "initial",
            {"model": recipe.model.identity(), "seq_len": recipe.train.seq_len, "seed": recipe.seed},
            {"tokenizer": tokenizer.digest},
        )

    def run_replay(self, tokens: dict[str, tokenize.TokenizeOutcome]) -> replay.ReplayOutcome:
        """Which sequences are trained, new and replayed, and in which order."""
        recipe, known = self.recipe, self.lineage.datasets()
        earlier = [
            replay.Earlier(name, self.train_tokens(name), update.order_seed, self.lineage.replayed(name))
            for name, update in known.items()
        ]
        budget = recipe.budget.update_tokens if self.lineage.updates else recipe.budget.base_tokens
        settings = recipe.replay if self.lineage.updates else replay.ReplaySettings(share=0)
        return self.runner.run(
            "replay",
            lambda: replay.run(
                {name: self.train_tokens(name) for name in tokens},
                earlier,
                self.folder / "mixture",
                settings,
                recipe.train.seq_len,
                recipe.train.global_batch,
                budget,
                recipe.seed,
                self.runner.progress,
            ),
            replay.ReplayOutcome,
            self.folder / "mixture",
            {
                **settings.identity(),
                "seq_len": recipe.train.seq_len,
                "global_batch": recipe.train.global_batch,
                "budget": budget,
                "seed": recipe.seed,
            },
            {
                "new": {name: made.digest for name, made in tokens.items()},
                "earlier": {one.name: one.replayed for one in earlier},
            },
        )

    def mixture(self) -> Mixture:
        """The mixture that replay wrote."""
        return Mixture.from_json((self.folder / "mixture").read_json(replay.MIXTURE))

    def schedule(self) -> train.Schedule:
        """The learning rate of this update, in the lineage."""
        mixture = self.mixture()
        tokens = mixture.steps * mixture.tokens_per_step
        return train.schedule_for(self.recipe.schedule, self.lineage.position, tokens, self.lineage.infinite())

    def job(self) -> train.Job:
        """The training of the trunk."""
        mixture = self.mixture()
        names = [*self.lineage.datasets(), *self.arrival.inputs]
        start = self.lineage.trunk() if self.lineage.head else self.folder / "initial" / "model"
        return train.Job(
            name="train",
            mixture=mixture,
            first=0,
            steps=mixture.steps,
            position=self.lineage.position,
            schedule=self.schedule(),
            start=start,
            start_checkpoint=None,
            tokens={source.dataset: self.train_tokens(source.dataset) for source in mixture.sources},
            validation={
                name: self.validation_tokens(name) for name in names if self.validation_tokens(name).files(".arrow")
            },
            out=self.folder / "trunk",
            checkpoints=self.folder / "checkpoints",
            settings=self.recipe.train,
            seed=self.recipe.seed,
        )

    def run_train(
        self, start: Start, mixture: replay.ReplayOutcome, tokens: dict[str, tokenize.TokenizeOutcome]
    ) -> train.TrainOutcome:
        """Continue pre-training: the trunk."""
        job = self.job()
        return self.runner.run(
            "train",
            lambda: train.run(job, self.runner.progress),
            train.TrainOutcome,
            job.out,
            {**self.recipe.train.identity(), "schedule": job.schedule.to_json()},
            {
                "start": start.digest,
                "mixture": self.runner.digests["replay"],
                "tokens": {name: made.digest for name, made in tokens.items()},
                "seed": self.recipe.seed,
            },
        )

    def run_anneal(self, trunk: train.TrainOutcome) -> anneal.AnnealOutcome:
        """A release, on a branch off the trunk."""
        settings, minimum = self.recipe.anneal, self.recipe.schedule.minimum
        return self.runner.run(
            "anneal",
            lambda: anneal.run(self.job(), trunk, self.folder / "release", settings, minimum, self.runner.progress),
            anneal.AnnealOutcome,
            self.folder / "release",
            {**settings.identity(), "minimum": minimum},
            {"trunk": trunk.digest, "training": self.runner.digests["train"]},
        )

    def run_evaluate(
        self, trunk: train.TrainOutcome, release: anneal.AnnealOutcome, tokens: dict[str, tokenize.TokenizeOutcome]
    ) -> evaluate.EvaluateOutcome:
        """Losses on every dataset so far, and lm-eval on the release."""
        recipe = self.recipe
        same = trunk.digest == release.digest
        models = {
            "trunk": self.folder / ("release" if same else "trunk") / "model",
            "release": self.folder / "release" / "model",
        }
        names = [*self.lineage.datasets(), *tokens]
        sets = [
            evaluate.EvaluationSet(name, self.validation_tokens(name), self.workspace.dataset(name) / "validation")
            for name in names
            if self.validation_tokens(name).files(".arrow")
        ]
        gpus, actors = evaluation_places(recipe)
        return self.runner.run(
            "evaluate",
            lambda: evaluate.run(
                models,
                sets,
                self.folder / "evaluation",
                recipe.evaluate,
                seq_len=recipe.train.seq_len,
                document_mask=recipe.train.document_mask,
                num_actors=actors,
                gpus=gpus,
                progress=self.runner.progress,
            ),
            evaluate.EvaluateOutcome,
            self.folder / "evaluation",
            {
                **recipe.evaluate.identity(),
                "seq_len": recipe.train.seq_len,
                "document_mask": recipe.train.document_mask,
            },
            {"trunk": trunk.digest, "release": release.digest, "datasets": names},
        )

    @property
    def imports(self) -> bool:
        """Whether this is the base, and taken over from elsewhere."""
        return not self.lineage.updates and self.recipe.model.path is not None

    def take_over(
        self, documents: dict[str, ingest.IngestOutcome], tokens: dict[str, tokenize.TokenizeOutcome]
    ) -> Update:
        """The base as someone else trained it: trunk and release as it is. Datasets that come with it are D0's."""
        source, trunk = Path(str(self.recipe.model.path)), self.folder / "trunk"
        start = self.runner.run(
            "import",
            lambda: Start(**train.import_model(source, trunk)),
            Start,
            trunk,
            {},
            {"model": train.digest_folder(source)},
        )
        trained = train.TrainOutcome(0, 0, 0.0, start.digest, "", 0, 0.0, [])
        release = anneal.AnnealOutcome(False, "the model was imported as it is", 0, 0, start.digest, 0.0, 0.0, [])
        anneal.copy_model(trunk, self.folder / "release")
        scores = self.run_evaluate(trained, release, tokens) if tokens else evaluate.EvaluateOutcome()
        nothing = replay.ReplayOutcome(0, 0, 0, 0.0, 0.0, "none", 0.0, {})
        return self.record(documents, tokens, nothing, trained, release, scores)

    def record(
        self,
        documents: dict[str, ingest.IngestOutcome],
        tokens: dict[str, tokenize.TokenizeOutcome],
        mixture: replay.ReplayOutcome,
        trunk: train.TrainOutcome,
        release: anneal.AnnealOutcome,
        scores: evaluate.EvaluateOutcome,
    ) -> Update:
        """Write the update's record and promote its release."""
        current = self.lineage.current()
        before = current.losses.get("release", {}) if current else {}
        after = scores.losses.get("release", {})
        done = Update(
            id=self.id,
            arrival=self.arrival.name,
            datasets=list(documents),
            state="released",
            finished=now(),
            position=self.lineage.position + trunk.tokens,
            tokens={
                "planned": mixture.planned,
                "new": mixture.new,
                "replayed": mixture.replayed,
                "annealed": release.tokens,
            },
            replay={
                "requested": mixture.requested,
                "achieved": mixture.achieved,
                "source": mixture.source,
                "by_dataset": mixture.by_dataset,
            },
            schedule={} if self.imports else {**self.schedule().to_json(), "settings": self.recipe.schedule.identity()},
            losses=scores.losses,
            bits_per_byte=scores.bits_per_byte,
            forgetting={name: after[name] - loss for name, loss in before.items() if name in after},
            lm_eval=scores.lm_eval,
            seconds=self.runner.seconds,
            train={
                "steps": trunk.steps,
                "world_size": trunk.world_size,
                "tokens_per_second": trunk.tokens_per_second,
                "resumed_from": [*trunk.resumed_from, *release.resumed_from],
            },
            weights={"trunk": trunk.digest, "release": release.digest},
            order_seed=self.recipe.seed,
            data={name: {"ingest": asdict(documents[name]), "tokenize": asdict(tokens[name])} for name in documents},
            notes=[f"anneal: {release.because}", *scores.notes],
        )
        self.lineage.record(done)
        (self.folder / "checkpoints").delete()  # they were for resuming; trunk and release are folders of their own
        return done

    def train_tokens(self, dataset: str) -> Folder:
        """A dataset's training shards."""
        return self.workspace.dataset(dataset) / "tokens" / "train"

    def validation_tokens(self, dataset: str) -> Folder:
        """A dataset's validation shards."""
        return self.workspace.dataset(dataset) / "tokens" / "validation"


def evaluation_places(recipe: Recipe) -> tuple[bool, int]:
    """Whether evaluation runs on GPUs, and on how many actors."""
    import ray

    available = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus = int(available.get("GPU", 0))
    if gpus and recipe.train.device != "cpu":
        return True, gpus
    return False, max(1, min(recipe.train.num_workers, int(available.get("CPU", 1))))
