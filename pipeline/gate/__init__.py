"""The gate, which decides whether a candidate may replace the current release.

``statistics.py`` and ``mean_change.py`` have the tests, ``sites.py`` their independent units, ``sizing.py`` the sample
size they need; ``pairs.py`` reads the paired measurements of both models, ``verdict.py`` has the rule. The settings are
in ``pipeline/recipe``, and ``pipeline/update/gate.py`` runs the gate.
"""
