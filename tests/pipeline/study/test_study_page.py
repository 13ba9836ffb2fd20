"""The study's page in a real browser: the winner first, what was before it, and plots that fit a phone."""

import shutil
import subprocess
from html import escape
from pathlib import Path
from typing import Any

import pytest
from report_page import parsed

from rewarm.pipeline.study.results import Row, Spread, Study
from rewarm.pipeline.study.table import BEFORE, body, cells_before, head, ordered, page

WIDTHS = (400, 1400)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--virtual-time-budget=20000"]
PROBE = """
const look = () => {
  const root = document.documentElement;
  if (!root.dataset.plots) { setTimeout(look, 100); return; }
  setTimeout(() => {
    root.dataset.probe = JSON.stringify({
      plots: Number(root.dataset.plots),
      overflow: root.scrollWidth - root.clientWidth,
      heights: [...document.querySelectorAll(".nsewdrag")].map((area) => area.getBoundingClientRect().height),
      beyond: [...document.querySelectorAll("body *")]
        .filter((element) => !element.closest(".scroll"))
        .filter((element) => element.getBoundingClientRect().right > root.clientWidth + 0.5)
        .map((element) => `${element.tagName}.${element.className.baseVal ?? element.className}`),
    });
  }, 300);
};
look();
"""


def row(share: float, kind: str, old: float, new: float, schedule: str = "infinite") -> Row:
    losses = {"old": Spread(old, 0.01), "new": Spread(new, 0.02)}
    settings: dict[str, Any] = {"replay.share": share, "schedule.kind": schedule} if kind == "grid" else {}
    name = ", ".join(f"{key}={value}" for key, value in settings.items()) or kind
    mean = (old + new) / 2
    return Row(
        name=name, kind=kind, settings=settings, seeds=[0, 1], losses=losses, window_losses={}, mean=mean,
        mean_spread=0.01, score=mean, forgetting={}, gap={}, tokens=100_000, flops=1e12, seconds=20.0,
    )  # fmt: skip


@pytest.fixture
def study() -> Study:
    rows = [
        row(share, "grid", 5 - share, 3 + share / 9, kind)
        for share in (0.0, 0.05, 0.25)
        for kind in ("infinite", "cosine")
    ]
    rows.append(row(0.0, "joint", 4.1, 2.9))
    return Study("news", ["old"], ["new"], rows, None, before={"old": 4.0, "new": 6.5}, bits_before={"old": 1.2})


def test_the_winner_is_first_and_the_release_before_is_second(study: Study) -> None:
    lines = ordered(study)
    assert lines[0][0] == "replay.share=0.25, schedule.kind=infinite ★"
    assert lines[1] == cells_before(study)
    assert sorted(line[0] for line in lines) == sorted([BEFORE, *(line[0] for line in body(study))])
    shown = dict(zip(head(study), lines[1], strict=True))
    assert (shown["row"], shown["L(old)"], shown["L(new)"], shown["mean"]) == (BEFORE, "4.000", "6.500", "5.250")
    assert study.to_json()["before"]["losses"] == {"old": 4.0, "new": 6.5}
    html = page(study, [])
    assert html.index("★") < html.index(BEFORE) < html.index("Loss against replay.share")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_plots_fit_the_width(study: Study, width: int, tmp_path: Path) -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine: install the package chromium to see the page drawn")
    html = page(study, ["a forecast"]).replace("</body>", f"<script>{PROBE}</script></body>")
    look = """
    const inner = document.querySelector("iframe");
    setInterval(() => {
      const { probe } = inner.contentDocument.documentElement.dataset;
      if (probe) document.documentElement.dataset.probe = probe;
    }, 100);
    """
    frame = f'<iframe width="{width}" height="900" style="border: 0" srcdoc="{escape(html)}"></iframe>'
    file = tmp_path / "study.html"
    file.write_text(f"<!doctype html><html><body>{frame}<script>{look}</script></body></html>", "utf-8")
    words = [chromium, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1500,1000", "--dump-dom"]
    done = subprocess.run([*words, file.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    probe = parsed(done.stdout).probe
    assert (probe["plots"], probe["overflow"], probe["beyond"]) == (2, 0, [])
    assert all(height > 150 for height in probe["heights"]), "the legend leaves the plot its room"
