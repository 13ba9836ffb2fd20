// Fits the plots to the width of the page: the legend below them has as many rows as it needs.
"use strict";
(() => {
  const NARROW = 520;
  const fit = () => {
    const plots = [...document.querySelectorAll(".plotly-graph-div")];
    const fitted = plots.map((plot) => {
      const width = plot.closest("figure").clientWidth;
      const narrow = width < NARROW;
      const longest = Math.max(0, ...plot.data.map((trace) => trace.name.length));
      const columns = Math.max(1, Math.floor((width - 20) / (longest * 7 + 50)));
      const below = 60 + Math.ceil(plot.data.length / columns) * 20;
      const size = { width, height: (narrow ? 260 : 360) + below, "margin.b": below, "margin.l": narrow ? 52 : 64 };
      return Plotly.relayout(plot, size);
    });
    Promise.all(fitted).then(() => { document.documentElement.dataset.plots = String(plots.length); });
  };
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) fit();
    width = window.innerWidth;
  });
  fit();
})();
