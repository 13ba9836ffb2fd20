"""The actor between a driver of training and its workers, and what the driver shows of it.

Rank 0 sends its figures to it, and the driver fetches them; the driver leaves the next job there, and the workers fetch
it. It runs on the driver's node, so it survives the loss of other nodes. Whatever it holds is sent again by one side or
the other, so it may die and be restarted: only figures that were not fetched yet are lost.
"""

from dataclasses import dataclass
from typing import Any

from rewarm.stages.core.awaiting import Waiting
from rewarm.stages.core.progress import Progress
from rewarm.stages.train.job import Job

ANSWER = 10.0  # seconds to wait for an answer before checking whether training has ended


@dataclass(frozen=True)
class Given:
    """A job for a group of workers."""

    group: int
    number: int  # of the attempt at a job, counted over all groups
    job: tuple[Any]  # reference to the ``Job``, in a tuple so that Ray does not fetch it for the tracker


@dataclass(frozen=True)
class Wait:
    """No job yet."""


@dataclass(frozen=True)
class End:
    """No more jobs."""

    group: int = 0


class Tracker:
    """Buffer of rank 0's figures until the driver fetches them, and of the job that workers are to train next."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._groups: list[Any] = []
        self._given: Given | End | None = None
        self._results: dict[int, dict[str, Any]] = {}
        self._requests = 0

    # -- called by workers and their controller ----------------------------------------------------------------

    def placing(self, asked: str) -> None:
        """Record that a group of workers is waiting for resources."""
        self._events.append({"kind": "placing", "asked": asked})

    def group(self, placement_group: Any) -> None:
        """Record the placement group of a group of workers."""
        self._groups.append(placement_group)
        self._events.append({"kind": "placed"})

    def following(self, group: int, done: int, result: dict[str, Any] | None) -> Given | Wait | End:
        """Return the job after ``done`` for a group of workers; ``result`` is that of ``done``, from rank 0."""
        if done and result is not None:
            self._results[done] = result
        given = self._given
        if given is None or given.group < group:
            return Wait()  # from before a restart of this actor, or not there yet
        if isinstance(given, End) or given.group > group:
            return End()  # a group that the driver has replaced must not train what its successor trains
        return given if given.number > done else Wait()

    def requests(self) -> int:
        """Return how often the driver has asked for a checkpoint."""
        return self._requests

    def saved(self, step: int) -> None:
        """Record that a checkpoint is complete."""
        self._events.append({"kind": "saved", "step": step})

    def begin(self, step: int, steps: int) -> None:
        """Record that a group of workers started from ``step``."""
        self._events.append({"kind": "begin", "step": step, "steps": steps})

    def steps(self, rows: list[dict[str, Any]], rate: float) -> None:
        """Record completed steps."""
        self._events.append({"kind": "steps", "rows": rows, "tokens_per_second": rate})

    def note(self, text: str) -> None:
        """Record a line to be shown."""
        self._events.append({"kind": "note", "text": text})

    def validation(self, row: dict[str, Any]) -> None:
        """Record validation losses."""
        self._events.append({"kind": "validation", "row": row})

    # -- called by the driver ----------------------------------------------------------------------------------

    def request(self) -> None:
        """Ask the workers for a checkpoint after their current step."""
        self._requests += 1

    def groups(self) -> list[Any]:
        """Return the placement groups since the last call."""
        groups, self._groups = self._groups, []
        return groups

    def drain(self, given: Given | End | None) -> tuple[list[dict[str, Any]], dict[int, dict[str, Any]]]:
        """Take what the workers are to do next; return all events since the last call, and results by job."""
        self._given = given
        events, self._events = self._events, []
        return events, self._results


class Connection:
    """The driver's connection to a ``Tracker``, which it starts."""

    def __init__(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        remote: Any = ray.remote  # its stubs lack node affinity
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        kept = remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
        self.tracker: Any = kept(Tracker).remote()
        self._asked: Any = None

    def drain(self, given: Given | End | None) -> tuple[list[dict[str, Any]], dict[int, dict[str, Any]]]:
        """Return the workers' events and results; none if the tracker answers late (a busy machine) or has died."""
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        self._asked = self._asked or self.tracker.drain.remote(given)
        try:
            found: tuple[list[dict[str, Any]], dict[int, dict[str, Any]]] = ray.get(self._asked, timeout=ANSWER)
        except GetTimeoutError:
            return [], {}
        except RayError:  # it died with its events; Ray restarts it
            found = [], {}
        self._asked = None
        return found

    def request(self) -> None:
        """Ask the workers for a checkpoint after their current step."""
        self.tracker.request.remote()

    def close(self) -> None:
        """End the tracker."""
        import ray

        ray.kill(self.tracker)


class Requests:
    """Rank 0's view of the driver's requests for a checkpoint; asking does not wait."""

    def __init__(self, tracker: Any) -> None:
        self._tracker = tracker
        self._seen = 0
        self._asked: Any = None

    def __call__(self) -> bool:
        """Return whether there is a new request."""
        import ray
        from ray.exceptions import RayError

        self._asked = self._asked or self._tracker.requests.remote()
        if not ray.wait([self._asked], timeout=0)[0]:
            return False
        try:
            count = int(ray.get(self._asked))
        except RayError:  # it is restarted, without requests
            count = self._seen
        self._asked, before, self._seen = None, self._seen, count
        return count > before


class Display:
    """Shows the events of one job."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self.job = job
        self.progress = progress
        self.step = 0
        self.groups = 0  # of workers that have begun the job
        self.saved = 0  # checkpoints that they have saved
        self.waiting: Waiting | None = None  # while a group of workers waits for resources

    def show(self, events: list[dict[str, Any]]) -> None:
        """Show events, and how long workers have waited for room."""
        for event in events:
            if event["kind"] == "placing":
                self.waiting = Waiting(self.job.name, event["asked"], self.progress)
            elif event["kind"] == "placed":
                self.waiting = None
            else:
                self.apply(event)
        if self.waiting is not None:
            self.waiting.tick()

    def apply(self, event: dict[str, Any]) -> None:
        """Show one event of training."""
        job, progress, per_step = self.job, self.progress, self.job.mixture.tokens_per_step
        if event["kind"] == "begin":
            at, moved = f"step {event['step']} of {job.steps}", event["step"] - self.step
            if moved:
                progress.advance(moved * per_step)
            if self.groups:
                progress.note(f"{job.name}: the workers were restarted at {at}")
            elif moved:
                progress.note(f"{job.name}: resumed at {at}")
            self.step, self.groups = event["step"], self.groups + 1
        elif event["kind"] == "steps":
            last = event["rows"][-1]
            progress.advance((last["step"] - self.step) * per_step, loss=last["loss"], lr=last["lr"])
            self.step = last["step"]
        elif event["kind"] == "saved":
            self.saved += 1
        elif event["kind"] == "note":
            progress.note(f"{job.name}: {event['text']}")
        else:
            losses = "  ".join(f"{name} {loss:.3f}" for name, loss in event["row"]["losses"].items())
            progress.note(f"{job.name}: step {event['row']['step']} of {job.steps}, validation loss  {losses}")
