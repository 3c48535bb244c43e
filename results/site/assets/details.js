// The panel below the table: one column with its breakdowns, or one run with all its scores.

const WIDTH = 260;
const MOST_RUNS = 12;
const MOST_ROWS = 40;

// A dot with its interval on a scale from `low` to `high`.
function whisker(value, ends, low, high) {
  const at = (number) => (WIDTH - 8) * Math.min(1, Math.max(0, (number - low) / (high - low || 1))) + 4;
  const drawn = svg("svg", { viewBox: `0 0 ${WIDTH} 14`, width: WIDTH, height: 14, "aria-hidden": "true", class: "whisker" },
    svg("line", { x1: 4, x2: WIDTH - 4, y1: 7, y2: 7, class: "rail" }));
  if (ends) drawn.append(svg("line", { x1: at(ends[0]), x2: at(ends[1]), y1: 7, y2: 7, class: "error" }));
  drawn.append(svg("circle", { cx: at(value), cy: 7, r: 4, class: "dot" }));
  return drawn;
}

// The ends of a common scale that holds all intervals, with some room.
function scaleOf(cells) {
  const numbers = cells.flatMap(([value, ends]) => [value, ...(ends || [])]);
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const room = (high - low || 1) * 0.06;
  return [low - room, high + room];
}

const withInterval = (value, low, high) => [two(value), low === null || low === undefined ? null : el("span", { class: "interval" }, `${low.toFixed(1)}–${high.toFixed(1)}`)];

function panel(title, ...body) {
  return [
    el("div", { class: "title" }, el("h2", { id: "details-heading", tabindex: "-1", dir: "auto" }, title),
      el("button", { type: "button", class: "close", onclick: () => show(null) }, "close ×")),
    ...body.flat().filter(Boolean),
  ];
}

// A table that scrolls by itself if it is too wide; with tabindex, also by the keyboard.
const scrolling = (table) => el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "table" }, table);

const facts = (pairs) => el("div", { class: "facts" }, el("dl", {}, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
  .map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", { dir: "auto" }, String(value))))));

function countsOf(cell) {
  const found = [];
  if (cell.unparsed) found.push(`${count(cell.unparsed)} unparsed`);
  if (cell.truncated) found.push(`${count(cell.truncated)} truncated`);
  if (cell.errors) found.push(`${count(cell.errors)} failed`);
  if (cell.reasoning !== undefined) found.push(`${Math.round(cell.reasoning)} reasoning tokens`);
  if (cell.failure) found.push(cell.failure);
  return found.join(", ");
}

const reportLink = (run, cell, text) => (run.report ? el("a", { href: run.report + (cell.place || "") }, text) : text);

// --- a column

function columnDetails(column, list) {
  const scored = list.map((run) => [run, score(run, column)]).filter(([, cell]) => cell && cell.value !== null)
    .sort(([, a], [, b]) => b.value - a.value);
  const [low, high] = scored.length ? scaleOf(scored.map(([, cell]) => [cell.value, cell.ends])) : [0, 1];
  const rows = scored.map(([run, cell]) => el("tr", {},
    el("th", { scope: "row", dir: "auto" }, run.heading), el("td", {}, whisker(cell.value, cell.ends, low, high)),
    el("td", { class: "number score" }, withInterval(cell.value, ...(cell.ends || []))),
    el("td", { class: "soft", dir: "auto" }, [cell.prompting, countsOf(cell), cell.part].filter(Boolean).join(" · ")),
    el("td", {}, run.report ? reportLink(run, cell, "samples") : "")));
  const kept = column.mean ? [] : breakdownView(column, scored);
  return panel(column.task,
    facts([["metric", column.metric], ["samples", column.n === null ? null : count(column.n)], ["images", column.clusters ? count(column.clusters) : null],
      ["part", column.part], ["groups", column.groups.join(", ")]]),
    column.note ? el("p", { class: "soft" }, column.note) : null,
    scrolling( el("table", { class: "forest" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "model"),
      el("th", { scope: "col" }, `${low.toFixed(1)} to ${high.toFixed(1)}`), el("th", { scope: "col", class: "number" }, column.metric),
      el("th", { scope: "col" }, "how it was run"), el("th", { scope: "col" }, "report"))), el("tbody", {}, rows))),
    kept, column.signature ? el("p", { class: "signature" }, el("code", {}, column.signature)) : null);
}

// Every other value of the metric: `accuracy[OCR]`, `parse_rate`, …; the best of each row is bold.
function breakdownView(column, scored) {
  const names = column.values.filter((name) => scored.some(([, cell]) => cell.values?.[name]));
  if (!names.length) return [];
  const some = scored.slice(0, MOST_RUNS);
  const row = (name) => {
    const cells = some.map(([, cell]) => cell.values?.[name] || null);
    const best = Math.max(...cells.filter(Boolean).map(([value]) => value));
    const several = cells.filter(Boolean).length > 1;
    return el("tr", {}, el("th", { scope: "row", dir: "auto" }, name), cells.map((cell) => (cell
      ? el("td", { class: `number${several && cell[0] === best ? " best" : ""}` }, withInterval(...cell)) : el("td", {}, ""))));
  };
  const body = el("tbody", {}, names.slice(0, MOST_ROWS).map(row));
  const more = names.length > MOST_ROWS ? el("button", {
    type: "button", onclick: (event) => { body.append(...names.slice(MOST_ROWS).map(row)); event.currentTarget.remove(); },
  }, `show all ${count(names.length)}`) : null;
  const left = scored.length > some.length ? ` (the best ${some.length} of ${scored.length} models)` : "";
  return [el("h3", {}, `Breakdown${left}`),
    scrolling( el("table", { class: "values" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "value"),
      some.map(([run]) => el("th", { scope: "col", class: "number", dir: "auto" }, run.heading)))), body)), more];
}

// --- a run

function runDetails(run) {
  const mine = columns.filter((column) => score(run, column));
  const rows = mine.map((column) => {
    const cell = score(run, column);
    const value = cell.value === null ? cell.text : withInterval(cell.value, ...(cell.ends || []));
    return el("tr", {}, el("th", { scope: "row", dir: "auto" }, reportLink(run, cell, column.label)), el("td", { dir: "auto" }, column.metric),
      el("td", { class: "number score" }, value),
      el("td", { class: "number" }, column.n === null ? "" : count(cell.n)),
      el("td", { class: "soft", dir: "auto" }, [...marksOf(cell).map(([, meaning]) => meaning), countsOf(cell), ...(cell.notes || [])].filter(Boolean).join(" · ")),
      el("td", { class: "signature" }, el("code", {}, cell.signature || "")));
  });
  return panel(run.model || run.run,
    facts([["run", run.run], ...Object.entries(run.facts)]),
    run.report ? el("p", {}, el("a", { href: run.report }, "Report with samples")) : null,
    scrolling( el("table", {}, el("thead", {}, el("tr", {}, ["task", "metric", "score", "n", "remarks", "signature"].map((name, place) =>
      el("th", { scope: "col", class: place === 2 || place === 3 ? "number" : null }, name)))), el("tbody", {}, rows))));
}
