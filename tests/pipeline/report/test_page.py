"""The report in a real browser: every plot is drawn, nothing fails, nothing is fetched, any name is safe."""

import math
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline.report import WorkspaceRecord, render

PLOTS = {
    "training-loss",
    "validation-loss",
    "stability-gap",
    "learning-rate",
    "gradient-norm",
    "token-account",
    "stage-times",
}
HOSTILE = ('a<b>&"c', "</script><script>document.title='broken'</script>", "%{x} $y$ <!--")
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


@dataclass
class Page(HTMLParser):
    """What the browser made of the page."""

    drawn: dict[str, int] = field(default_factory=dict)
    """Drawings in each plot."""
    attributes: dict[str, str | None] = field(default_factory=dict)
    """Of the root."""
    resources: list[str] = field(default_factory=list)
    """What the page links to or would load."""
    scripts: int = 0
    texts: set[str] = field(default_factory=set)
    strokes: str = ""
    """Every style within the plots."""
    console: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._plot = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "html":
            self.attributes = values
        if "plot" in (values.get("class") or "").split():
            self._plot = values["id"] or ""
        elif tag in ("section", "table", "script"):
            self._plot = ""
        self.scripts += tag == "script"
        if tag == "svg" and self._plot:
            self.drawn[self._plot] = self.drawn.get(self._plot, 0) + 1
        if self._plot:
            self.strokes += values.get("style") or ""
        self.resources += [value for key, value in attrs if key in ("src", "href", "srcset", "data") and value]

    def handle_data(self, data: str) -> None:
        self.texts.add(data.strip())


@pytest.fixture(scope="module")
def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip("no Chromium on this machine: install the package chromium to see the report drawn")
    return found


@pytest.fixture
def browse(chromium: str, tmp_path: Path) -> Callable[..., Page]:
    def _browse(html: str, flags: Sequence[str] = ()) -> Page:
        file = tmp_path / "report.html"
        file.write_text(html, "utf-8")
        command = [chromium, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, "--dump-dom", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        page = Page()
        page.feed(done.stdout)
        page.console = [text for text in done.stderr.splitlines() if "CONSOLE" in text]
        return page

    return _browse


def assert_whole(page: Page, plots: set[str]) -> None:
    assert page.console == []
    assert "data-errors" not in page.attributes
    assert set(page.drawn) == plots
    assert page.attributes.get("data-plots") == str(len(plots))
    assert [address for address in page.resources if not address.startswith(("#", "data:"))] == []


def test_every_plot_is_drawn_and_nothing_is_fetched(browse: Callable[..., Page], demo: WorkspaceRecord) -> None:
    page = browse(render(demo))
    assert_whole(page, PLOTS)
    assert page.texts >= {"0002-code", "sci-docs", "−1.040", "40, 80", "24.98\u202f%"}
    assert "rgb(31, 95, 191)" in page.strokes


def test_the_stability_gap_of_an_update_is_chosen_from_a_list(
    browse: Callable[..., Page], demo: WorkspaceRecord
) -> None:
    html = render(demo)
    page = browse(html)
    assert page.texts >= {"Loss above the start (nats per token)", "not in this update"}
    choose = """<script>setTimeout(() => {
      const list = document.getElementById("stability-gap-panel");
      const names = () => document.getElementById("stability-gap").data.map((trace) => trace.name).join(", ");
      const before = names();
      list.value = "0001-ml-docs";
      list.dispatchEvent(new Event("change"));
      setTimeout(() => { document.querySelector("h1").textContent = `${before} | ${names()}`; }, 2000);
    }, 2000);</script></body>"""
    assert "sci-docs, ml-docs, code | sci-docs, ml-docs" in browse(html.replace("</body>", choose)).texts


def test_dark_mode_reaches_the_plots(browse: Callable[..., Page], demo: WorkspaceRecord) -> None:
    page = browse(render(demo), ["--blink-settings=preferredColorScheme=0"])
    assert_whole(page, PLOTS)
    assert "rgb(116, 169, 255)" in page.strokes
    assert "rgb(31, 95, 191)" not in page.strokes


def test_any_name_is_safe_and_stays_what_it_is(
    browse: Callable[..., Page], demo: WorkspaceRecord, make_lineage: Callable[..., WorkspaceRecord]
) -> None:
    page = browse(render(make_lineage(HOSTILE)))
    assert_whole(page, PLOTS)
    harmless = Page()
    harmless.feed(render(demo))
    assert page.scripts == harmless.scripts
    assert page.texts >= {*HOSTILE, *(f"Replayed: {name}" for name in HOSTILE[:2])}
    assert "broken" not in page.texts


def test_twelve_updates_of_twelve_datasets(
    browse: Callable[..., Page], make_lineage: Callable[..., WorkspaceRecord]
) -> None:
    record = make_lineage([f"2024-{month:02d}" for month in range(1, 13)], steps=1000)
    page = browse(render(record))
    assert_whole(page, PLOTS)
    assert page.texts >= {f"{index:04d}-2024-{index + 1:02d}" for index in range(12)}


def test_an_unfinished_update(browse: Callable[..., Page], unfinished: WorkspaceRecord) -> None:
    page = browse(render(unfinished))
    assert_whole(page, PLOTS)
    assert page.texts >= {"failed", "running", "Update 0003-news is not finished."}


def test_only_a_base_that_diverged(browse: Callable[..., Page], demo: WorkspaceRecord) -> None:
    base = demo.updates[0]
    curve = [replace(point, loss=math.nan) if i > 100 else point for i, point in enumerate(base.curve)]
    base = replace(base, curve=curve, lm_eval={}, losses={"release": {"sci-docs": math.nan}})
    page = browse(render(replace(demo, updates=[base], release=base.id)))
    assert_whole(page, PLOTS - {"stability-gap"})
    assert page.texts >= {"the base", "NaN", "no earlier dataset to forget", "lm-eval has not measured a release."}


def test_an_imported_base_without_training(browse: Callable[..., Page], imported: WorkspaceRecord) -> None:
    page = browse(render(imported))
    assert_whole(page, {"stage-times"})
    assert page.texts >= {"0000-base", "Nothing has been trained here yet.", "No release has been measured yet."}


def test_a_workspace_without_any_update(imported: WorkspaceRecord) -> None:
    page = Page()
    page.feed(render(replace(imported, updates=[], release=None)))
    assert page.texts >= {"There is no release yet.", "There is no update yet."}


def test_these_checks_would_notice(browse: Callable[..., Page], imported: WorkspaceRecord) -> None:
    harm = "<script>throw new Error('torn')</script><img src='https://example.invalid/x.png'></body>"
    page = browse(render(imported).replace("</body>", harm))
    assert "torn" in (page.attributes["data-errors"] or "")
    assert any("Content Security Policy" in text for text in page.console)
    assert "https://example.invalid/x.png" in page.resources


def test_rendering_is_pure_and_holds_the_library_once(demo: WorkspaceRecord) -> None:
    html = render(demo)
    assert html == render(demo)
    assert html.count("plotly.js v") == 1


def test_the_final_losses_of_training_stand_beside_those_of_the_full_split(demo: WorkspaceRecord) -> None:
    losses = demo.updates[0].window_losses["release"]["sci-docs"]
    assert f'<td class="figure">{losses:.3f}</td>' in render(demo)
