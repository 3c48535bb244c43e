// A split's histogram and breakdowns; each bar and each row is also a filter of the gallery.

function histogram(split, onChoose) {
  if (!split.bins.length) return el("div", {}, el("h3", {}, "Scores"), el("p", {}, "No scores: the reference answers are not public."));
  const most = Math.max(1, ...split.bins.flatMap((bin) => bin.counts));
  const bars = split.bins.map((bin, number) => {
    const counts = bin.counts.map((n, run) => (two ? `${letters[run]} ${count(n)}` : `${count(n)} samples`)).join(", ");
    const label = `${unit(split)} ${bin.label}: ${counts}`;
    const bar = el("button", { type: "button", "aria-pressed": "false", "aria-label": label, title: label, "data-bin": number, onclick: () => onChoose(number) });
    for (const n of bin.counts) {
      const piece = el("i");
      piece.style.height = n ? `max(2px, ${(100 * n) / most}%)` : "0";
      bar.append(piece);
    }
    return bar;
  });
  const ends = split.bins.length > 12;
  const labels = ends ? [split.bins[0].label.split("–")[0], split.bins[split.bins.length - 1].label.split("–").pop()] : split.bins.map((bin) => bin.label);
  return el("div", {},
    el("h3", {}, `Samples by ${unit(split)}${two ? ": A and B" : ""}; tallest bar: ${count(most)}`),
    el("div", { class: "histogram", role: "group", "aria-label": `histogram of ${unit(split)}` }, bars),
    el("div", { class: ends ? "axis ends" : "axis", "aria-hidden": "true" }, labels.map((label) => el("span", {}, label))));
}

const unit = (split) => (split.column === "iou" ? "IoU (%)" : metricName(split.column));

function breakdown(split, number, onChoose) {
  const { title, rows } = split.breakdowns[number];
  const head = el("tr", {}, el("th", { scope: "col" }, title), el("th", { scope: "col", class: "number" }, "n"),
    split.cells.flatMap((_, run) => el("th", { scope: "col", class: "number" }, two ? letters[run] : metricName(split.metric || ""))),
    el("th", { scope: "col", class: "number" }, two ? "B − A" : "95 %"));
  const lines = rows.map((row, place) => {
    const filter = el("button", { type: "button", class: "plain", dir: "auto", title: row.label, "aria-pressed": "false", "data-group": `${number}-${place}`, onclick: () => onChoose(number, place) }, row.label);
    const means = row.means.map(([, mean]) => mean);
    const last = two ? difference(means) : range(row.means[0]);
    return el("tr", {}, el("th", { scope: "row" }, filter), el("td", { class: "number" }, count(Math.max(...row.means.map(([n]) => n)))),
      means.map((mean) => el("td", { class: "number" }, shown(mean, 1))), el("td", { class: "number range" }, last));
  });
  const table = el("table", {}, el("thead", {}, head), el("tbody", {}, lines));
  const found = el("div", { class: "breakdown" }, table);
  if (lines.length > 10) {
    for (const line of lines.slice(8)) line.hidden = true;
    const more = el("button", { type: "button", class: "plain more", onclick: () => {
      for (const line of lines) line.hidden = false;
      lines[8].querySelector("button").focus();
      more.remove();
    } }, `${lines.length - 8} more`);
    found.append(more);
  }
  return found;
}

const difference = ([a, b]) => (a === null || b === null ? "–" : (b < a ? "" : "+") + shown(b - a, 1));
const range = ([, , low, high]) => (low === null ? "" : `${shown(low, 1)}–${shown(high, 1)}`);
