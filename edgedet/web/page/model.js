// The model's card: what runs, and what its export found. Long hashes and lists are folded.

import { byId, element, fillFacts } from "./dom.js";

const LONG_HASH = /^(.*?)([0-9a-f]{40,})$/;
const HASH_SHOWN = 10; // characters
const MOST_ITEMS = 12; // of a list that is shown whole

function shown(value) {
  if (value === null) return "–";
  if (Array.isArray(value)) return value.map(shown).join(", ");
  if (typeof value === "object") return Object.entries(value).map(([name, item]) => `${name} ${shown(item)}`).join(", ");
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(4)));
  return String(value);
}

function folded(short, long) {
  const fold = element("details", "", "fold");
  fold.append(element("summary", short), element("span", long));
  return fold;
}

// Text, or an element that unfolds to it.
function shownOrFolded(value) {
  const text = shown(value);
  const hash = LONG_HASH.exec(text);
  if (hash) return folded(`${hash[1]}${hash[2].slice(0, HASH_SHOWN)}…`, text);
  if (Array.isArray(value) && value.length > MOST_ITEMS) return folded(`${value.length} values`, text);
  return text;
}

function verdictOf(gate) {
  if (!gate || !gate.verdict) return "";
  const figure = gate.value === undefined || gate.value === null ? "" : `: ${gate.figure} ${shown(gate.value)}, required ${shown(gate.required)}`;
  return `Accuracy gate ${gate.verdict.toLowerCase()}${figure}${gate.images ? `, ${gate.images} images` : ""}`;
}

export async function loadModel() {
  const answer = await fetch("/model.json").catch(() => null);
  if (!answer || !answer.ok) return;
  const { report, classes = [], ...facts } = await answer.json();
  const rows = Object.fromEntries(Object.entries(facts).map(([name, value]) => [name, shownOrFolded(value)]));
  const names = classes.length > MOST_ITEMS ? folded(`${classes.length} classes`, classes.join(", ")) : `${classes.length}: ${classes.join(", ")}`;
  fillFacts(byId("model"), { ...rows, classes: names });
  const verdict = verdictOf(report.gate);
  byId("verdict").hidden = !verdict;
  byId("verdict").textContent = verdict;
  byId("verdict").className = report.gate && report.gate.verdict !== "PASSED" ? "bad" : "";
  byId("report").replaceChildren(...Object.entries(report).flatMap(([name, value]) => {
    const list = element("dl", "", "facts");
    const nested = value !== null && typeof value === "object" && !Array.isArray(value);
    fillFacts(list, Object.fromEntries(Object.entries(nested ? value : { [name]: value }).map(([key, item]) => [key, shownOrFolded(item)])));
    return nested ? [element("h3", name), list] : [list];
  }));
  byId("report").parentElement.hidden = !Object.keys(report).length;
}
