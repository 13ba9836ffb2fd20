"""What the workers have done, as the driver shows it: rank 0 tells an actor, and a thread of the driver asks it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stages.awaiting import Waiting
from stages.progress import Progress
from stages.train.job import Job

INTERVAL = 1.0  # seconds between two looks at what the workers have done
ANSWER = 10.0  # seconds for an answer before it is looked whether the training has ended


@contextmanager
def watched(job: Job, progress: Progress) -> Iterator[Any]:
    """An actor that rank 0 tells its figures, and a thread that passes them on to ``progress``.

    The actor runs on this driver's node, which no loss of other nodes takes away. Where it answers late (a busy
    machine), or is killed and begins anew, progress goes on with its next figures.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote: Any = ray.remote  # its stubs know no affinity
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    kept = remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)
    tracker: Any = kept(Tracker).remote()
    stop = threading.Event()
    shown = {"step": 0, "groups": 0}
    waiting: list[Waiting] = []  # one while a group of workers looks for room

    def show() -> None:
        asked = None
        while not stop.wait(INTERVAL):
            asked = asked or tracker.drain.remote()
            try:
                events = ray.get(asked, timeout=ANSWER)
            except GetTimeoutError:
                continue
            except RayError:  # it is gone, with what it held; Ray starts it again
                events = []
            asked = None
            for event in events:
                if event["kind"] == "placing":
                    waiting[:] = [Waiting(job.name, event["asked"], progress)]
                elif event["kind"] == "placed":
                    waiting.clear()
                else:
                    apply(event, shown, job, progress)
            for one in waiting:
                one.tick()

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield tracker
    finally:
        stop.set()
        thread.join(timeout=15)
        ray.kill(tracker)


def apply(event: dict[str, Any], shown: dict[str, int], job: Job, progress: Progress) -> None:
    """Show one event of the training."""
    per_step = job.mixture.tokens_per_step
    if event["kind"] == "begin":
        at, moved = f"step {event['step']} of {job.steps}", event["step"] - shown["step"]
        if moved:
            progress.advance(moved * per_step)
        if shown["groups"]:
            progress.note(f"{job.name}: the workers were restarted at {at}")
        elif moved:
            progress.note(f"{job.name}: resumed at {at}")
        shown["step"], shown["groups"] = event["step"], shown["groups"] + 1
    elif event["kind"] == "steps":
        last = event["rows"][-1]
        progress.advance((last["step"] - shown["step"]) * per_step, loss=last["loss"], lr=last["lr"])
        shown["step"] = last["step"]
    elif event["kind"] == "note":
        progress.note(f"{job.name}: {event['text']}")
    else:
        losses = "  ".join(f"{name} {loss:.3f}" for name, loss in event["row"]["losses"].items())
        progress.note(f"{job.name}: step {event['row']['step']} of {job.steps}, validation loss  {losses}")


class Tracker:
    """Holds rank 0's figures until the driver fetches them."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._groups: list[Any] = []

    def placing(self, asked: str) -> None:
        """A group of workers looks for room."""
        self._events.append({"kind": "placing", "asked": asked})

    def group(self, placement_group: Any) -> None:
        """A group of workers has this part of the cluster."""
        self._groups.append(placement_group)
        self._events.append({"kind": "placed"})

    def groups(self) -> list[Any]:
        """What groups of workers have had since the last call."""
        groups, self._groups = self._groups, []
        return groups

    def begin(self, step: int, steps: int) -> None:
        """A group of workers set out from ``step``."""
        self._events.append({"kind": "begin", "step": step, "steps": steps})

    def steps(self, rows: list[dict[str, Any]], rate: float) -> None:
        """Steps were done."""
        self._events.append({"kind": "steps", "rows": rows, "tokens_per_second": rate})

    def note(self, text: str) -> None:
        """A line to be shown."""
        self._events.append({"kind": "note", "text": text})

    def validation(self, row: dict[str, Any]) -> None:
        """Validation losses were taken."""
        self._events.append({"kind": "validation", "row": row})

    def drain(self) -> list[dict[str, Any]]:
        """All events since the last call."""
        events, self._events = self._events, []
        return events
