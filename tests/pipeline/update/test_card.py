"""Each release carries a card that the hub's own library reads, and that says what the record says."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from records import verdict
from release_world import SETTINGS

from rewarm.pipeline.lineage.lineage import Lineage
from rewarm.pipeline.lineage.workspace import Workspace
from rewarm.pipeline.recipe.recipe import load_recipe
from rewarm.pipeline.recipe.settings import CardSettings
from rewarm.pipeline.record import Tokens
from rewarm.pipeline.update.card import make_card, parents
from rewarm.pipeline.update.card_text import escaped, gate_text, table

Command = Callable[..., tuple[int, str, str]]
PLAIN = CardSettings()


def written(workspace: Workspace, update: str) -> ModelCard:
    """The card of an update's release, as the hub's library reads it."""
    return ModelCard((workspace.update(update) / "release" / "model").read("README.md").decode())


def test_every_release_has_one_with_the_hubs_front_matter(lm: Workspace) -> None:
    for update in Lineage(lm).updates:
        data = written(lm, update.id).data
        assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "transformers", "text-generation")
        assert data.language == ["en"]
        assert {"rewarm", "continual-pretraining"} <= set(data.tags or [])
        assert data.base_model is None
        losses = {one.dataset_type: one.metric_value for one in data.eval_results or [] if one.metric_type == "loss"}
        assert losses == pytest.approx(update.losses["release"], abs=1e-6)
        scores = {one.dataset_type: one.metric_value for one in data.eval_results or [] if one.metric_type == "acc"}
        assert scores == {"rewarm_docs_continuation": 0.25}


def test_the_text_has_the_records_figures(lm: Workspace) -> None:
    lineage = Lineage(lm)
    update = lineage.find("2")
    text = written(lm, update.id).text
    ingested, tokenized = vars(update.data["code"].ingest), vars(update.data["code"].tokenize)
    assert f"| code | {ingested['documents']:,} | {tokenized['num_tokens']:,} |" in text
    assert "| code: invalid JSON | 1 |" in text, "what was refused, and why"
    assert f"{update.replay.achieved:.2%} of the training tokens" in text
    before = update.losses["release"]["docs"] - update.forgetting["docs"]
    assert (
        f"| docs | {before:.4f} | {update.losses['release']['docs']:.4f} | {update.forgetting['docs']:+.4f} |" in text
    )
    assert f"| new tokens | {update.tokens.new:,} |" in text
    assert update.weights.release in text
    rows = [line.split(" | ")[0] for line in text.partition("## Lineage")[2].splitlines() if line.startswith("| 0")]
    assert rows == ["| 0000-docs", "| 0001-news", "| 0002-code"]
    for part in ("## Use and limits", "from_pretrained", "| torch |"):
        assert part in text


def test_the_gates_verdict_is_told(lm: Workspace) -> None:
    update = Lineage(lm).find("1")
    check = {"kind": "loss", "name": "docs", "metric": "nats/token", "candidate": 5.2, "current": 5.0, "change": 0.2}
    more = {"limit": 0.1, "p": 0.001, "p_adjusted": 0.002, "n": 9, "passed": False, "because": "", "role": "old"}
    more |= {"units": 9, "worth": None, "detectable": None, "outcome": "refused"}
    gate = verdict(False, "docs: forgot 0.2 nats", checks=[check | more])
    text = gate_text(replace(update, gate=gate))
    assert "Compared with release 0000-docs, it did not pass." in text
    assert "- docs: forgot 0.2 nats" in text
    assert "| docs | nats/token | 5 | 5.2 | 0.2 | 0.1 |  | 0.001 | 0.002 | failed |" in text
    assert gate_text(replace(update, gate=verdict(True))) == "Compared with release 0000-docs, it passed."


def test_settings_fill_in_what_only_people_know(lm: Workspace) -> None:
    lineage = Lineage(lm)
    settings = CardSettings(
        license="other",
        license_name="house",
        license_link="LICENSE",
        name="Our model",
        base_model="lab/base",
        language=("de", "fr"),
        tags=("law",),
        intended_use="For drafts of contracts.",
    )
    card = ModelCard(make_card(lm, lineage.entries[:1], lineage.updates[1], settings, imported=True))
    found = card.data.to_dict()
    assert (found["license"], found["license_name"], found["base_model"]) == ("other", "house", "lab/base")
    assert found["language"] == ["de", "fr"]
    assert "law" in found["tags"]
    assert found["model-index"][0]["name"] == "Our model"
    assert "For drafts of contracts." in card.text
    with pytest.raises(ValueError, match="license_name"):
        CardSettings(license="other")


def test_the_card_changes_no_identity_and_no_digest(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    plain, named = load_recipe("tiny", SETTINGS), load_recipe("tiny", [*SETTINGS, "card.name=Another", "card.tags=[x]"])
    assert plain.identity() == named.identity()
    assert "card" not in plain.identity(), "an update that was begun before cards were there goes on"
    assert rewarm("export", lm.folder, "--to", tmp_path / "out")[0] == 0
    assert "0003-more" in ModelCard.load(tmp_path / "out" / "README.md").text


def test_a_release_without_a_card_gets_one_when_it_is_pushed(lm: Workspace, rewarm: Command, tmp_path: Path) -> None:
    model = lm.update("0003-more") / "release" / "model"
    made = model.read("README.md")
    model.delete("README.md")
    assert rewarm("push", lm.folder, "--to", tmp_path / "out")[0] == 0
    assert (tmp_path / "out" / "README.md").read_bytes() == made
    assert not model.exists("README.md")


def test_names_from_data_are_plain_text(lm: Workspace) -> None:
    lineage = Lineage(lm)
    update = lineage.updates[1]
    evil = "a|b](http://x) <script>`\n# title"
    replayed = {evil: {**next(iter(update.replay.by_dataset.values()))}}
    data = {"news": replace(update.data["news"], ingest=replace(update.data["news"].ingest, reasons={evil: 3}))}
    changed = replace(update, replay=replace(update.replay, by_dataset=replayed), data=data)
    text = ModelCard(make_card(lm, lineage.entries[:1], changed, PLAIN, imported=False)).text
    assert "<script>" not in text
    assert "\n# title" not in text
    assert r"a\|b\]\(http://x\) \<script\>\`" in text


@given(st.text())
def test_a_cell_is_one_cell(text: str) -> None:
    line = table(("a", "b"), [(text, "end")]).splitlines()
    assert len(line) == 3
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line[2])) == 3
    assert re.sub(r"\\([\\`*_{}\[\]()<>#|~!$&])", r"\1", escaped(text)) == " ".join(text.split())


def test_parents_go_round_what_was_refused(lm: Workspace) -> None:
    lineage = Lineage(lm)
    entries, update = lineage.entries, lineage.updates[3]
    assert [one.id for one in parents(entries, update)] == ["0000-docs", "0001-news", "0002-code"]
    last = replace(update, follows="0001-news")
    assert [one.id for one in parents(entries, last)] == ["0000-docs", "0001-news"]


BASE_CARD = """---
license: other
license_name: llama3
license_link: LICENSE
base_model: someone/smaller
---
# A model
"""


@pytest.mark.parametrize(
    ("path", "card", "settings", "expected"),
    [
        ("/models/base", BASE_CARD, {}, ("other", "llama3", "someone/smaller")),
        ("/c/models--some-org--A.Model-8B/snapshots/ab12", BASE_CARD, {}, ("other", "llama3", "some-org/A.Model-8B")),
        ("/models/base", None, {}, ("unknown", None, None)),
        ("/models/base", "---\n: [\n---\nno card", {}, ("unknown", None, None)),
        ("/models/base", BASE_CARD, {"license": "mit", "base_model": "me/mine"}, ("mit", None, "me/mine")),
    ],
)
def test_licence_and_name_of_an_imported_base_are_kept(
    tmp_path: Path, lm: Workspace, path: str, card: str | None, settings: dict[str, str], expected: tuple[str, ...]
) -> None:
    lineage = Lineage(lm)
    workspace = Workspace(str(tmp_path))
    workspace.folder.write_json("workspace.json", {"format": 1, "recipe": {"model": {"path": path}}})
    if card is not None:
        (workspace.update(lineage.updates[0].id) / "trunk" / "model").write("README.md", card.encode())
    update = lineage.updates[-1]
    made = make_card(workspace, lineage.entries, update, CardSettings.model_validate(settings), imported=True)
    data = ModelCard(made).data
    assert (data.license, data.license_name, data.base_model) == expected


def test_a_release_annealed_from_a_finished_trunk_says_so(lm: Workspace) -> None:
    lineage = Lineage(lm)
    source = lineage.find("2")
    made = replace(
        source,
        id="0003-anneal-code",
        datasets=[],
        data={},
        schedule=None,
        follows=source.id,
        tokens=Tokens(annealed=4096),
        notes=[f"anneal: the trunk of {source.id}, branched"],
    )
    text = make_card(lm, lineage.entries, made, PLAIN, imported=False)
    assert f"annealed another release of the trunk of {source.id}" in text
    assert "| tokens of the annealed branch | 4,096 |" in text
    assert "imported" not in text
