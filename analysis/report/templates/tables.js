// Sorting: a button in each header; numbers by their full value, what is not a number goes last.
for (const head of all(".part thead th")) {
  if (head.closest("table").tBodies[0].rows.length < 2) continue;
  head.dataset.title = head.textContent; // for paper: buttons are not painted where a header is repeated
  const button = element("button", { type: "button" }, head.textContent);
  head.replaceChildren(button);
}

document.addEventListener("click", (event) => {
  const head = event.target.closest(".part thead th");
  if (head && event.target.closest("button")) sortBy(head);
});

async function sortBy(head) {
  await ready();
  const table = head.closest("table");
  const before = head.getAttribute("aria-sort");
  const sign = before === "ascending" ? -1 : 1;
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const keys = new Map(writtenRows(table).map((row, i) => [row, sortKey(table, row, i, head.cellIndex)]));
  table.tBodies[0].append(...[...keys.keys()].sort((a, b) => compare(keys.get(a), keys.get(b), sign)));
}

function sortKey(table, row, i, column) {
  const cell = partOf(table).rows[i].cells?.[column];
  if (typeof cell?.value === "number") return cell.value;
  const text = row.cells[column].textContent.trim();
  return text === "" || isNaN(text) ? text : Number(text);
}

function compare(a, b, sign) {
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  if (typeof a === "number" || typeof b === "number") return typeof a === "number" ? -1 : 1;
  return sign * a.localeCompare(b, "en", { numeric: true });
}
