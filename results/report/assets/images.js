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

const MARKED = { reference: "reference", "answer-0": two ? "A's answer" : "answer", "answer-1": "B's answer" };

function legend(kinds) {
  return kinds.length ? el("span", { class: "legend" }, kinds.map((kind) => {
    const line = svg("svg", { viewBox: "0 0 30 10", "aria-hidden": "true" }, svg("line", { class: `box ${kind}`, x1: 0, y1: 5, x2: 30, y2: 5 }));
    return el("span", {}, line, MARKED[kind]);
  })) : null;
}
