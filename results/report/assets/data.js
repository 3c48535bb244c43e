// The page's data: scripts loaded on demand (folder), or elements of the page (single file).

const index = JSON.parse(document.getElementById("index").textContent);
const letters = ["A", "B"];
const two = index.runs.length > 1;
const arrived = new Map(); // "split-chunk" → samples
const samplesOf = new Map(); // split → samples so far, in the official order

window.evalkitReport = (key, samples) => arrived.set(key, samples);

function loadScript(path) {
  return new Promise((resolve, reject) => {
    const script = el("script", { src: path, onload: resolve, onerror: () => reject(new Error(`${path} is missing`)) });
    document.head.append(script);
    script.remove();
  });
}

async function chunk(split, number) {
  const key = `${split}-${number}`;
  if (index.single) return JSON.parse(document.getElementById(`data-${key}`).textContent);
  if (!arrived.has(key)) await loadScript(`data/${key}.js`);
  const samples = arrived.get(key);
  arrived.delete(key);
  return samples;
}

// All samples of a split; onFirst is called after the first chunk.
const loading = new Map();
function load(split, onFirst = () => {}) {
  if (samplesOf.has(split) && !loading.has(split)) return Promise.resolve(samplesOf.get(split));
  if (!loading.has(split)) {
    loading.set(split, (async () => {
      const found = [];
      samplesOf.set(split, found);
      for (let number = 0; number < index.splits[split].chunks; number++) {
        found.push(...(await chunk(split, number)));
        if (number === 0) onFirst(found);
      }
      return found;
    })());
    loading.get(split).catch(() => {}).finally(() => loading.delete(split));
  }
  return loading.get(split);
}

function imageSource(number) {
  if (!index.single) return `images/${number}.webp`;
  return `data:image/webp;base64,${document.getElementById(`image-${number}`).textContent}`;
}

// --- addresses: "#vqav2/val/262148000", "#vqav2/262148000", "#vqav2/val?show=wrong&sort=worst&q=cat"

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// {splits: indices of the matching splits, id, query}; null if none matches.
function place(hash) {
  const [path, ...rest] = hash.replace(/^#/, "").split("?");
  const query = new URLSearchParams(rest.join("?"));
  const wanted = decoded(path);
  const names = index.splits.map((split) => split.name);
  const whole = names.findIndex((name) => wanted === name || wanted.startsWith(`${name}/`));
  if (whole >= 0) return { splits: [whole], id: wanted.slice(names[whole].length + 1) || null, query };
  const task = names.flatMap((name, number) => {
    const bare = name.split("/")[0];
    return wanted === bare || wanted.startsWith(`${bare}/`) ? [number] : [];
  });
  if (!task.length) return null;
  return { splits: task, id: wanted.slice(names[task[0]].split("/")[0].length + 1) || null, query };
}

const coded = (text) => encodeURIComponent(text).replace(/%2F/g, "/").replace(/%2B/g, "+");
const address = (split, id) => `#${coded(index.splits[split].name)}${id === null ? "" : `/${encodeURIComponent(id)}`}`;
