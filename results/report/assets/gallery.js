// The gallery of a split: filters, sorting, cards and pages.

const PER_PAGE = 48;
const WORSE = ["wrong", "unparsed"]; // an answer that could not be parsed counts as wrong

const FILTERS = [
  ["all", "all", () => true],
  ["wrong", "wrong", (answer) => answer && WORSE.includes(answer.status)],
  ["partly", "partly right", (answer) => answer && answer.status === "partly"],
  ["right", "right", (answer) => answer && answer.status === "right"],
  ["unparsed", "unparsed", (answer) => answer && answer.status === "unparsed"],
  ["error", "errors", (answer) => answer && answer.status === "error"],
  ["flipped", "flipped", (_, sample) => flipped(sample)],
  ["better", "B better", (_, sample, split) => change(sample, split) > 0],
  ["worse", "B worse", (_, sample, split) => change(sample, split) < 0],
];

const SORTS = [
  ["official", "official order"],
  ["worst", "lowest score first"],
  ["best", "highest score first"],
  ["gains", "largest gain of B first"],
  ["losses", "largest loss of B first"],
  ["longest", "longest answer first"],
];

const scoreOf = (answer, split) => (answer && split.column in answer.scores ? answer.scores[split.column] : null);

function change(sample, split) {
  const [a, b] = sample.runs.map((answer) => scoreOf(answer, split));
  return a === null || b === null || b === undefined ? 0 : b - a;
}

// Right in exactly one of the two runs.
function flipped(sample) {
  const [a, b] = sample.runs.map((answer) => answer && ["right", "partly", ...WORSE].includes(answer.status) ? answer.status === "right" : null);
  return a !== null && b !== null && b !== undefined && a !== b;
}

function haystack(sample) {
  if (sample.text === undefined) {
    const pieces = [sample.id, sample.question, ...sample.references.map(([value]) => formatValue(value)), ...sample.options, ...Object.values(sample.meta)];
    for (const answer of sample.runs) if (answer) for (const one of answer.repeats || [answer]) pieces.push(one.text, one.error || "");
    sample.text = pieces.join("\n").toLowerCase();
  }
  return sample.text;
}

const state = { split: null, show: "all", run: 0, sort: "official", query: "", bin: null, group: null, page: 0, found: [] };

function inBin(sample) {
  const { low, high } = state.bin;
  const value = scoreOf(sample.runs[state.run], index.splits[state.split]);
  return value !== null && value >= low && (high === null || value < high);
}

function choose(samples) {
  const split = index.splits[state.split];
  const [, , fits] = FILTERS.find(([name]) => name === state.show);
  const asked = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  const found = samples.filter((sample) =>
    fits(sample.runs[state.run], sample, split) &&
    (state.bin === null || inBin(sample)) &&
    (state.group === null || sample.groups[state.group[0]].includes(state.group[1])) &&
    asked.every((word) => haystack(sample).includes(word)));
  const keys = {
    worst: (sample) => scoreOf(sample.runs[state.run], split) ?? Infinity,
    best: (sample) => -(scoreOf(sample.runs[state.run], split) ?? -Infinity),
    gains: (sample) => -change(sample, split),
    losses: (sample) => change(sample, split),
    longest: (sample) => -(sample.runs[state.run] || { text: "" }).text.length,
  };
  if (state.sort in keys) {
    const key = new Map(found.map((sample) => [sample, keys[state.sort](sample)]));
    found.sort((a, b) => (key.get(a) === key.get(b) ? 0 : key.get(a) - key.get(b)));
  }
  return found;
}

// --- cards

const STATUS = { right: "right", partly: "partly right", wrong: "wrong", scored: "", unscored: "not scored", unparsed: "unparsed", error: "error" };

function scoreText(answer, split) {
  const value = scoreOf(answer, split);
  if (value === null) return "";
  if (split.column === "iou") return `IoU ${shown(value / 100)}`;
  return `${metricName(split.column)} ${shown(value, value % 1 ? 1 : 0)}`;
}

function answerOf(answer, sample) {
  if (!answer) return "not answered";
  if (answer.error) return answer.error;
  return isPlace(answer.prediction) || answer.prediction === null ? answer.text : referenceText(sample, [answer.prediction]);
}

function card(sample, split, number) {
  const grounding = sample.runs.some((answer) => answer && isPlace(answer.prediction)) || sample.references.some(([value]) => isPlace(value));
  const lines = sample.runs.map((answer, run) => {
    const status = answer ? answer.status : "unscored";
    const name = two ? el("span", { class: `side-${letters[run].toLowerCase()}` }, `${letters[run]} `) : null;
    // Boxes and points are drawn in the image; their numbers would not help.
    const text = grounding && answer && answer.prediction !== null ? null : el("span", { class: "line answer clamp" }, name, words("span", answerOf(answer, sample) || "(empty)"));
    return [text, el("span", { class: "foot" }, text ? null : name, STATUS[status] ? el("span", { class: `status ${status}` }, STATUS[status]) : null, answer ? scoreText(answer, split) : null)];
  });
  const reference = sample.references.find(([value]) => !isPlace(value));
  return el("li", {}, el("a", { href: address(state.split, sample.id), tabindex: number === 0 ? "0" : "-1", "data-id": sample.id },
    sample.strips && !sample.images.length ? strip(sample.strips[0]) : framed(sample, sample.images.length - 1),
    timeBar(sample),
    sample.question ? words("span", sample.question, "line question clamp") : null,
    lines,
    reference ? el("span", { class: "line reference clamp" }, "reference: ", words("span", referenceText(sample, reference))) : null,
    sample.question || reference ? null : el("span", { class: "line reference" }, sample.id)));
}

// A reference; an option letter is followed by the option's text.
function referenceText(sample, [value]) {
  const option = sample.options.length && /^[A-Z]$/.test(value) ? sample.options[value.charCodeAt(0) - 65] : undefined;
  return option === undefined ? String(value) : `${value}. ${option}`;
}

function drawPage(view) {
  const split = index.splits[state.split];
  const pages = Math.max(1, Math.ceil(state.found.length / PER_PAGE));
  state.page = Math.min(Math.max(0, state.page), pages - 1);
  const start = state.page * PER_PAGE;
  const some = state.found.slice(start, start + PER_PAGE);
  view.cards.replaceChildren(...some.map((sample, number) => card(sample, split, number)));
  view.cards.hidden = !some.length;
  const whole = split.samples < split.of ? ` (selected from ${count(split.of)})` : "";
  const which = some.length ? `${count(start + 1)}–${count(start + some.length)} of ` : "";
  view.summary.textContent = some.length ? `${which}${count(state.found.length)} samples${state.found.length === split.samples ? whole : `, out of ${count(split.samples)}`}` : "No sample matches.";
  for (const pager of view.pagers) {
    pager.hidden = pages < 2;
    pager.children[0].disabled = state.page === 0;
    pager.children[1].textContent = `page ${state.page + 1} of ${pages}`;
    pager.children[2].disabled = state.page === pages - 1;
  }
}

// Arrow keys move between the cards; from the first and last row they go to the neighbouring page.
function onCardKey(event, turn) {
  const cards = [...event.currentTarget.querySelectorAll("a")];
  const here = cards.indexOf(event.target.closest("a"));
  if (here < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const top = cards[0].offsetTop;
  const across = cards.filter((one) => one.offsetTop === top).length;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: across, ArrowUp: -across }[event.key];
  const to = event.key === "Home" ? 0 : event.key === "End" ? cards.length - 1 : here + step;
  if (Number.isNaN(to)) return;
  event.preventDefault();
  if (cards[to]) focusCard(cards, to);
  else if (to < 0) turn(-1, "last");
  else turn(1, "first");
}

function focusCard(cards, number) {
  for (const one of cards) one.tabIndex = -1;
  cards[number].tabIndex = 0;
  cards[number].focus();
}
