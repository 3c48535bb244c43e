// The table: a row per run, a column per comparable score.

// [sign, what it means] of what a reader must know of a score.
function marksOf(cell) {
  const found = [];
  if (cell.tied) found.push(["≈", "within the error of the best of the column"]);
  if (cell.estimate) found.push(["~", `estimated from a subset: ${cell.estimate}`]);
  if (cell.part) found.push(["◐", `a part of the split: ${cell.part}`]);
  if (cell.errors) found.push(["*", `${count(cell.errors)} samples failed and are missing`]);
  return found;
}

function intervalOf(cell) {
  return cell.ends ? `${cell.ends[0].toFixed(1)}–${cell.ends[1].toFixed(1)}` : "";
}

function cellView(cell) {
  if (!cell) return el("td", { class: "number none" }, "");
  const value = cell.value === null ? cell.text : two(cell.value);
  const marks = marksOf(cell).map(([sign, meaning]) => el("abbr", { class: "mark", title: meaning }, sign, el("span", { class: "sr" }, ` (${meaning})`)));
  return el("td", { class: `number${cell.best ? " best" : ""}` },
    el("span", { class: "value" }, value), marks.length ? el("span", { class: "marks" }, marks) : null,
    el("span", { class: "interval" }, cell.value === null ? "" : intervalOf(cell)));
}

function sortButton(label, place, extra) {
  const sorted = state.sort === place;
  const arrow = sorted ? (state.descending ? " ▾" : " ▴") : "";
  return el("th", { scope: "col", class: place === MODEL ? "name" : "number", "aria-sort": sorted ? (state.descending ? "descending" : "ascending") : null },
    el("button", { type: "button", "data-sort": place, title: "sort", onclick: () => sortBy(place) }, words("span", label), arrow), extra);
}

function sortBy(place) {
  if (state.sort === place) state.descending = !state.descending;
  else Object.assign(state, { sort: place, descending: place !== MODEL });
  changed();
}

function columnHead(column) {
  const counted = column.n === null || column.label.includes("(n=") ? null : `n=${count(column.n)}`;
  const more = [column.metric, counted].filter(Boolean).join(" · ");
  return sortButton(column.label, columns.indexOf(column), el("button", {
    type: "button", class: "more", "data-column": column.label, title: "details", onclick: () => show("column", column),
  }, more, el("span", { class: "sr" }, `: details of ${column.label}`), column.part ? el("abbr", { class: "mark", title: `a part of the split: ${column.part}` }, " ◐") : null));
}

function rowHead(run) {
  return el("th", { scope: "row", class: "name" },
    el("button", { type: "button", class: "plain", "data-run": run.run, onclick: () => show("run", run) }, words("span", run.model || run.run)),
    run.report ? el("a", { href: run.report, class: "report", "aria-label": `report on ${run.run}` }, "report") : null,
    run.model && run.run !== run.model ? words("span", run.run, "run-name") : null);
}

function tableView(list, shown) {
  const rows = list.map((run) => el("tr", {}, rowHead(run), shown.map((column) => cellView(score(run, column)))));
  return el("div", { class: "scroll wide", tabindex: "0", role: "group", "aria-label": "scores" },
    el("table", { class: "board" },
      el("thead", {}, el("tr", {}, sortButton("model", MODEL, null), shown.map(columnHead))),
      el("tbody", {}, rows)));
}

function legendView(list, shown) {
  const cells = list.flatMap((run) => shown.map((column) => score(run, column)).filter(Boolean));
  const signs = new Map();
  if (cells.some((cell) => cell.best)) signs.set("bold", "best of the column");
  if (cells.some((cell) => cell.tied)) signs.set("≈", "within the error of the best");
  if (cells.some((cell) => cell.estimate)) signs.set("~", "estimated from a subset");
  if (cells.some((cell) => cell.part)) signs.set("◐", "a part of the split was run");
  if (cells.some((cell) => cell.errors)) signs.set("*", "some samples failed");
  if (cells.some((cell) => cell.ends)) signs.set("low–high", "95 % interval");
  return el("p", { class: "legend soft" }, [...signs].map(([sign, meaning]) => el("span", {}, el("b", {}, sign), ` ${meaning}`)));
}
