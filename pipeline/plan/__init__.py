"""The planner: shift of an arrival, settings for its update, and predicted cost, within minutes.

    sample.py ──▶ survey.py ──▶ shift.py ──▶ judgement.py ──▶ choices.py ──▶ cost.py
    documents     tokens, loss   measures    weak, strong    settings       tokens, steps, hours, storage

``plan.py`` combines them into a plan and resolves settings that are ``auto``. Only sample and survey read data; the
other modules are pure functions.
"""
