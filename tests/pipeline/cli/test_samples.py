"""``rewarm samples``, the page and the card: texts side by side, at 80 columns, of any script and without controls."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from edited_records import edit_record
from rich.cells import cell_len

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.samples import Sample, read_samples, telling
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.update.card import make_card
from rewarm.pipeline.update.inputs import recipe_of
from rewarm.stages.evaluate.samples import GENERATED

Command = Callable[..., tuple[int, str, str]]
HOSTILE = "red \x1b[31m text\x07 and \u202eback | `code` <b>bold</b>"
WIDE = "言語モデルを最新の状態に保つための小さく安全で再現可能な更新" * 4


def drawn(text: str, prompt: str = "A document begins", temperature: float = 0.7) -> dict[str, Any]:
    one = {"doc_id": "0f", "prompt": prompt, "own": "with its own\n\nwords", "text": text, "ended": False}
    return {"temperature": temperature, "tokens": 8, "samples": [one]}


@pytest.fixture
def sampled(lm: Workspace) -> Workspace:
    """Samples of the last two releases: on an earlier dataset, and on the arrival, which the gate drew of the first."""
    edit_record(lm, "0003-more", lambda record: record.update(gate=None, follows="0002-code"))
    before, last = (lm.update(name) / "evaluation" for name in ("0002-code", "0003-more"))
    before.write_json(GENERATED, {"docs": drawn("of the old release"), "news": drawn("other", temperature=0.0)})
    (last / "against-0002-code").write_json(GENERATED, {"more": drawn(f"<old> {WIDE}", WIDE)})
    new = {"docs": drawn(HOSTILE), "news": drawn("of news"), "more": drawn(WIDE, WIDE)}
    last.write_json(GENERATED, new)
    return lm


def test_a_release_is_shown_beside_the_one_before(sampled: Workspace, rewarm: Command) -> None:
    code, out, error = rewarm("samples", sampled.folder, "--json")
    assert code == 0, error
    found = json.loads(out)
    assert (found["update"], found["before"]) == ("0003-more", "0002-code")
    befores = {one["dataset"]: one["before"] for one in found["samples"]}
    assert befores["docs"] == "of the old release" and befores["more"].startswith("<old>")
    assert befores["news"] is None, "it was drawn at another temperature"
    code, out, _ = rewarm("samples", sampled.folder, "code")
    assert code == 0 and "of the old release" in out and "most likely" not in out.splitlines()[0]


def test_it_fits_80_columns_and_moves_no_cursor(sampled: Workspace, rewarm: Command) -> None:
    code, out, _ = rewarm("samples", sampled.folder)
    assert code == 0
    assert max(map(cell_len, out.splitlines())) <= 80
    assert "\x1b" not in out and "\x07" not in out and "\u202e" not in out and "…" not in out
    assert "".join(out.split()).count("言語モデルを最新の状態に保つための小さく安全で再現可能な更新") >= 10
    assert "0002-code" in out and "document" in out


def test_a_workspace_without_samples_says_so(lm: Workspace, rewarm: Command) -> None:
    code, out, _ = rewarm("samples", lm.folder, "1")
    assert code == 0 and "no samples were drawn" in out


def test_page_and_card_escape_them(sampled: Workspace, rewarm: Command) -> None:
    assert rewarm("report", sampled.folder)[0] == 0
    page = (sampled.folder.path / "report" / "0003-more.html").read_text()
    assert "&lt;b&gt;bold" in page and "\x1b" not in page and "\u202e" not in page
    assert "of the old release" in page and 'href="#samples"' in page
    lineage = Lineage(sampled)
    update, recipe = lineage.find("0003-more"), recipe_of(sampled)
    card = make_card(sampled, lineage.entries[:3], update, recipe.card, imported=False)
    assert "## Samples" in card and "*0002-code*" in card and "of the old release" in card
    assert "\\<b\\>bold" in card and "\x1b" not in card and "\\`code\\`" in card
    without = recipe.card.model_copy(update={"samples": 0})
    assert "## Samples" not in make_card(sampled, lineage.entries[:3], update, without, imported=False)


def test_the_arrivals_come_first(sampled: Workspace) -> None:
    samples = read_samples(sampled, Lineage(sampled).find("0003-more"))
    assert [one.dataset for one in samples] == ["docs", "news", "more"]
    shown = telling([*samples, Sample("docs", "1f", "", "", "", False, 0.7)], ["more"], each=1, most=2)
    assert [one.dataset for one in shown] == ["more", "news"]
