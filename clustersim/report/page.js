"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const base = read("template");
  const config = read("config");
  const drawn = new Map();

  function look() {
    const style = getComputedStyle(document.documentElement);
    const [ink, grid] = ["--soft", "--grid"].map((name) => style.getPropertyValue(name).trim());
    const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid };
    const layout = { ...base.layout, font: { ...base.layout.font, color: ink } };
    layout.xaxis = { ...layout.xaxis, ...axis };
    layout.yaxis = { ...layout.yaxis, ...axis };
    return { ...base, layout };
  }

  function draw(holder) {
    if (drawn.has(holder)) return;
    const figure = JSON.parse(holder.nextElementSibling.textContent);
    figure.layout.template = look();
    drawn.set(holder, figure);
    holder.style.minHeight = "";
    Plotly.newPlot(holder, figure.data, figure.layout, config);
    if (figure.layout.meta && figure.layout.meta.time) holder.on("plotly_relayout", (move) => follow(holder, move));
  }

  let following = false;
  function follow(from, move) {
    if (following) return;
    const reset = move["xaxis.autorange"];
    const [low, high] = [move["xaxis.range[0]"], move["xaxis.range[1]"]];
    if (!reset && low === undefined) return;
    following = true;
    const group = from.closest("[data-run]");
    const moved = [...drawn].filter(([holder, figure]) =>
      holder !== from && figure.layout.meta && figure.layout.meta.time && holder.closest("[data-run]") === group);
    Promise.all(moved.map(([holder]) => Plotly.relayout(holder,
      reset ? { "xaxis.autorange": true } : { "xaxis.range": [low, high] }))).finally(() => { following = false; });
  }

  function restyle() {
    const template = look();
    for (const holder of drawn.keys()) Plotly.relayout(holder, { template });
  }

  const holders = [...document.querySelectorAll(".plot")];
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "600px" });
  holders.forEach((holder) => seen.observe(holder));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", restyle);
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details.fold.figures-inside").forEach((fold) => { fold.open = true; });
    holders.forEach(draw);
  });

  const value = (row, place) => row.cells[place].dataset.value ?? row.cells[place].textContent;
  function order(a, b) {
    const [x, y] = [Number(a), Number(b)];
    if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1;
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  }
  for (const head of document.querySelectorAll("table.sortable th")) {
    head.addEventListener("click", () => {
      const [table, place] = [head.closest("table"), head.cellIndex];
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      head.parentNode.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].sort((a, b) => sign * order(value(a, place), value(b, place)));
      table.tBodies[0].append(...rows);
    });
  }
})();
