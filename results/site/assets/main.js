// Controls, drawing and addresses.

const board = document.getElementById("board");
const details = document.getElementById("details");
const controls = document.getElementById("controls");
const summary = document.getElementById("summary");

function draw() {
  const list = shownRuns();
  const shown = shownColumns(list);
  const focused = document.activeElement?.dataset?.sort;
  const scrolled = board.querySelector(".wide")?.scrollLeft || 0;
  board.replaceChildren(list.length && shown.length ? tableView(list, shown) : el("p", { class: "soft", role: "status" }, "No score fits."), legendView(list, shown));
  const wide = board.querySelector(".wide");
  if (wide) wide.scrollLeft = scrolled;
  if (focused !== undefined) board.querySelector(`[data-sort="${focused}"]`)?.focus();
  const part = (number, all, name) => `${number === all ? count(all) : `${count(number)} of ${count(all)}`} ${name}${all === 1 ? "" : "s"}`;
  summary.textContent = `${part(list.length, runs.length, "run")}, ${part(shown.length, columns.length, "score column")}`;
  details.hidden = !state.open;
  if (state.open) details.replaceChildren(...(state.open.kind === "run" ? runDetails(state.open.one) : columnDetails(state.open.one, list)));
}

function changed() {
  draw();
  const next = address();
  if (next !== location.hash && !(next === "#" && !location.hash)) history.replaceState(null, "", next);
}

function show(kind, one) {
  state.open = kind ? { kind, one } : null;
  changed();
  if (!kind) board.focus();
  else {
    const heading = document.getElementById("details-heading");
    heading.focus({ preventScroll: true });
    details.scrollIntoView({ block: "nearest" });
  }
}

function field(label, key, placeholder) {
  const input = el("input", { type: "search", value: state[key], placeholder, "data-filter": key, oninput: () => { state[key] = input.value; changed(); } });
  return el("label", {}, label, input);
}

function drawControls() {
  const select = el("select", { "data-filter": "group", onchange: () => { state.group = select.value; changed(); } },
    [["", "all"], ...groups.map((group) => [group, group])].map(([value, text]) => el("option", { value, selected: value === state.group }, text)));
  controls.className = "controls";
  controls.replaceChildren(field("models", "models", "name…"), field("tasks", "tasks", "name, metric…"),
    groups.length ? el("label", {}, "group", select) : "");
  controls.hidden = false;
}

function route() {
  takeAddress();
  drawControls();
  draw();
  document.documentElement.dataset.ready = "yes";
}

window.addEventListener("hashchange", () => { if (location.hash !== address()) route(); });
route();
