// Texts: numbers as the tables print them, boxes, and the differences between an answer and a reference.

const metricName = (column) => ({ cider: "CIDEr", anls: "ANLS" })[column] || column;

const LONGEST_EDIT = 600; // characters per text: the distance table has size n × m

function shown(value, digits = 2) {
  return value === null || value === undefined ? "–" : value.toFixed(digits).replace(/^-/, "−");
}

function count(number) {
  return number.toLocaleString("en");
}

function isBox(value) {
  return Array.isArray(value) && value.length === 4 && value.every((one) => typeof one === "number" && isFinite(one));
}

function isPoint(value) {
  return Array.isArray(value) && value.length === 2 && value.every((one) => typeof one === "number" && isFinite(one));
}

const isLabelledBox = (value) => value !== null && typeof value === "object" && "label" in value && isBox(value.box);

// Labelled boxes, maybe none.
const areLabelledBoxes = (value) => Array.isArray(value) && value.every(isLabelledBox);

// Whether a value is drawn in the image.
const isPlace = (value) => isBox(value) || isPoint(value) || isLabelledBox(value) || areLabelledBoxes(value);

function formatValue(value) {
  if (isLabelledBox(value)) return `${value.label}: ${formatValue(value.box)}`;
  if (areLabelledBoxes(value)) return value.map(formatValue).join("; ") || "no boxes";
  return isPlace(value) ? `(${value.map((one) => one.toFixed(1)).join(", ")})` : String(value);
}

const same = (a, b) => a === b || a.toLowerCase() === b.toLowerCase();

// Levenshtein's table over characters, ignoring case: rows for the reference, columns for the answer.
function distances(reference, answer) {
  const wide = answer.length + 1;
  const table = new Uint16Array((reference.length + 1) * wide);
  for (let column = 0; column < wide; column++) table[column] = column;
  for (let row = 1; row <= reference.length; row++) {
    table[row * wide] = row;
    for (let column = 1; column < wide; column++) {
      const diagonal = table[(row - 1) * wide + column - 1] + (same(reference[row - 1], answer[column - 1]) ? 0 : 1);
      const above = table[(row - 1) * wide + column] + 1;
      const left = table[row * wide + column - 1] + 1;
      table[row * wide + column] = Math.min(diagonal, above, left);
    }
  }
  return table;
}

function distance(reference, answer) {
  const table = distances(reference, answer);
  return table[table.length - 1];
}

// The reference with the smallest normalized distance (as in ANLS); null if the texts are too long.
function nearest(references, answer) {
  const letters = [...answer];
  let best = null;
  for (const reference of references) {
    const other = [...reference];
    if (Math.max(letters.length, other.length) > LONGEST_EDIT) continue;
    const edits = distance(other, letters);
    const share = edits / Math.max(1, letters.length, other.length);
    if (best === null || share < best.share) best = { reference, edits, share };
  }
  return best;
}

// [[kind, text], …]: "same", "extra" (only the answer has it), "missing" (only the reference has it).
function edits(reference, answer) {
  const from = [...reference];
  const to = [...answer];
  const table = distances(from, to);
  const wide = to.length + 1;
  const steps = [];
  let row = from.length;
  let column = to.length;
  while (row > 0 || column > 0) {
    const here = table[row * wide + column];
    const alike = row > 0 && column > 0 && same(from[row - 1], to[column - 1]);
    if (alike && here === table[(row - 1) * wide + column - 1]) {
      steps.push(["same", to[--column]]);
      row--;
    } else if (row > 0 && column > 0 && here === table[(row - 1) * wide + column - 1] + 1) {
      steps.push(["extra", to[--column]], ["missing", from[--row]]);
    } else if (column > 0 && here === table[row * wide + column - 1] + 1) {
      steps.push(["extra", to[--column]]);
    } else {
      steps.push(["missing", from[--row]]);
    }
  }
  return grouped(steps.reverse());
}

// Merge adjacent steps of a kind; in a changed stretch, missing text comes before extra text.
function grouped(steps) {
  const pieces = [];
  let missing = "";
  let extra = "";
  const flush = () => {
    if (missing) pieces.push(["missing", missing]);
    if (extra) pieces.push(["extra", extra]);
    missing = extra = "";
  };
  for (const [kind, letter] of steps) {
    if (kind === "missing") missing += letter;
    else if (kind === "extra") extra += letter;
    else {
      flush();
      const last = pieces[pieces.length - 1];
      if (last && last[0] === "same") last[1] += letter;
      else pieces.push(["same", letter]);
    }
  }
  flush();
  return pieces;
}
