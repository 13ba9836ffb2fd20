"""Arrivals on a schedule: ``rewarm watch`` notices what comes into an inbox, and takes each arrival in exactly once.

Start reading at ``run.Watch.step``. The lineage says what was taken in, the journal (``journal.py``) what was seen,
planned, tried and held; ``book.py`` adds the journal up, ``observe.py`` and ``policy.py`` decide, as pure functions.
"""

from rewarm.pipeline.watch.actions import outlook, retry, settings_of, status, switch, watch
from rewarm.pipeline.watch.settings import WatchSettings

__all__ = ["WatchSettings", "outlook", "retry", "settings_of", "status", "switch", "watch"]
