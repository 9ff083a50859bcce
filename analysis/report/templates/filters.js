// Filters: one state for all tables and charts, kept in the URL as #PLACE?model=...&metric=...
const form = one(".filters");
const selects = all("select", form);
const chosen = () => selects.filter((select) => select.value).map((select) => [select.name, select.value]);
const startRows = new WeakMap();

// A table's rows as they were written: row i stands for row i of the part's data, however it is sorted now.
function writtenRows(table) {
  if (!startRows.has(table)) startRows.set(table, [...table.tBodies[0].rows]);
  return startRows.get(table);
}

const partOf = (node) => parts.get(node.closest("[data-part]").dataset.part);
// A row that says nothing about a field is kept.
const keeps = (filters) => (row) => filters.every(([name, value]) => row[name] == null || String(row[name]) === value);

async function applyFilters() {
  await ready();
  const filters = chosen();
  const keep = keeps(filters);
  let [shown, total] = [0, 0];
  for (const table of all(".part table")) {
    const rows = writtenRows(table);
    const data = partOf(table).rows;
    rows.forEach((row, i) => (row.hidden = !keep(data[i])));
    const left = rows.filter((row) => !row.hidden).length;
    sayNothingLeft(table, rows.length > 0 && left === 0);
    if (!table.closest(".chart")) [shown, total] = [shown + left, total + rows.length];
  }
  for (const select of selects) select.classList.toggle("set", Boolean(select.value));
  one("button[type=reset]", form).hidden = !filters.length;
  one(".filter-state").textContent = filters.length ? `${shown} of ${total} table rows` : "";
  filterCharts(keep);
}

function sayNothingLeft(table, empty) {
  const scroll = table.closest(".scroll");
  const said = scroll.nextElementSibling?.matches(".nothing") ? scroll.nextElementSibling : null;
  if (empty && !said) scroll.after(element("p", { className: "nothing" }, "No row matches the filters."));
  if (!empty) said?.remove();
}

const readHash = () => {
  const [place, query] = location.hash.slice(1).split("?", 2);
  return { place: decodeURIComponent(place), query: query === undefined ? null : new URLSearchParams(query) };
};

function writeHash() {
  const query = new URLSearchParams(chosen()).toString();
  const place = location.hash.slice(1).split("?", 1)[0];
  const hash = `#${place}${query ? `?${query}` : ""}`;
  if (hash !== location.hash) history.replaceState(null, "", hash === "#" ? location.pathname + location.search : hash);
}

// The URL decides where it names filters; a plain #PLACE moves only and keeps them.
async function followHash() {
  const { place, query } = readHash();
  if (query) {
    for (const select of selects) {
      const wanted = query.get(select.name) ?? "";
      select.value = [...select.options].some((option) => (option.value || "") === wanted) ? wanted : "";
    }
    await applyFilters();
    document.getElementById(place)?.scrollIntoView();
  } else if (chosen().length) writeHash();
  if (/^a\d+$/.test(place)) showAddress(place);
}

form.addEventListener("change", async () => {
  await applyFilters();
  writeHash();
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => {
  // The controls are reset after this event.
  setTimeout(async () => {
    await applyFilters();
    writeHash();
    selects[0]?.focus();
  });
});
addEventListener("hashchange", followHash);
