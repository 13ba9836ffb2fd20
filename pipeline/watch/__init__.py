"""Scheduled updates: ``rewarm watch`` detects arrivals in an inbox and processes each of them exactly once.

Start reading at ``run.Watch.step``. The lineage records which arrivals were ingested; the journal (``journal.py``)
records which were seen, planned, tried and held. ``state.py`` computes the state of every arrival from the journal;
``observe.py`` and ``policy.py`` decide, as pure functions.
"""
