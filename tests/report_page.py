"""What a browser made of a page of the report, and a probe that looks at it from within."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from html import escape
from html.parser import HTMLParser
from typing import Any

PHONE = 375  # CSS pixels
# Runs in the page when its plots are drawn, and leaves what it found in the root.
PROBE = """
const found = () => {
  const plots = [...document.querySelectorAll(".plot")];
  const hovered = document.getElementById("validation-loss")?.data ? document.getElementById("validation-loss") : null;
  if (hovered) Plotly.Fx.hover(hovered, [{curveNumber: 0, pointNumber: 3}]);
  document.documentElement.dataset.probe = JSON.stringify({
    traces: Object.fromEntries(plots.map((plot) => [plot.id, plot.querySelectorAll(".trace, .bars .point").length])),
    hover: hovered ? hovered.querySelector(".hoverlayer").textContent : "",
    fetched: performance.getEntriesByType("resource").map((entry) => entry.name),
    width: innerWidth,
    beyond: [...document.querySelectorAll("body *")]
      .filter((element) => !element.closest(".scroll, .unseen, noscript, svg"))
      .filter((element) => element.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
      .map((element) => `${element.tagName}.${element.className}`),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  });
};
let looked = 0;
const look = () => {
  if (document.documentElement.dataset.plots || ++looked > 30) setTimeout(found, 200);
  else setTimeout(look, 100);
};
look();
"""


@dataclass
class Page(HTMLParser):
    """What the browser made of the page."""

    drawn: dict[str, int] = field(default_factory=dict)
    """Drawings in each plot."""
    attributes: dict[str, str | None] = field(default_factory=dict)
    """Of the root."""
    resources: list[str] = field(default_factory=list)
    """What the page would load."""
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    headings: list[int] = field(default_factory=list)
    tables: int = 0
    captions: int = 0
    scripts: int = 0
    texts: set[str] = field(default_factory=set)
    strokes: str = ""
    """Every style within the plots."""
    marks: list[str] = field(default_factory=list)
    """The classes of all that is drawn in the lineage's graph."""
    console: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._plot = ""

    @property
    def probe(self) -> dict[str, Any]:
        """What the probe found."""
        value: dict[str, Any] = json.loads(self.attributes["data-probe"] or "")
        return value

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "html":
            self.attributes = values
        if "plot" in (values.get("class") or "").split():
            self._plot = values["id"] or ""
        elif tag in ("section", "table", "script"):
            self._plot = ""
        self.scripts += tag == "script"
        self.tables += tag == "table"
        self.captions += tag == "caption"
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "svg" and self._plot:
            self.drawn[self._plot] = self.drawn.get(self._plot, 0) + 1
        if self._plot:
            self.strokes += values.get("style") or ""
        if tag in ("path", "line", "circle") and not self._plot:
            self.marks.append(values.get("class") or "")
        if tag == "a":
            self.links.append(values.get("href") or "")
        else:
            self.resources += [value for key, value in attrs if key in ("src", "href", "srcset", "data") and value]
        if values.get("id"):
            self.anchors.add(values["id"] or "")

    def handle_data(self, data: str) -> None:
        self.texts.add(data.strip())


def parsed(html: str) -> Page:
    page = Page()
    page.feed(html)
    return page


def probed(html: str, script: str = PROBE) -> str:
    """The page with a script of ours, which its policy lets run."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "script-src " in html
    html = html.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    return html.replace("</body>", f"<script>{script}</script></body>")


def phone(html: str) -> str:
    """The page in a frame of a phone's width (a browser's window has a least one), and what the probe found there."""
    look = """
    const inner = document.querySelector("iframe");
    setInterval(() => {
      const { probe } = inner.contentDocument.documentElement.dataset;
      if (probe) document.documentElement.dataset.probe = probe;
    }, 100);
    """
    frame = f'<iframe width="{PHONE}" height="800" style="border: 0" srcdoc="{escape(html)}"></iframe>'
    return f"<!doctype html><html><body>{frame}<script>{look}</script></body></html>"
