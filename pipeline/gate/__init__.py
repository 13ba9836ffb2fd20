"""The gate: whether a candidate may take the place of the current release.

``settings.py`` says what is allowed, ``statistics.py`` holds the tests (``mean_change.py`` that of losses),
``pairs.py`` reads what both models were measured on, ``verdict.py`` is the rule, ``run.py`` puts them together,
``view.py`` says it in a few lines.
"""
