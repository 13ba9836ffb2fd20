"""Plans as others see them: resolving ``auto`` before and after a kill, the tables, the record and the report."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from rewarm.pipeline.cli.plan_view import plan_view
from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.plan.amount import Amount
from rewarm.pipeline.plan.cost import Forecast, cost_of, plan_kept, retraining, storage
from rewarm.pipeline.plan.plan import Plan, require_base, resolve_auto
from rewarm.pipeline.plan.survey import Survey
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.recipe.settings import CostSettings
from rewarm.pipeline.record import Cost, StepTaken, Tokens, Training, UpdateRecord
from rewarm.pipeline.report import INDEX, UpdateShown, WorkspaceRecord, pages
from rewarm.pipeline.shift.choices import Situation, choose
from rewarm.pipeline.shift.shift import Shift
from rewarm.pipeline.terminal import SafeConsole
from rewarm.stages.core.errors import UsageError
from rewarm.stages.core.progress import Silent
from rewarm.stages.ingest.removals import Removal

PRICES = CostSettings(per_worker_hour=2.0, currency="EUR")
SHIFT = Shift(
    "strong", ["token divergence from docs 0.2 nats"], 3.0, 2.5, 1.2, 1.0, 0.1, 0.2, "docs", {"docs": 0.2}, {"en": 1.0}
)
AMOUNT = Amount(10**9, 10**8, False, 5000, 10**9, 250_000_000, None, 5_000_000, 0.1, 0.0, 3, 400, 2_000_000, 2, 0.4)
TOKENS = {"new": 187_500_000, "replayed": 62_500_000, "annealed": 37_500_000}
SAMPLED = ("file", "location", "detail", "excerpt")


@pytest.fixture
def plan() -> Plan:
    return Plan(
        Survey(AMOUNT, SHIFT),
        choose(SHIFT, Situation(True, "cosine", None, 0.15)),
        Forecast(TOKENS, 100, {"train": 7200.0}, 2.0, 16.0, "EUR", 4, 35_000.0, "measured", ["a note"]),
        storage(255_000_000, 2, 4e8, 10**9, 250_000_000, 2, PRICES),
        retraining(10**9, False, 250_000_000, 35_000.0, 4, PRICES),
    )


def update() -> UpdateRecord:
    """What the comparison reads of an update."""
    tokens = {"planned": 250_000_000, **TOKENS, "new": 187_000_000}
    train, steps = Training(99, 4), {"train": StepTaken(9000.0)}
    return UpdateRecord("0001-code", "code", "released", tokens=Tokens(**tokens), train=train, steps=steps)


def test_an_unfinished_update_keeps_the_plan_it_began_with(plan: Plan, tmp_path: Path) -> None:
    lineage = Lineage(Workspace(str(tmp_path)))
    recipe = load_recipe("tiny", ["replay.share=auto", "schedule.kind=auto"])
    settled, stored = resolve_auto(lineage, {}, recipe, plan.to_json(), Silent())
    assert (settled.replay.share, settled.schedule.kind) == (0.25, "cosine")
    assert stored == plan.to_json()


def test_a_base_needs_no_plan_and_a_plain_recipe_none_at_all(tmp_path: Path) -> None:
    lineage = Lineage(Workspace(str(tmp_path)))
    settled, stored = resolve_auto(lineage, {}, load_recipe("tiny", ["schedule.kind=auto"]), None, Silent())
    assert (settled.schedule.kind, stored) == ("infinite", None)
    plain = load_recipe("tiny")
    assert resolve_auto(lineage, {}, plain, None, Silent()) == (plain, None)
    with pytest.raises(UsageError, match="no base yet"):
        require_base(lineage)


def test_the_json_has_what_others_read(plan: Plan) -> None:
    found = plan.to_json()
    assert {"strength", "arrival_loss", "base_loss", "divergence", "overlap"} <= set(found["shift"])
    assert all(set(choice) == {"value", "because"} for choice in found["choices"].values())
    assert {"new", "replayed"} <= set(found["tokens"])
    assert {"steps", "hours", "cost"} <= set(found)
    assert {"hours", "cost"} <= set(found["retrain"])


def test_the_tables_say_what_the_json_says(plan: Plan) -> None:
    shown = {"datasets": ["code"], "starts_from": "the trunk of 0000-docs", **plan.to_json()}
    text = render_text(shown).replace("\u202f", " ")
    for part in (
        "code: a strong shift",
        "0.25",
        "sections 6.2 and 6.3",
        "16.00 EUR",
        "2 h 00 min",
        "a note",
        "docs 0.200",
    ):
        assert part in text, part
    unknown = {**shown, "hours": None, "cost": None, "retrain": {**shown["retrain"], "tokens": None, "hours": None}}
    assert "unknown" in render_text(unknown)


@pytest.mark.parametrize(
    "text",
    [
        "กรมอุตุนิยมวิทยาประกาศเตือนพายุฤดูร้อนในภาคเหนือและภาคตะวันออกเฉียงเหนือ ขอให้ประชาชนระวังอันตรายจากลมแรง",
        "मौसम विभाग ने उत्तर भारत के कई राज्यों में तेज़ हवाओं और भारी वर्षा की चेतावनी जारी की है, क्\u200dया आप तैयार हैं",
        "气象局发布暴雨预警，提醒市民注意防范强降雨可能引发的城市内涝和山洪地质灾害，尽量减少外出并远离危险区域。",
    ],
)
def test_text_of_every_script_fits_80_columns(plan: Plan, text: str) -> None:
    removal = Removal("language", 60, 100, 6000, 9000, "not in the list", 60, sample=dict.fromkeys(SAMPLED, text))
    shown = {"datasets": ["code"], "starts_from": "the trunk of 0000-docs", **plan.to_json()}
    lines = render_text({**shown, "removals": [removal.to_json()], "notes": [text]}, 80).splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert "".join(text.split()) in "".join("".join(lines).split()), "nothing is lost"


def render_text(plan: dict[str, Any], width: int = 160) -> str:
    console = SafeConsole(width=width, no_color=True)
    with console.capture() as captured:
        console.print(plan_view(plan))
    return captured.get()


def test_the_report_shows_predicted_beside_actual(plan: Plan) -> None:
    kept = plan_kept(plan.to_json())
    assert kept.predicted.hours == 2.0
    done = update()
    assert cost_of(done, PRICES) == Cost(2.5, 20.0, "EUR")
    record = UpdateShown(**vars(replace(done, plan=kept, cost=cost_of(done, PRICES))))
    made = pages(WorkspaceRecord("/w", "0001-code", "2026-03-01T14:05:00+00:00", [], [record]))
    for part in (
        "a strong shift",
        "planned",
        "actual",
        "2\u202fh 00\u202fmin",
        "2\u202fh 30\u202fmin",
        "16.00",
        "20.00",
    ):
        assert all(part in page for page in made.values()), part
    unknown = replace(record, plan=replace(kept, predicted=replace(kept.predicted, hours=None)))
    made = pages(WorkspaceRecord("/w", None, "2026-03-01T14:05:00+00:00", [], [unknown]))
    assert "a strong shift" in made[INDEX]
    assert kept.choices["replay.share"].value == 0.25
