// One sample in detail: images, prompt, raw answer, prediction, references and scores.

function section(title, ...content) {
  const there = content.flat().filter((one) => one !== null && one !== undefined);
  return there.length ? el("section", {}, el("h3", {}, title), there) : null;
}

function facts(rows) {
  const there = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return there.length ? el("dl", {}, there.map(([name, value]) => [el("dt", { dir: "auto" }, name), el("dd", { dir: "auto" }, value)])) : null;
}

function promptOf(answer) {
  const turns = answer.prompt.map(([role, text]) => (role === "plain" ? text : `${role}: ${text}`)).join("\n");
  const notes = [];
  if (answer.shots.length) notes.push(`${answer.promptHasShots ? "with" : "shown without"} its ${answer.shots.length} few-shot examples: ${answer.shots.join(", ")}`);
  if (answer.exact === false) notes.push("today's prompt; the run used a different one");
  return turns || notes.length ? [turns ? el("pre", { dir: "auto", tabindex: "0" }, turns) : null, notes.length ? el("small", { dir: "auto" }, notes.join("; ")) : null] : null;
}

function predictionOf(answer, sample) {
  if (answer.status === "error") return el("p", { class: "text error", dir: "auto" }, answer.error || "failed");
  if (answer.prediction === null) return el("p", { class: "text unparsed" }, "could not be parsed");
  const prediction = formatValue(answer.prediction);
  return el("p", { class: "text", dir: "auto" }, sample.options.length ? referenceText(sample, [prediction]) : prediction);
}

function editsOf(answer, sample) {
  const references = sample.references.map(([value]) => value).filter((value) => typeof value === "string");
  if (typeof answer.prediction !== "string" || !references.length) return null;
  const best = nearest(references, answer.prediction);
  if (best === null) return section("compared with the nearest reference", el("small", {}, "the texts are too long to compare character by character"));
  const kinds = { same: "span", extra: "ins", missing: "del" };
  const pieces = edits(best.reference, answer.prediction).map(([kind, text]) =>
    el(kinds[kind], {}, kind === "same" ? null : el("span", { class: "sr" }, kind === "extra" ? " extra: " : " missing: "), text));
  const summary = best.edits ? `${count(best.edits)} ${best.edits === 1 ? "edit" : "edits"}, ${shown(best.share)} of the longer text's length` : "the same, ignoring upper and lower case";
  return section("compared with the nearest reference", el("p", { class: "edits", dir: "auto" }, pieces), el("small", {}, summary));
}

// The reasoning, folded away, before the final answer; the raw answer where there is none.
function rawOf(answer) {
  const text = (value) => el("pre", { dir: "auto", tabindex: "0" }, value);
  if (answer.final === null) return [section("raw answer", text(answer.text || "(empty)"))];
  const length = answer.reasoningTokens === null ? `${count(answer.reasoning.length)} characters` : `${count(answer.reasoningTokens)} tokens`;
  const cut = answer.truncated && answer.final === "";
  return [
    el("section", {}, el("details", { class: "reasoning" }, el("summary", {}, `reasoning, ${length}${cut ? ", cut off" : ""}`), text(answer.reasoning || "(empty)"))),
    section("final answer", cut ? el("p", { class: "text unparsed" }, "none: the reasoning does not end") : text(answer.final || "(empty)")),
  ];
}

// The answers to a sample that was asked several times, equal ones together.
function repeatsOf(answer, sample, split) {
  const groups = new Map();
  for (const one of answer.repeats) {
    const key = JSON.stringify([one.text, one.prediction, one.status]);
    groups.set(key, [...(groups.get(key) || []), one]);
  }
  return [...groups.values()].map((same) => section(`${same.length} of ${answer.repeats.length} answers`,
    rawOf(same[0]), predictionOf(same[0], sample),
    el("p", { class: "text" }, STATUS[same[0].status] ? el("span", { class: `status ${same[0].status}` }, STATUS[same[0].status]) : null, " ", scoreText(same[0], split))));
}

function sideOf(answer, run, sample, split) {
  const name = two ? el("h2", { class: `run side-${letters[run].toLowerCase()}` }, `${letters[run]} `, el("small", { dir: "auto" }, index.runs[run])) : null;
  if (!answer) return el("div", {}, name, el("p", {}, "This run did not answer this sample."));
  const state = STATUS[answer.status];
  const scores = Object.entries(answer.scores).map(([key, value]) => [key, shown(value)]);
  const again = typeof answer.prediction === "string" && answer.prediction === answer.text;
  return el("div", {}, name,
    section("score", el("p", { class: "text" }, state ? el("span", { class: `status ${answer.status}` }, state) : null, state ? " " : null, scoreText(answer, split))),
    answer.repeats ? repeatsOf(answer, sample, split) : null,
    answer.repeats || answer.status === "error" || again ? null : rawOf(answer),
    answer.repeats ? null : section(again ? "answer, used unchanged" : "parsed answer", predictionOf(answer, sample)),
    split.editMarks && !answer.repeats ? editsOf(answer, sample) : null,
    section("prompt", promptOf(answer)),
    section("details", facts([...(scores.length > 1 ? scores : []), ["ended", answer.truncated ? (answer.final === "" ? "truncated in its reasoning" : "truncated at the token limit") : null],
      ["new tokens", answer.tokens ? count(answer.tokens) : null], ["of them reasoning", answer.reasoningTokens ? count(answer.reasoningTokens) : null], ["prompt tokens", answer.promptTokens ? count(answer.promptTokens) : null], ["seconds", answer.seconds ? shown(answer.seconds, 3) : null]])));
}

function referencesOf(sample) {
  return sample.references.length ? el("ul", {}, sample.references.map(([value, times]) =>
    el("li", {}, words("span", isPlace(value) ? formatValue(value) : referenceText(sample, [value])), times > 1 ? el("small", {}, ` × ${times}`) : null))) : null;
}

function optionsOf(sample) {
  return sample.options.length ? el("ol", {}, sample.options.map((text, number) => text === "" ? null :
    el("li", {}, el("small", {}, `${String.fromCharCode(65 + number)}  `), words("span", text)))) : null;
}

function look(sample) {
  const strips = sample.strips || [];
  const still = sample.images.length || !strips.length ? (sample.images.length ? sample.images : [0]).map((_, place) => framed(sample, place, { large: true })) : [];
  const frames = [...strips.map((one) => strip(one, { large: true })), ...still];
  const captions = sample.images.map((number) => index.images[number]).filter(([, width]) => width)
    .map(([name, width, height, trouble]) => `${name}, ${count(width)} × ${count(height)} pixels${trouble ? `: ${trouble}` : ""}`);
  const seen = strips.map((one) => {
    const some = one.times.length < one.seen ? `${one.times.length} of the ${count(one.seen)} frames` : `the ${count(one.seen)} frames`;
    return `${one.video}, ${one.duration.toFixed(1)} s: ${some} that the model saw, at ${one.size[0]} × ${one.size[1]} pixels; sampled by ${one.sampling}, decoded by ${one.decoder}`;
  });
  const marked = [...boxesOf(sample), ...(sample.spans && strips.length ? sample.spans : [])];
  return el("div", { class: "look" }, frames, timeBar(sample, { large: true }), legend([...new Set(marked.map(([kind]) => kind))]),
    [...seen, ...captions].map((text) => el("p", { class: "caption", dir: "auto" }, text)));
}

// The dialog's content; the functions are the handlers of its buttons.
function sampleView(sample, split, { where, before, after, link, close, first, last }) {
  const bar = el("div", { class: "bar" },
    el("h2", { id: "sample-heading", tabindex: "-1" }, el("span", {}, `${split.name} `), words("span", sample.id)),
    el("span", { class: "where", role: "status" }, where),
    el("button", { type: "button", "data-do": "before", onclick: before, disabled: first, title: "previous sample (arrow left)" }, "← previous"),
    el("button", { type: "button", "data-do": "after", onclick: after, disabled: last, title: "next sample (arrow right)" }, "next →"),
    el("button", { type: "button", "data-do": "link", onclick: link }, "copy link"),
    el("button", { type: "button", "data-do": "close", onclick: close, title: "close (Escape)" }, "close"));
  const parts = el("div", { class: "parts" },
    section("question", sample.question ? words("p", sample.question, "text") : null),
    section("options", optionsOf(sample)),
    section(sample.references.length > 1 ? "references" : "reference", referencesOf(sample)),
    el("div", { class: "sides" }, sample.runs.map((answer, run) => sideOf(answer, run, sample, split))),
    section("about the sample", Object.keys(sample.meta).length ? facts(Object.entries(sample.meta).map(([key, value]) => [key.replaceAll("_", " "), value])) : null));
  return [bar, el("div", { class: "body", tabindex: "0", role: "group", "aria-label": "the sample" }, look(sample), parts)];
}
