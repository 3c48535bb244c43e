// What is shown: the filters, the order, and the column or run in the panel below.  The address holds it all.

const content = JSON.parse(document.getElementById("content").textContent);
const { runs, columns, groups } = content;
const MODEL = -1; // the column of the models' names

const state = { models: "", tasks: "", group: "", sort: content.sort ?? null, descending: true, open: null };

const count = (number) => number.toLocaleString("en-US");
const two = (value) => value.toFixed(2);
const score = (run, column) => run.scores[columns.indexOf(column)];
const valueOf = (run, column) => score(run, column)?.value ?? null;

// Every word must be in the text.
function fits(text, query) {
  const found = text.toLowerCase();
  return query.toLowerCase().split(/\s+/).every((word) => found.includes(word));
}

// Values from high to low or low to high; runs without one are last either way.
function byValue(first, second) {
  if (first === null || second === null) return (first === null) - (second === null);
  return state.descending ? second - first : first - second;
}

function shownRuns() {
  const found = runs.filter((run) => fits(`${run.model} ${run.run}`, state.models));
  if (state.sort === MODEL) return found.sort((a, b) => (state.descending ? -1 : 1) * (a.order - b.order));
  const column = columns[state.sort];
  return column ? found.sort((a, b) => byValue(valueOf(a, column), valueOf(b, column))) : found;
}

// The columns that fit the filters and in which a run that is shown has a score.
function shownColumns(list) {
  return columns.filter((column) => (!state.group || column.groups.includes(state.group)) &&
    fits(`${column.label} ${column.metric} ${column.groups.join(" ")}`, state.tasks) && list.some((run) => score(run, column)));
}

function address() {
  const query = new URLSearchParams();
  for (const key of ["models", "tasks", "group"]) if (state[key]) query.set(key, state[key]);
  if (state.sort === MODEL) query.set("sort", "model");
  else if (state.sort !== null) query.set("sort", columns[state.sort].label);
  if (state.sort !== null && !state.descending) query.set("order", "ascending");
  if (state.open) query.set(state.open.kind, state.open.kind === "run" ? state.open.one.run : state.open.one.label);
  return `#${query}`;
}

function takeAddress() {
  const query = new URLSearchParams(location.hash.slice(1));
  for (const key of ["models", "tasks"]) state[key] = query.get(key) || "";
  state.group = groups.includes(query.get("group")) ? query.get("group") : "";
  const sort = query.get("sort");
  const found = columns.findIndex((column) => column.label === sort);
  state.sort = sort === "model" ? MODEL : found >= 0 ? found : content.sort ?? null;
  state.descending = query.get("order") !== "ascending";
  const run = runs.find((one) => one.run === query.get("run"));
  const column = columns.find((one) => one.label === query.get("column"));
  state.open = run ? { kind: "run", one: run } : column ? { kind: "column", one: column } : null;
}
