// Images with boxes and points drawn on them.

// All boxes and points of a sample: [kind, [x1, y1, x2, y2] or [x, y], label].  References first, so that answers are
// drawn on top.
function boxesOf(sample) {
  const found = [];
  const add = (kind, value) => {
    if (isBox(value) || isPoint(value)) found.push([kind, value, ""]);
    else if (isLabelledBox(value)) found.push([kind, value.box, value.label]);
    else if (areLabelledBoxes(value)) value.forEach((one) => add(kind, one));
  };
  sample.references.forEach(([value]) => add("reference", value));
  sample.runs.forEach((answer, run) => answer && add(`answer-${run}`, answer.prediction));
  return found;
}

function overlay(boxes, width, height) {
  const size = Math.max(width, height);
  const shapes = boxes.flatMap(([kind, [x1, y1, x2, y2], label]) => {
    if (x2 === undefined) {
      const dot = { cx: x1, cy: y1, r: size / 80 };
      return [svg("circle", { class: "box under", ...dot }), svg("circle", { class: `box ${kind}`, ...dot })];
    }
    // An answer's corners may be swapped.
    const shape = { x: Math.min(x1, x2), y: Math.min(y1, y2), width: Math.abs(x2 - x1), height: Math.abs(y2 - y1) };
    const drawn = [svg("rect", { class: "box under", ...shape }), svg("rect", { class: `box ${kind}`, ...shape })];
    if (label) {
      // References are named at the top of their box, answers at the bottom, so that they do not cover each other.
      const y = kind === "reference" ? shape.y + size / 24 : shape.y + shape.height - size / 80;
      drawn.push(svg("text", { class: `label ${kind}`, x: shape.x + size / 80, y, "font-size": size / 26 }, label));
    }
    return drawn;
  });
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "xMidYMid meet", "aria-hidden": "true" }, ...shapes);
}

// A sample's image in a frame; large: with the image's aspect ratio.
function framed(sample, place, { large = false } = {}) {
  const number = sample.images[place];
  if (number === undefined) return el("div", { class: "frame" }, "no image");
  const [name, width, height, trouble] = index.images[number];
  if (!width) return el("div", { class: "frame" }, large ? `${name}: ${trouble}` : trouble);
  const alt = large ? `Image ${name}` : "";
  const frame = el("div", { class: "frame" }, el("img", { src: imageSource(number), alt, loading: large ? "eager" : "lazy", decoding: "async", width, height }));
  if (large) frame.style.aspectRatio = `${width} / ${height}`;
  // Boxes belong to the question's own image, which is the last one.
  const boxes = place === sample.images.length - 1 ? boxesOf(sample) : [];
  if (boxes.length) frame.append(overlay(boxes, width, height));
  return frame;
}

// The frames of a video that the model saw, in rows; large: with their times in seconds.
function strip(one, { large = false } = {}) {
  const [name, width, height, trouble] = index.images[one.image];
  if (!width) return el("div", { class: "frame" }, large ? `${name}: ${trouble}` : trouble);
  const alt = large ? `${one.times.length} frames of ${one.video}` : "";
  const frame = el("div", { class: "frame strip" }, el("img", { src: imageSource(one.image), alt, loading: large ? "eager" : "lazy", decoding: "async", width, height }));
  if (!large) return frame;
  frame.style.aspectRatio = `${width} / ${height}`;
  const [wide, high] = one.cell;
  const size = Math.max(7, Math.min(wide, high) / 11);
  const labels = one.times.map((time, place) => {
    const at = { x: (place % one.columns) * wide + size / 3, y: (Math.floor(place / one.columns) + 1) * high - size / 2 };
    return svg("text", { class: "label time", ...at, "font-size": size }, `${time.toFixed(1)} s`);
  });
  frame.append(svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "xMidYMid meet", "aria-hidden": "true" }, ...labels));
  return frame;
}

// Spans of time on a line as long as the video: the reference above the answers; ticks are the frames that are shown.
function timeBar(sample, { large = false } = {}) {
  if (!sample.spans || !sample.strips) return null;
  const { duration, start, times } = sample.strips[0];
  if (!(duration > 0)) return null;
  const row = large ? 12 : 8;
  const high = sample.spans.length * row + (large ? 18 : 0);
  const across = (time) => `${100 * Math.min(1, Math.max(0, time / duration))}%`;
  const bars = sample.spans.map(([kind, [from, to]], place) => {
    const width = `${100 * Math.max(0.004, (Math.min(to, duration) - Math.max(from, 0)) / duration)}%`;
    return svg("rect", { class: `span ${kind}`, x: across(from), y: place * row + 1, width, height: row - 3 });
  });
  const base = sample.spans.length * row;
  const ticks = large ? times.map((time) => svg("line", { class: "tick", x1: across(time - start), x2: across(time - start), y1: base, y2: base + 4 })) : [];
  const ends = large ? [svg("text", { class: "tick", x: 0, y: high }, "0 s"), svg("text", { class: "tick", x: "100%", y: high, "text-anchor": "end" }, `${duration.toFixed(1)} s`)] : [];
  const said = sample.spans.map(([kind, [from, to]]) => `${MARKED[kind]} ${from.toFixed(1)} to ${to.toFixed(1)} seconds`).join(", ");
  return svg("svg", { class: "timebar", width: "100%", height: high, role: "img", "aria-label": said }, ...bars, ...ticks, ...ends);
}

const MARKED = { reference: "reference", "answer-0": two ? "A's answer" : "answer", "answer-1": "B's answer" };

function legend(kinds) {
  return kinds.length ? el("span", { class: "legend" }, kinds.map((kind) => {
    const line = svg("svg", { viewBox: "0 0 30 10", "aria-hidden": "true" }, svg("line", { class: `box ${kind}`, x1: 0, y1: 5, x2: 30, y2: 5 }));
    return el("span", {}, line, MARKED[kind]);
  })) : null;
}
