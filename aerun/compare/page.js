"use strict";
// Sorting, filtering and highlighting. The address sets both: #sort=test/mse, #sort=-test/psnr&filter=conv

const cellValue = (row, index) => row.cells[index].dataset.value;

/** Numbers by size, then text. Missing and infinite values always come last. */
function compareValues(a, b, sign) {
  const missing = (value) => value === "" || value === "nan" || value.endsWith("inf");
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const [x, y] = [Number(a), Number(b)];
  if (!Number.isNaN(x) && !Number.isNaN(y)) return sign * (x - y);
  return sign * a.localeCompare(b, undefined, { numeric: true });
}

function sortTable(table, name, descending) {
  const heads = [...table.tHead.rows[0].cells];
  const index = heads.findIndex((head) => head.dataset.name === name);
  if (index < 0) return;
  for (const head of heads) head.removeAttribute("aria-sort");
  heads[index].setAttribute("aria-sort", descending ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => compareValues(cellValue(a, index), cellValue(b, index), descending ? -1 : 1));
  table.tBodies[0].append(...rows);
}

/** Show the rows that contain every word of the filter. */
function filterTables(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const counts = [];
  for (const table of document.querySelectorAll("table")) {
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      const content = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => content.includes(word));
      shown += !row.hidden;
    }
    counts.push(`${shown} of ${table.tBodies[0].rows.length}`);
  }
  document.getElementById("count").textContent = words.length ? counts[0] : "";
}

function readAddress() {
  const asked = new URLSearchParams(location.hash.slice(1).replaceAll("+", "%2B"));
  const sort = asked.get("sort");
  if (sort) {
    for (const table of document.querySelectorAll("table")) sortTable(table, sort.replace(/^-/, ""), sort[0] === "-");
  }
  const filter = document.getElementById("filter");
  if (asked.has("filter")) filter.value = asked.get("filter");
  filterTables(filter.value);
}

document.addEventListener("click", (event) => {
  const head = event.target.closest("th[data-name]");
  if (!head) return;
  // The first click puts the best first, a second one the worst.
  const first = head.dataset.best === "highest" ? "descending" : "ascending";
  const descending = (head.getAttribute("aria-sort") === first) !== (first === "descending");
  sortTable(head.closest("table"), head.dataset.name, descending);
});
document.getElementById("filter").addEventListener("input", (event) => filterTables(event.target.value));
document.addEventListener("mouseover", (event) => {
  const row = event.target.closest("tbody tr");
  for (const linked of document.querySelectorAll("tr.linked")) linked.classList.remove("linked");
  if (!row || row.dataset.group === "-1") return;
  for (const same of document.querySelectorAll(`tr[data-group="${row.dataset.group}"]`)) same.classList.add("linked");
});
addEventListener("hashchange", readAddress);
readAddress();
