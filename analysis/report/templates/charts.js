// Charts: Vega-Lite, unpacked when the first one comes into view; the others are drawn when the browser is idle, so
// that a printed page has them all.
const tip = one("#tip");
const views = new Map();
let keepRow = () => true;

let specifications = null;
const vega = once(async () => {
  const [source, charts] = await Promise.all([unpacked("chart-library"), unpacked("report-charts"), ready()]);
  specifications = JSON.parse(charts);
  document.head.append(element("script", { textContent: `(() => {${source}\n})();` }));
  return window.vegaEmbed;
});

const rowsOf = (part) => part.rows.map((row, i) => ({ ...row, _i: i })).filter(keepRow);

// Panels side by side where they fit, none wider than the page.
function fitted(place, rows, width, panelWidth) {
  const spec = structuredClone(specifications[place]);
  const limit = Math.max(90, Math.min(330, width * (width < 500 ? 0.5 : 0.38)));
  const labels = JSON.stringify(spec).replaceAll('"labelLimit":330', `"labelLimit":${Math.round(limit)}`);
  const made = JSON.parse(labels);
  made.config.legend.columns = Math.max(1, Math.floor(width / 150));
  if (made.facet) {
    const panels = new Set(rows.map((row) => row[made.facet.field])).size;
    made.columns = Math.max(1, Math.min(3, panels, Math.floor(width / 300)));
    made.spec.width = panelWidth ?? Math.round(width / made.columns - 80);
  } else {
    made.columns = 1;
    made.width = panelWidth ?? Math.round(width - 80);
  }
  return made;
}

async function draw(canvas, panelWidth) {
  const figure = canvas.closest(".chart");
  const place = figure.dataset.part;
  const embed = await vega();
  const width = canvas.clientWidth;
  const rows = rowsOf(parts.get(place));
  const { columns, ...fit } = fitted(place, rows, width, panelWidth);
  const spec = { ...fit, ...(fit.facet ? { columns } : {}), datasets: { rows } };
  views.get(canvas)?.finalize();
  const result = await embed(canvas, spec, {
    actions: false, renderer: "svg", defaultStyle: false, tooltip: showTip, logLevel: 1, // errors only
  });
  views.set(canvas, result);
  canvas.style.minHeight = "0";
  result.view.addEventListener("click", (_, item) => showMark(place, item));
  const drawnWidth = Number(one("svg", canvas).getAttribute("width"));
  // The room that labels take is known only after drawing.
  const spare = panelWidth === undefined ? (width - drawnWidth) / columns : 0;
  if (Math.abs(spare) > 4) await draw(canvas, Math.max(110, Math.floor((spec.spec ?? spec).width + spare)));
}

function showMark(place, item) {
  const at = item?.datum?._i;
  const address = at === undefined ? null : parts.get(place).addresses?.[at];
  if (!address) return;
  const { text } = describe(item.tooltip);
  setTimeout(() => showAddress(address, null, { text }));
}

const shortly = (value) => (typeof value === "number" ? String(Number(value.toPrecision(4))) : String(value));
const describe = (value) => {
  const entries = Object.entries(value ?? {}).filter(([name, field]) => name !== "_i" && field !== "null" && field !== "");
  return { entries, text: entries.map(([name, field]) => `${name} ${shortly(field)}`).join(" · ") };
};

function showTip(_, event, __, value) {
  const { entries } = typeof value === "object" ? describe(value) : { entries: [] };
  tip.hidden = entries.length === 0;
  if (tip.hidden) return;
  const rows = entries.map(([name, field]) =>
    element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, shortly(field))),
  );
  tip.replaceChildren(element("table", {}, element("tbody", {}, ...rows)));
  const box = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + 14, innerWidth - box.width - 8);
  const above = event.clientY + 14 + box.height > innerHeight;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.max(8, above ? event.clientY - box.height - 14 : event.clientY + 14)}px`;
}

function filterCharts(keep) {
  keepRow = keep;
  for (const [canvas, { view }] of views) {
    const part = partOf(canvas);
    view.data("rows", rowsOf(part)).runAsync();
  }
}

const waiting = new Set(all(".canvas"));

async function drawNow(canvas) {
  if (!waiting.delete(canvas)) return;
  try {
    await draw(canvas);
  } catch (error) {
    canvas.replaceChildren(element("p", { className: "failed" }, "This chart cannot be drawn here; its data are below."));
    canvas.style.minHeight = "0";
    console.error(error);
  }
}

const nearing = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => drawNow(entry.target)),
  { rootMargin: "400px" },
);
waiting.forEach((canvas) => nearing.observe(canvas));

const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 200));
const drawRest = () => {
  const [next] = waiting;
  if (next) idle(() => drawNow(next).then(drawRest));
};
addEventListener("load", () => {
  setTimeout(() => idle(ready), 300);
  setTimeout(drawRest, 1500);
});

let drawnAt = innerWidth;
let resizing;
addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => {
    if (innerWidth === drawnAt) return; // a phone's bars come and go
    drawnAt = innerWidth;
    for (const canvas of views.keys()) draw(canvas);
  }, 250);
});

followHash();
