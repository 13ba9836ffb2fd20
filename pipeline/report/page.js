// Draws the figures in the colours of the page, again whenever theme, width or medium changes.
"use strict";
(() => {
  const root = document.documentElement;
  const failures = [];
  const fail = (message) => {
    failures.push(String(message));
    root.dataset.errors = failures.join("\n");
  };
  window.addEventListener("error", (event) => fail(event.message));
  window.addEventListener("unhandledrejection", (event) => fail(event.reason));

  const figures = JSON.parse(document.getElementById("figures").textContent);
  const symbols = ["circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "star", "hexagon",
    "pentagon", "bowtie", "hourglass"];
  const patterns = ["/", "\\", "x", "-", "|", "+", "."];

  // Plotly reads a little HTML in every text; a name must stay the text it is.
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const shorten = (text, length) => (text.length > length ? text.slice(0, length - 1) + "…" : text);

  const theme = () => {
    const style = getComputedStyle(root);
    const colour = (name) => style.getPropertyValue("--" + name).trim();
    const series = colour("series").split(/\s+/);
    const tone = (name) => (name.startsWith("series-") ? series[Number(name.slice(7)) % series.length] : colour(name));
    return { colour, tone };
  };

  const line = (trace, { colour, tone }) => ({
    type: "scatter",
    mode: trace.marker === null ? "lines" : "lines+markers",
    name: plain(trace.name),
    x: trace.x,
    y: trace.y,
    legendgroup: plain(trace.group),
    showlegend: trace.group === trace.name,
    hoverinfo: trace.style === "faint" ? "skip" : "all",
    connectgaps: false,
    line: {
      color: trace.style === "faint" ? colour("faint") : tone(trace.tone),
      width: trace.style === "faint" ? 1 : 2,
      dash: trace.style === "dashed" ? "5px,3px" : "solid",
    },
    marker: { symbol: symbols[(trace.marker ?? 0) % symbols.length], size: trace.style === "dashed" ? 5 : 6 },
  });

  const bar = (trace, { colour, tone }, narrow) => ({
    type: "bar",
    orientation: "h",
    name: plain(trace.name),
    x: trace.x,
    y: trace.y.map((name) => plain(narrow ? shorten(name, 14) : name)),
    customdata: trace.labels,
    hovertemplate: "%{customdata}",
    marker: {
      color: tone(trace.tone),
      line: { color: colour("card"), width: 1 },
      pattern: trace.style === "hatched"
        ? { shape: patterns[Number(trace.tone.slice(7) || 0) % patterns.length], size: 6, fgcolor: colour("card"), fgopacity: 0.55, fillmode: "overlay" }
        : {},
    },
  });

  // All plots over tokens span the same tokens, so that the boundaries stand under one another.
  const tokens = Object.values(figures).filter((figure) => figure.form === "lines" && figure.x_scale === "lineage")
    .flatMap((figure) => figure.traces.map((trace) => trace.x.filter((x) => x !== null))).flat();
  const span = [tokens.reduce((a, b) => Math.min(a, b), Infinity), tokens.reduce((a, b) => Math.max(a, b), -Infinity)];

  // Every other update is shaded; their names stand above, or their numbers where a name has no room.
  const regions = (figure, { colour }, width) => {
    const shapes = [];
    const annotations = [];
    const room = (region) => ((region.end - region.start) / (span[1] - span[0] || 1)) * (width - 104);
    const named = figure.regions.every((region) => room(region) > region.label.length * 7 + 8);
    figure.regions.forEach((region, index) => {
      if (index % 2 === 1) {
        shapes.push({ type: "rect", layer: "below", xref: "x", yref: "paper", x0: region.start, x1: region.end, y0: 0, y1: 1,
          fillcolor: colour("band"), line: { width: 0 } });
      }
      if (index > 0) {
        shapes.push({ type: "line", xref: "x", yref: "paper", x0: region.start, x1: region.start, y0: 0, y1: 1.02,
          line: { color: colour("muted"), width: 1, dash: "1px,3px" } });
      }
      annotations.push({ text: plain(named ? region.label : region.short), xref: "x", yref: "paper",
        x: (region.start + region.end) / 2, y: 1.01, yanchor: "bottom", showarrow: false, font: { size: 12, color: colour("quiet") } });
    });
    return { shapes, annotations };
  };

  const axis = ({ colour }, title) => ({
    title: { text: title, font: { size: 12 } }, automargin: true, gridcolor: colour("rule"), zeroline: false,
    linecolor: colour("rule"), tickcolor: colour("rule"), exponentformat: "B", tickfont: { size: 12 },
  });

  const layout = (figure, colours, width) => {
    const { colour } = colours;
    const { traces } = figure;
    const entries = traces.filter((trace) => trace.group === trace.name || figure.form === "bars").length;
    const longest = Math.max(...traces.map((trace) => trace.name.length));
    const rows = Math.ceil(entries / Math.max(1, Math.floor((width - 60) / (longest * 7 + 60))));
    const shared = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("ink") },
      hoverlabel: { namelength: 48, bgcolor: colour("card"), bordercolor: colour("rule"), font: { color: colour("ink") } },
      legend: { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom", font: { size: 12 } },
      showlegend: true,
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
      xaxis: axis(colours, figure.x_title),
      yaxis: axis(colours, figure.y_title),
    };
    const below = 62 + rows * 20;
    if (figure.form === "lines") {
      Object.assign(shared, { height: 300 + below, margin: { l: 78, r: 12, t: 26, b: below }, hovermode: "x unified" });
      if (figure.x_scale === "log") {
        Object.assign(shared.xaxis, { type: "log", dtick: "D2" });
        Object.assign(shared.yaxis, { zeroline: true, zerolinecolor: colour("muted"), zerolinewidth: 1, rangemode: "tozero" });
      } else {
        shared.xaxis.range = [span[0] - (span[1] - span[0]) * 0.012, span[1] + (span[1] - span[0]) * 0.012];
      }
      shared.xaxis.hoverformat = ",.0f";
      shared.xaxis.unifiedhovertitle = { text: "%{x:,.0f} tokens" };
      Object.assign(shared.yaxis, { hoverformat: figure.y_format, automargin: false });
      if (figure.y_format.endsWith("e")) Object.assign(shared.yaxis, { exponentformat: "e", minexponent: 2 });
      if (figure.regions.length > 1) Object.assign(shared, regions(figure, colours, width));
    } else {
      const bars = new Set(figure.traces.flatMap((trace) => trace.y)).size;
      Object.assign(shared, { barmode: "stack", bargap: 0.35, height: 24 + bars * 34 + below, margin: { l: 20, r: 12, t: 8, b: below },
        hovermode: "y unified" });
      Object.assign(shared.yaxis, { type: "category", autorange: "reversed", showgrid: false, ticklabelstandoff: 6 });
      shared.xaxis.rangemode = "tozero";
      shared.legend.traceorder = "normal";
    }
    return shared;
  };

  const config = { displayModeBar: false, showSendToCloud: false, plotlyServerURL: "" };

  // The library of a page that stands alone comes compressed; it is unpacked once, and runs because the page's policy
  // knows its hash. Other pages have loaded it from the file beside them.
  const unpack = async () => {
    if (!document.getElementById("library")) {
      if (!window.Plotly) throw new Error("the file plotly-*.js of the report's folder is not beside this page");
      return;
    }
    const packed = Uint8Array.from(atob(document.getElementById("library").textContent), (byte) => byte.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    script.remove();
  };

  const draw = () => {
    const colours = theme();
    const drawn = Object.values(figures).map((figure) => {
      const place = document.getElementById(figure.id);
      const width = place.clientWidth;
      const traces = figure.traces.map((trace) => (figure.form === "bars" ? bar(trace, colours, width < 480) : line(trace, colours)));
      return Plotly.react(place, traces, { ...layout(figure, colours, width), width }, config);
    });
    return Promise.all(drawn).then(() => { root.dataset.plots = String(drawn.length); });
  };

  if (!Object.keys(figures).length) return;
  unpack().then(draw).then(() => {
    let waiting = 0;
    const redraw = () => {
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(draw);
    };
    let width = window.innerWidth;
    window.addEventListener("resize", () => {
      if (window.innerWidth !== width) redraw();
      width = window.innerWidth;
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    matchMedia("print").addEventListener("change", draw);
  }).catch(fail);
})();
