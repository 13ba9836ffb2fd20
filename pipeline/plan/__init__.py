"""The planner: what an arrival is, what its update should be, and what it will cost; minutes of work, not GPU-days.

    sample.py ──▶ survey.py ──▶ shift.py ──▶ judgement.py ──▶ choices.py ──▶ cost.py
    documents     tokens, loss   measures    weak, strong    settings       tokens, steps, hours, storage

``plan.py`` makes a plan of them, and puts its choices where a recipe says ``auto``. Only sample and survey read data;
the rest are pure functions.
"""
