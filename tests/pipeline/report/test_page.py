"""The pages in a real browser: plots drawn, nothing fails or is fetched, a phone's width is enough, names are safe."""

import math
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from report_page import PHONE, Page, parsed, phone, probed

from rewarm.pipeline.record import Laid
from rewarm.pipeline.report import INDEX, UpdateShown, WorkspaceRecord, assets, file_name, is_page, pages
from rewarm.pipeline.shift.choices import Choice

INDEX_PLOTS = {"training-loss", "validation-loss", "learning-rate", "token-account", "stage-times"}
BASE_PLOTS = {"training-loss", "validation-loss", "learning-rate", "gradient-norm", "token-account"}
UPDATE_PLOTS = BASE_PLOTS | {"stability-gap"}
HOSTILE = (
    'a<b>&"c',
    "</script><script>document.title='broken'</script>",
    "%{x} $y$ <!--",
    "<img src=x onerror=alert(1)>",
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
    "--window-size=1200,900",
]


def single(record: WorkspaceRecord) -> dict[str, str]:
    """Every page as one file."""
    return pages(record, alone=True)


@pytest.fixture(scope="module")
def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip("no Chromium on this machine: install the package chromium to see the report drawn")
    return found


@pytest.fixture
def browse(chromium: str, tmp_path: Path) -> Callable[..., Page]:
    def _browse(html: str, *flags: str) -> Page:
        file = tmp_path / "report.html"
        file.write_text(html, "utf-8")
        command = [chromium, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, "--dump-dom", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        page = parsed(done.stdout)
        page.console = [text for text in done.stderr.splitlines() if "CONSOLE" in text]
        return page

    return _browse


def assert_whole(page: Page, plots: set[str]) -> None:
    assert page.console == []
    assert "data-errors" not in page.attributes
    assert set(page.drawn) == plots
    assert page.attributes.get("data-plots") == (str(len(plots)) if plots else None)
    assert [address for address in page.resources if not address.startswith(("#", "data:"))] == []


def assert_probed(page: Page, plots: set[str]) -> None:
    """Every plot has traces, nothing was fetched, and nothing is wider than the window."""
    assert set(page.probe["traces"]) == plots
    assert all(page.probe["traces"].values()), page.probe["traces"]
    assert page.probe["fetched"] == []
    assert (page.probe["overflow"], page.probe["beyond"]) == (0, [])


def test_pages_of_one_folder_share_its_files(
    browse: Callable[..., Page], guarded: WorkspaceRecord, tmp_path: Path
) -> None:
    for name, text in assets().items():
        (tmp_path / name).write_text(text, "utf-8")
    for name, plots in ((INDEX, INDEX_PLOTS), ("0003-shuffled.html", UPDATE_PLOTS)):
        html = pages(guarded)[name]
        assert len(html) < 200_000
        page = browse(html)
        assert page.console == []
        assert set(page.drawn) == plots
        assert {address for address in page.resources if address in assets()} == set(assets())
    (plotly,) = [name for name in assets() if name.startswith("plotly-")]
    (tmp_path / plotly).unlink()
    assert "is not beside this page" in str(browse(pages(guarded)[INDEX]).attributes.get("data-errors"))


def test_the_workspaces_page_is_drawn_and_nothing_is_fetched(
    browse: Callable[..., Page], guarded: WorkspaceRecord
) -> None:
    page = browse(probed(single(guarded)[INDEX]))
    assert_whole(page, INDEX_PLOTS)
    assert_probed(page, INDEX_PLOTS)
    assert page.texts >= {"0004-news-2026-02", "answers about fees were wrong"}
    assert "rgb(31, 95, 191)" in page.strokes
    assert "sci-docs" in page.probe["hover"]
    assert {"rail", "back", "cross", "mark current"} <= set(page.marks)


def test_an_updates_page_is_drawn_and_nothing_is_fetched(browse: Callable[..., Page], guarded: WorkspaceRecord) -> None:
    page = browse(probed(single(guarded)["0003-shuffled.html"]))
    assert_whole(page, UPDATE_PLOTS)
    assert_probed(page, UPDATE_PLOTS)
    assert page.texts >= {"Refused by the gate", "failed", "not in this update", "planned", "actual", "24.98\u202f%"}
    assert any("above its limit of 0.100" in text for text in page.texts)


@pytest.mark.parametrize("name", [INDEX, "0003-shuffled.html"])
def test_a_phone_shows_every_page_without_scrolling_sideways(
    browse: Callable[..., Page], guarded: WorkspaceRecord, name: str
) -> None:
    page = browse(phone(probed(single(guarded)[name])))
    assert page.console == []
    assert page.probe["width"] == PHONE
    assert_probed(page, INDEX_PLOTS if name == INDEX else UPDATE_PLOTS)


def test_the_links_of_the_pages_lead_to_one_another(guarded: WorkspaceRecord) -> None:
    made = {name: parsed(html) for name, html in single(guarded).items()}
    assert set(made) == {INDEX, *(file_name(update.id) for update in guarded.updates)}
    followed = set()
    for name, page in made.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            to = unquote(target) or name
            assert to in made, f"{name} links to {link}"
            assert not anchor or anchor in made[to].anchors, f"{name} links to {link}"
            followed.add((name, to))
    for update in guarded.updates:
        assert {(INDEX, file_name(update.id)), (file_name(update.id), INDEX)} <= followed


def test_pages_can_be_read_by_their_headings_and_captions(guarded: WorkspaceRecord) -> None:
    for html in single(guarded).values():
        page = parsed(html)
        assert page.headings.count(1) == 1
        assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
        assert page.tables == page.captions > 0
        assert 'lang="en"' in html
        assert "width=device-width" in html


def test_dark_mode_reaches_the_plots(browse: Callable[..., Page], demo: WorkspaceRecord) -> None:
    page = browse(single(demo)[INDEX], "--blink-settings=preferredColorScheme=0")
    assert_whole(page, INDEX_PLOTS)
    assert "rgb(116, 169, 255)" in page.strokes
    assert "rgb(31, 95, 191)" not in page.strokes


def hostile(record: WorkspaceRecord) -> WorkspaceRecord:
    """A record whose every text that comes from elsewhere holds HTML."""
    harm = HOSTILE[1]
    updates = []
    for update in record.updates:
        gate = update.gate and replace(
            update.gate,
            because=[harm],
            checks=[replace(check, name=harm, metric=harm, because=harm) for check in update.gate.checks],
        )
        shift = update.plan and replace(update.plan.shift, because=[harm])
        predicted = update.plan and replace(update.plan.predicted, currency=harm)
        choices = {harm: Choice(harm, harm)}
        plan = update.plan and replace(update.plan, shift=shift, choices=choices, predicted=predicted)
        texts: Mapping[str, Any] = {
            "notes": [harm],
            "schedule": Laid(harm, [], settings={harm: harm}),
            "digests": {harm: harm},
        }
        updates.append(replace(update, gate=gate, plan=plan, lm_eval={harm: {harm: 0.5}}, **texts))
    history = [replace(entry, because=harm) for entry in record.history]
    return replace(record, workspace=harm, updates=updates, history=history, versions={harm: harm})


def test_any_text_is_safe_and_stays_what_it_is(
    browse: Callable[..., Page], demo: WorkspaceRecord, make_lineage: Callable[..., WorkspaceRecord]
) -> None:
    harmless = {name: parsed(html) for name, html in single(demo).items()}
    record = hostile(make_lineage(HOSTILE))
    made = single(record)
    for html in made.values():
        page = parsed(html)
        assert page.scripts == harmless[INDEX].scripts
        assert page.resources == []
        assert HOSTILE[1] in page.texts
    for name, plots in ((INDEX, INDEX_PLOTS), (file_name(record.updates[2].id), UPDATE_PLOTS)):
        page = browse(made[name])
        assert_whole(page, plots)
        assert page.texts >= {*HOSTILE[:3], *(f"Replayed: {text}" for text in HOSTILE[:2])}
        assert "broken" not in page.texts


def test_twelve_updates_of_twelve_datasets(
    browse: Callable[..., Page], make_lineage: Callable[..., WorkspaceRecord]
) -> None:
    record = make_lineage([f"2024-{month:02d}" for month in range(1, 13)], steps=1000)
    page = browse(probed(single(record)[INDEX]))
    assert_whole(page, INDEX_PLOTS)
    assert_probed(page, INDEX_PLOTS)
    assert page.texts >= {f"{index:04d}-2024-{index + 1:02d}" for index in range(12)}


def test_an_unfinished_update_is_shown_but_has_no_page(unfinished: WorkspaceRecord) -> None:
    made = single(unfinished)
    page = parsed(made[INDEX])
    assert page.texts >= {"refused", "unfinished", "Update 0003-news is not finished."}
    assert "0003-news.html" not in made
    assert "0003-news.html" not in page.links


def test_only_a_base_that_diverged(browse: Callable[..., Page], demo: WorkspaceRecord) -> None:
    base = demo.updates[0]
    curve = [replace(point, loss=math.nan) if i > 100 else point for i, point in enumerate(base.curve)]
    base = replace(base, curve=curve, lm_eval={}, losses={"release": {"sci-docs": math.nan}})
    made = single(replace(demo, updates=[base], release=base.id, history=demo.history[:1]))
    page = browse(made[file_name(base.id)])
    assert_whole(page, BASE_PLOTS)
    assert page.texts >= {
        "NaN",
        "no earlier dataset to forget",
        "lm-eval has not measured this release.",
        "A base has no gap.",
    }
    assert "the base" in parsed(made[INDEX]).texts


def test_an_imported_base_without_training(browse: Callable[..., Page], imported: WorkspaceRecord) -> None:
    made = single(imported)
    assert_whole(browse(made[INDEX]), {"stage-times"})
    page = browse(made["0000-base.html"])
    assert_whole(page, set())
    assert page.texts >= {"0000-base", "Nothing was trained.", "Nothing was measured."}
    assert len(made["0000-base.html"]) < 100_000, "no plot, no library"


def test_a_workspace_without_any_update(imported: WorkspaceRecord) -> None:
    made = single(replace(imported, updates=[], release=None))
    assert list(made) == [INDEX]
    assert parsed(made[INDEX]).texts >= {"There is no release yet.", "There is no update yet."}


def test_these_checks_would_notice(browse: Callable[..., Page], demo: WorkspaceRecord) -> None:
    html = single(demo)[INDEX]
    torn = "setTimeout(() => { throw new Error('torn') })"
    assert "torn" in (browse(probed(html, torn)).attributes["data-errors"] or "")
    harm = f"<script>{torn}</script><img src='https://example.invalid/x.png'></body>"
    page = browse(html.replace("</body>", harm))
    assert "data-errors" not in page.attributes, "the policy lets no script run but the page's own"
    assert len([text for text in page.console if "Content Security Policy" in text]) >= 2
    assert "https://example.invalid/x.png" in page.resources
    wide = probed(html).replace("<main>", "<main><p style='width: 1300px'>wide</p>")
    assert browse(wide).probe["overflow"] > 0


def test_pages_are_pure_and_small_enough_to_mail(demo: WorkspaceRecord) -> None:
    made = single(demo)
    assert made == single(demo)
    assert all(len(html) < 2_300_000 for html in made.values())
    later = single(replace(demo, generated="2027-01-01T00:00:00Z"))
    assert {name for name in made if made[name] != later[name]} == {INDEX}, "an update's page stays what it was"


def test_names_of_pages(demo: WorkspaceRecord) -> None:
    assert all(is_page(file_name(update.id)) for update in demo.updates)
    assert not any(is_page(name) for name in (INDEX, "notes.html", "0000-x.txt"))


def test_the_final_losses_of_training_stand_beside_those_of_the_full_split(demo: WorkspaceRecord) -> None:
    losses = demo.updates[0].window_losses["release"]["sci-docs"]
    assert f'<td class="plain">{losses:.3f}</td>' in single(demo)["0000-sci-docs.html"]


def test_a_held_release_says_what_could_not_be_decided(demo: WorkspaceRecord) -> None:
    update = demo.updates[1]
    assert update.gate is not None
    because = "docs: 3 of them can show nothing: undecided"
    check = replace(update.gate.checks[0], outcome="undecided", passed=False, detectable=0.7654)
    gate = replace(update.gate, passed=False, outcome="held", because=[because], checks=[check])
    held = replace(update, state="undecided", gate=gate)
    history = [entry for entry in demo.history if entry.update != update.id]
    record = replace(demo, updates=[demo.updates[0], held], release=demo.updates[0].id, history=history)
    made = single(record)
    page, index = made[file_name(held.id)], made[INDEX]
    assert "Held, undecided" in page
    assert "Refused by the gate" not in page
    assert because in page
    assert "0.765" in page
    assert "rewarm promote" in index
    assert because in index


def test_an_update_without_a_verdict_says_so(demo: WorkspaceRecord) -> None:
    before: UpdateShown = replace(demo.updates[1], gate=None)
    record = replace(demo, updates=[demo.updates[0], before, demo.updates[2]])
    page = single(record)[file_name(before.id)]
    assert "No gate was asked" in page
    assert "Passed the gate" not in page


def test_rules_that_are_not_defined_for_a_script_are_named_with_their_documents(demo: WorkspaceRecord) -> None:
    told = "gopher-quality: mean word length: not defined for the script (210 documents)"
    page = single(demo)[file_name(demo.updates[-1].id)]
    assert told in page
    assert "4,321 × record of type request" in page or "4 321 × record of type request" in page


def test_a_step_that_removed_much_is_named_where_the_data_is(demo: WorkspaceRecord) -> None:
    sentence = "read removed 60% of the documents (60 of 100); most often: invalid JSON (60)"
    last = demo.datasets[-1]
    ingest = replace(last.part.ingest, removals=[{"step": "read", "sentence": sentence}])
    shown = replace(last, part=replace(last.part, ingest=ingest))
    made = single(replace(demo, datasets=[*demo.datasets[:-1], shown]))
    assert sentence in made[file_name(demo.updates[-1].id)]
