// The page: a split's overview and gallery, and the dialog of the sample in the address.

const root = document.getElementById("split");
const dialog = document.getElementById("sample");
let view = null;
let open = null; // the id of the sample in the dialog

const current = () => samplesOf.get(state.split) || [];

function remember(hash, push = false) {
  if (location.hash === hash || (hash === "#" && !location.hash)) return;
  history[push ? "pushState" : "replaceState"](null, "", hash);
}

// The gallery's address with the current filters and order.
function galleryAddress() {
  const query = new URLSearchParams();
  if (state.show !== "all") query.set("show", state.show);
  if (state.run) query.set("run", letters[state.run]);
  if (state.sort !== "official") query.set("sort", state.sort);
  if (state.query) query.set("q", state.query);
  if (state.bin) query.set("score", index.splits[state.split].bins.indexOf(state.bin));
  if (state.group) query.set("part", state.group.join("-"));
  if (state.page) query.set("page", state.page + 1);
  const text = query.toString();
  return address(state.split, null) + (text ? `?${text}` : "");
}

function takeQuery(query) {
  const split = index.splits[state.split];
  const one = (list, name, otherwise) => (list.some(([key]) => key === query.get(name)) ? query.get(name) : otherwise);
  state.show = one(filtersOf(split), "show", "all");
  state.sort = one(sortsOf(split), "sort", "official");
  state.run = Math.max(0, index.runs.map((_, run) => letters[run]).indexOf(query.get("run")));
  state.query = query.get("q") || "";
  state.bin = split.bins[query.get("score") ?? -1] || null;
  const [number, place] = (query.get("part") || "").split("-").map(Number);
  state.group = split.breakdowns[number]?.rows[place] ? [number, place] : null;
  state.page = Math.max(0, (parseInt(query.get("page"), 10) || 1) - 1);
}

const endless = (split) => !split.metric || /^cider/.test(split.metric);
const filtersOf = (split) => FILTERS.filter(([name]) =>
  name === "all" || name === "error" || name === "unparsed" ||
  (["better", "worse"].includes(name) ? two && split.metric : name === "flipped" ? two && !endless(split) : !endless(split)));
const sortsOf = (split) => SORTS.filter(([name]) =>
  (["gains", "losses"].includes(name) ? two && split.metric : ["worst", "best"].includes(name) ? split.metric : true));

// --- the split

function pager() {
  return el("div", { class: "pager", hidden: true },
    el("button", { type: "button", onclick: () => turn(-1) }, "← previous"), el("span", {}), el("button", { type: "button", onclick: () => turn(1) }, "next →"));
}

function turn(by, focus = null) {
  const before = state.page;
  state.page += by;
  drawPage(view);
  if (state.page !== before) remember(galleryAddress());
  const cards = [...view.cards.querySelectorAll("a")];
  if (focus && state.page !== before) focusCard(cards, focus === "first" ? 0 : cards.length - 1);
  else if (!focus) view.top.scrollIntoView();
}

function select(label, choices, chosen, onChange, kind) {
  const made = el("select", { onchange: () => onChange(made.value) }, choices.map(([value, text]) => el("option", { value, selected: value === chosen }, text)));
  return el("label", { class: kind }, label, made);
}

function drawSplit() {
  const split = index.splits[state.split];
  const cells = split.cells.map((cell, run) => [two ? `${letters[run]} ` : null, el("b", {}, cell || "–"), run + 1 < split.cells.length ? " · " : null]);
  const chips = el("fieldset", { class: "chips" }, el("legend", { class: "sr" }, "Which samples"), filtersOf(split).map(([name, label]) =>
    el("button", { type: "button", "data-show": name, "aria-pressed": "false", onclick: () => change_({ show: name }) }, label, el("small", {}))));
  const search = el("input", { type: "search", value: state.query, placeholder: "id, question, answer…", oninput: () => change_({ query: search.value }) });
  view = {
    cards: el("ul", { class: "cards", onkeydown: (event) => onCardKey(event, turn) }),
    summary: el("span", { role: "status" }),
    pagers: [pager(), pager()],
    clear: el("button", { type: "button", class: "plain", hidden: true, onclick: () => change_({ bin: null, group: null }) }),
    chips, search,
  };
  view.top = el("div", { class: "controls", role: "search", "aria-label": "samples", id: "gallery", tabindex: "-1" },
    chips,
    two ? select("by run", index.runs.map((_, run) => [String(run), letters[run]]), String(state.run), (value) => change_({ run: Number(value) })) : null,
    select("sort", sortsOf(split), state.sort, (value) => change_({ sort: value })),
    el("label", { class: "search" }, "search", search));
  const bars = histogram(split, (number) => change_({ bin: state.bin === split.bins[number] ? null : split.bins[number] }));
  const parts = split.breakdowns.map((_, number) => breakdown(split, number, (which, place) =>
    change_({ group: state.group && state.group[0] === which && state.group[1] === place ? null : [which, place] })));
  root.replaceChildren(
    el("div", { class: "title" }, el("h2", { id: "split-heading", tabindex: "-1" }, split.name),
      el("p", {}, split.metric ? `${metricName(split.metric)} ` : "", cells),
      index.splits.length > 1 ? select("task", index.splits.map((one, number) => [String(number), one.name]), String(state.split), (value) => { location.hash = address(Number(value), null); }) : null),
    el("div", { class: "overview" }, bars, el("div", { class: "breakdowns" }, parts)),
    view.top,
    el("div", { class: "summary-line" }, el("span", {}, view.summary, " ", view.clear), ["grounding", "pointing", "detection"].includes(split.kind) ? legend(Object.keys(MARKED).slice(0, two ? 3 : 2)) : null, view.pagers[0]),
    view.cards,
    el("div", { class: "summary-line" }, el("span", {}), view.pagers[1]));
  root.hidden = false;
  for (const row of document.querySelectorAll("tr[aria-current]")) row.removeAttribute("aria-current");
  for (const link of document.querySelectorAll("tbody th a")) if (link.textContent === split.name) link.closest("tr").setAttribute("aria-current", "true");
}

function counts() {
  const split = index.splits[state.split];
  for (const chip of view.chips.querySelectorAll("button")) {
    const [, , fits] = FILTERS.find(([name]) => name === chip.dataset.show);
    chip.lastChild.textContent = count(current().filter((sample) => fits(sample.runs[state.run], sample, split)).length);
  }
}

function redraw() {
  const split = index.splits[state.split];
  state.found = choose(current());
  drawPage(view);
  for (const chip of view.chips.querySelectorAll("button")) chip.setAttribute("aria-pressed", String(chip.dataset.show === state.show));
  for (const bar of root.querySelectorAll("[data-bin]")) bar.setAttribute("aria-pressed", String(split.bins[bar.dataset.bin] === state.bin));
  const group = state.group ? state.group.join("-") : null;
  for (const row of root.querySelectorAll("[data-group]")) row.setAttribute("aria-pressed", String(row.dataset.group === group));
  const only = [];
  if (state.bin) only.push(`${unit(split)} ${state.bin.label}`);
  if (state.group) only.push(`${split.breakdowns[state.group[0]].title}: ${split.breakdowns[state.group[0]].rows[state.group[1]].label}`);
  view.clear.hidden = !only.length;
  view.clear.textContent = `only ${only.join(" and ")} ×`;
  view.clear.setAttribute("aria-label", `show all again, not only ${only.join(" and ")}`);
}

function change_(what) {
  const counted = "run" in what;
  Object.assign(state, what, { page: 0 });
  if (counted) counts();
  redraw();
  remember(galleryAddress());
}

// --- a sample

function cardOf(id) {
  return [...view.cards.querySelectorAll("a")].find((one) => one.dataset.id === id);
}

function openSample(id) {
  let at = state.found.findIndex((sample) => sample.id === id);
  if (at < 0) { // filtered out: clear the filters
    Object.assign(state, { show: "all", query: "", bin: null, group: null });
    view.search.value = "";
    redraw();
    at = state.found.findIndex((sample) => sample.id === id);
  }
  const split = index.splits[state.split];
  if (at < 0) {
    view.summary.textContent = `This report has no sample ${id} in ${split.name}.`;
    view.top.scrollIntoView();
    return;
  }
  if (Math.floor(at / PER_PAGE) !== state.page) {
    state.page = Math.floor(at / PER_PAGE);
    drawPage(view);
  }
  open = id;
  const go = (by) => () => step(by);
  dialog.replaceChildren(...sampleView(state.found[at], split, {
    where: `${count(at + 1)} of ${count(state.found.length)}`, first: at === 0, last: at === state.found.length - 1,
    before: go(-1), after: go(1), close: () => dialog.close(), link: copyLink,
  }));
  if (!dialog.open) dialog.showModal();
  document.getElementById("sample-heading").focus();
  for (const ahead of [at + 1, at - 1]) {
    const next = state.found[ahead]?.images.at(-1);
    if (next !== undefined && index.images[next][1]) new Image().src = imageSource(next);
  }
}

function step(by) {
  const at = state.found.findIndex((sample) => sample.id === open) + by;
  if (!state.found[at]) return;
  remember(address(state.split, state.found[at].id));
  const pressed = document.activeElement?.dataset.do;
  openSample(state.found[at].id);
  const button = pressed && dialog.querySelector(`[data-do="${pressed}"]:enabled`);
  if (button) button.focus();
}

async function copyLink(event) {
  const button = event.currentTarget;
  remember(address(state.split, open));
  try {
    await navigator.clipboard.writeText(location.href);
    button.textContent = "copied";
  } catch {
    button.textContent = "copy it from the address bar";
  }
}

dialog.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const by = { ArrowLeft: -1, ArrowRight: 1, j: 1, k: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  step(by);
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
dialog.addEventListener("close", () => {
  const last = open;
  open = null;
  if (place(location.hash)?.id === last) remember(galleryAddress()); // otherwise the address has already changed
  const cards = [...view.cards.querySelectorAll("a")];
  const at = cards.indexOf(cardOf(last));
  if (at >= 0) focusCard(cards, at);
});

// --- routing

async function holding(splits, id) {
  if (id === null || splits.length === 1) return splits[0];
  for (const split of splits) if ((await load(split)).some((sample) => sample.id === id)) return split;
  return splits[0];
}

let routes = 0;
async function route() {
  const mine = ++routes;
  const at = place(location.hash);
  if (at === null && location.hash && state.split !== null) return; // a link within the page
  const wanted = at || { splits: [0], id: null, query: new URLSearchParams() };
  try {
    const split = await holding(wanted.splits, wanted.id);
    if (mine !== routes) return;
    const moved = split !== state.split;
    if (moved || wanted.id === null) {
      state.split = split;
      takeQuery(wanted.query);
      drawSplit();
    }
    const all = await load(split, () => {
      if (mine !== routes || wanted.id !== null) return;
      redraw();
      performance.mark("evalkit-first");
    });
    if (mine !== routes) return;
    if (moved || wanted.id === null) {
      counts();
      redraw();
    }
    if (wanted.id !== null) openSample(wanted.id);
    else if (dialog.open) dialog.close();
    else if (at && moved && all) document.getElementById("split-heading").scrollIntoView();
  } catch (error) {
    root.hidden = false;
    root.append(el("p", { role: "alert" }, `Cannot load the samples: ${error.message}. Copy the report's folder with all its files.`));
  }
  if (!document.documentElement.dataset.ready) performance.mark("evalkit-ready");
  document.documentElement.dataset.ready = "yes";
}

window.addEventListener("hashchange", route);
route();
