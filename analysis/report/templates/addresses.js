// The address of a number: shown when the number is clicked or focused, closed with Escape.
const panel = one("#address");
let shownFor = null;
let latest = 0;

// The same SELECT as Report.sql makes.
function selectOf(address) {
  if (!address.query) return "";
  const { ready } = report.queries[address.query];
  return address.narrow ? `SELECT * FROM (\n${ready}\n) AS looked WHERE ${address.narrow}` : ready;
}

function numberOf(link) {
  const table = link.closest("table");
  const part = partOf(link);
  if (!table) return part.items[[...link.closest(".part").children].indexOf(link.closest("li, p"))];
  const row = part.rows[writtenRows(table).indexOf(link.closest("tr"))];
  const column = link.closest("td").cellIndex;
  const { field } = table.tHead.rows[0].cells[column].dataset;
  return field ? { text: link.textContent, value: row[field] } : row.cells[column];
}

function nameOf(link) {
  const section = link.closest("section");
  const names = [one("h2", section)?.textContent];
  const cell = link.closest("td");
  if (cell) {
    const table = cell.closest("table");
    const labels = [...cell.parentElement.cells].filter((other) => !one("[data-cell]", other) && !other.matches(".verdict"));
    const row = labels.map((label) => label.textContent).filter(Boolean).slice(0, 4).join(", ");
    names.push(table.caption.textContent, row, table.tHead.rows[0].cells[cell.cellIndex].textContent);
  }
  return names.filter(Boolean).join(" › ");
}

const block = (title, ...content) => (content.length ? [element("h3", {}, title), ...content] : []);
const lines = (items, total) => {
  const rest = total > items.length ? [element("li", {}, `… ${total} in all`)] : [];
  return items.length ? [element("ul", {}, ...items.map((item) => element("li", {}, item)), ...rest)] : [];
};
const pairs = (mapping) => {
  const entries = Object.entries(mapping ?? {});
  const made = entries.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]);
  return made.length ? [element("dl", {}, ...made)] : [];
};
const code = (text, label) => [element("pre", { tabIndex: 0 }, text), copyButton(text, label)];

function addressParts(key) {
  const address = report.addresses[key];
  const sql = selectOf(address);
  const versions = (address.versions ?? []).map((version) => report.versions[version]);
  return [
    ...(address.pick ? block("Which value", element("p", {}, address.pick)) : []),
    ...(address.method ? block("Method", element("p", {}, address.method)) : []),
    ...(address.reference ? block("Reference", element("p", {}, address.reference)) : []),
    ...(sql ? block("Query", ...code(sql, "Copy query")) : []),
    ...(address.query ? block("Parameters", ...pairs(report.queries[address.query].parameters)) : []),
    ...(address.command ? block("The same on the command line", ...code(address.command, "Copy command")) : []),
    ...block(`Runs (${address.run_count ?? 0})`, ...lines(address.runs ?? [], address.run_count ?? 0)),
    ...block("Configurations", ...lines(address.configs ?? [], 0)),
    ...block("Versions", ...versions.flatMap(pairs)),
  ];
}

async function showAddress(key, link = null, number = null) {
  const turn = ++latest;
  await ready();
  if (turn !== latest || !report.addresses[key]) return; // another number was asked for meanwhile
  number ??= link && numberOf(link);
  shownFor?.classList.remove("shown");
  shownFor = link;
  link?.classList.add("shown");
  const before = link?.getBoundingClientRect();
  const close = element("button", { type: "button", className: "close" }, "Close");
  close.addEventListener("click", () => closeAddress(true));
  const text = number?.text ?? "";
  const exact = typeof number?.value === "number" && String(number.value) !== text ? String(number.value) : "";
  panel.replaceChildren(
    element("header", {}, element("h2", {}, link ? nameOf(link) : `Address ${key}`), close),
    ...(text ? [element("p", { className: text.length > 40 ? "value long" : "value" }, text)] : []),
    ...(exact ? [element("p", { className: "exact" }, `${exact} at full precision`)] : []),
    ...addressParts(key),
  );
  panel.hidden = false;
  panel.scrollTop = 0;
  document.documentElement.classList.add("with-address");
  if (link) keepInSight(link, before);
}

// The text makes room for the address on a wide page, and the address lies below on a narrow one.
function keepInSight(link, before) {
  const now = link.getBoundingClientRect();
  const sheet = panel.getBoundingClientRect();
  const covered = sheet.top > innerHeight * 0.3 ? Math.max(0, now.bottom + 24 - sheet.top) : 0;
  scrollBy({ top: covered || now.top - before.top, behavior: "instant" });
}

function closeAddress(giveFocusBack) {
  latest += 1;
  if (panel.hidden) return;
  const inside = panel.contains(document.activeElement);
  panel.hidden = true;
  document.documentElement.classList.remove("with-address");
  shownFor?.classList.remove("shown");
  if (inside && giveFocusBack) {
    reopening = false;
    shownFor?.focus();
    reopening = true;
  }
  shownFor = null;
}

// A pressed pointer shows the address with its click: the panel must not come between pressing and releasing.
let pressed = false;
addEventListener("pointerdown", () => (pressed = true), true);
for (const ends of ["click", "keydown"]) addEventListener(ends, () => (pressed = false), true);
let reopening = true;
const addressOf = (link) => link.hash.slice(1);
const linkAt = (event) => event.target.closest("a[data-cell]");

document.addEventListener("focusin", (event) => {
  const link = linkAt(event);
  if (!link) return;
  rove(link);
  if (reopening && !pressed) showAddress(addressOf(link), link);
});
document.addEventListener("click", async (event) => {
  const link = linkAt(event);
  if (!link) {
    if (!event.target.closest("#address, [data-place]")) closeAddress(false);
    return;
  }
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  link.focus({ preventScroll: true });
  await showAddress(addressOf(link), link);
  if (event.detail === 0) panel.focus(); // by Enter: on to the address
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    openContents(false);
    closeAddress(true);
    return;
  }
  const link = linkAt(event);
  const next = link && !event.ctrlKey && !event.metaKey && !event.altKey ? neighbour(link, event.key) : null;
  if (!next) return;
  event.preventDefault();
  next.focus();
});

// One stop of the Tab key for a table: within it, arrow keys move from number to number.
function rove(link) {
  const table = link.closest("table");
  if (!table) return;
  for (const other of all("a[data-cell]", table)) other.tabIndex = other === link ? 0 : -1;
}

function neighbour(link, key) {
  const cell = link.closest("td");
  if (!cell) return null;
  const rows = [...cell.closest("tbody").rows].filter((row) => !row.hidden);
  const links = all("a[data-cell]", cell.parentElement);
  const at = links.indexOf(link);
  if (key === "ArrowRight") return links[at + 1] ?? null;
  if (key === "ArrowLeft") return links[at - 1] ?? null;
  if (key === "Home") return links[0];
  if (key === "End") return links.at(-1);
  const step = { ArrowDown: 1, ArrowUp: -1 }[key];
  if (!step) return null;
  const inColumn = (row) => one("a[data-cell]", row.cells[cell.cellIndex]);
  for (let i = rows.indexOf(cell.parentElement) + step; rows[i]; i += step) if (inColumn(rows[i])) return inColumn(rows[i]);
  return null;
}

// The appendix: written when unfolded, and before printing.
const appendix = one(".all-addresses");

function writeAppendix() {
  if (!report) return; // printed before it could be unpacked
  const box = one("div", appendix);
  if (box.firstChild) return;
  const { addresses, queries } = report;
  box.append(element("h3", {}, "Queries"));
  for (const [key, query] of Object.entries(queries)) {
    box.append(element("h4", {}, key), element("pre", { tabIndex: 0 }, query.ready));
  }
  const entries = Object.entries(addresses).map(([key, address]) => {
    const from = [address.query, address.narrow].filter(Boolean).join(" where ");
    const runs = address.run_count ? `${address.run_count} runs` : "";
    const said = [from, address.pick, runs, address.method].filter(Boolean).join(" · ");
    return element("li", {}, element("b", {}, `#${key} `), said);
  });
  box.append(element("h3", {}, "Numbers"), element("ol", {}, ...entries));
}

appendix.addEventListener("toggle", () => appendix.open && ready().then(writeAppendix));
addEventListener("beforeprint", () => {
  writeAppendix();
  appendix.open = true;
});
