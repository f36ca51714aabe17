// The page of zones and lines: what a camera has, the fields beside the picture, and saving.
// Points are shares of the picture, as in the configuration file.

import { byId, element, setText } from "./dom.js";
import { draw, letHandsEdit, showPicture } from "./zones_drawing.js";

const HINTS = {
  zone: "Click the corners of the zone, one after the other; end at the first one, or with Enter.",
  line: "Click where the line begins and where it ends; the arrow shows which way is forward.",
};
const MOST_UNDONE = 100;
const RETRY_MS = 2000;

const state = { camera: "", places: [], selected: -1, drawing: null, cross: [0.5, 0.5], mayChange: false, changed: false };
const undone = [];
let drawnNumber = 0;

// A place is {kind, name, points, rest}; rest is what the file says of it besides.
function placesOf({ zones, lines }) {
  const asPlace = (kind, points) => ([name, { points: _, from, to, ...rest }]) => ({ kind, name, points: points(_, from, to), rest });
  return [
    ...Object.entries(zones).map(asPlace("zone", (corners) => corners)),
    ...Object.entries(lines).map(asPlace("line", (_, from, to) => [from, to])),
  ];
}

function asConfig(places) {
  const config = { zones: {}, lines: {} };
  for (const { kind, name, points, rest } of places) {
    const some = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== "" && !(Array.isArray(value) && !value.length)));
    if (kind === "zone") config.zones[name] = { points, ...some };
    else config.lines[name] = { from: points[0], to: points[1], ...some };
  }
  return config;
}

function remember() {
  undone.push(JSON.stringify(state.places));
  if (undone.length > MOST_UNDONE) undone.shift();
}

function changed() {
  state.changed = true;
  say("");
  render();
}

function say(text, bad = false) {
  setText("saved", text);
  byId("saved").className = bad ? "bad" : "";
}

function render() {
  draw(state);
  renderList();
  setText("hint", state.drawing ? HINTS[state.drawing.kind] : state.mayChange ? "" : "Your token lets you look and change nothing.");
  for (const kind of ["zone", "line"]) byId(`draw-${kind}`).setAttribute("aria-pressed", state.drawing?.kind === kind);
  byId("none").hidden = state.places.length > 0;
  for (const id of ["draw-zone", "draw-line"]) byId(id).disabled = !state.mayChange;
  byId("undo").disabled = !undone.length;
  byId("save").disabled = byId("discard").disabled = !state.mayChange || !state.changed;
}

function renderList() {
  const list = byId("list");
  const key = JSON.stringify([state.camera, state.places.map(({ kind }) => kind), drawnNumber]);
  if (list.dataset.key !== key) { // what is typed stays while nothing comes or goes
    list.dataset.key = key;
    list.replaceChildren(...state.places.map(makeItem));
  }
  [...list.children].forEach((item, at) => item.classList.toggle("selected", at === state.selected));
}

function field(label, value, change, options = {}) {
  const wrapper = element("label", label);
  const input = element("input");
  Object.assign(input, { value, ...options, disabled: !state.mayChange });
  if (options.list) input.setAttribute("list", options.list);
  input.addEventListener("change", () => {
    remember();
    change(input.value.trim());
    changed();
  });
  wrapper.append(input);
  return wrapper;
}

const numberOf = (text) => (text === "" ? "" : Number(text));

function makeItem(place, at) {
  const item = element("li");
  const name = field("Name", place.name, (value) => (place.name = value), { required: true, maxLength: 60 });
  const kind = element("span", place.kind === "zone" ? "zone" : "line", "kind");
  const classes = field("Classes, with commas (empty: all)", (place.rest.objects || []).join(", "), (value) => (place.rest.objects = value.split(",").map((name) => name.trim()).filter(Boolean)));
  classes.className = "wide";
  const score = field("Least score", place.rest.score ?? "", (value) => (place.rest.score = numberOf(value)), { type: "number", min: 0, max: 1, step: 0.01 });
  item.append(name, kind, classes, score);
  if (place.kind === "zone") item.append(field("Tell after seconds", place.rest.dwell_s ?? "", (value) => (place.rest.dwell_s = numberOf(value)), { type: "number", min: 0, step: "any" }));
  const remove = element("button", "Delete");
  remove.type = "button";
  remove.disabled = !state.mayChange;
  remove.setAttribute("aria-label", `Delete ${place.name}`);
  remove.addEventListener("click", () => removePlace(at));
  item.append(remove);
  item.addEventListener("focusin", () => select(at));
  return item;
}

function select(at) {
  if (state.selected === at) return;
  state.selected = at;
  render();
}

function removePlace(at) {
  remember();
  state.places.splice(at, 1);
  state.selected = -1;
  drawnNumber += 1;
  changed();
}

function begin(kind) {
  state.drawing = state.drawing?.kind === kind ? null : { kind, points: [] };
  state.selected = -1;
  render();
  if (state.drawing) byId("picture").focus();
}

function freeName(kind) {
  const names = state.places.map((place) => place.name);
  let number = 1;
  while (names.includes(`${kind}-${number}`)) number += 1;
  return `${kind}-${number}`;
}

function finish() {
  const { kind, points } = state.drawing;
  if (points.length < (kind === "zone" ? 3 : 2)) return;
  remember();
  state.places.push({ kind, name: freeName(kind), points, rest: {} });
  state.drawing = null;
  state.selected = state.places.length - 1;
  drawnNumber += 1;
  changed();
  byId("list").lastChild.querySelector("input").select();
}

function setPoint(point) {
  state.drawing.points.push(point);
  if (state.drawing.kind === "line" && state.drawing.points.length === 2) finish();
  else render();
}

function undo() {
  if (state.drawing?.points.length) state.drawing.points.pop();
  else if (undone.length) {
    state.places = JSON.parse(undone.pop());
    state.selected = -1;
    state.changed = true;
    drawnNumber += 1;
  }
  render();
}

letHandsEdit(state, { render, select, remember, changed, setPoint, finish, undo, stop: () => begin(state.drawing.kind) });

async function load() {
  const answer = await fetch(`/zones.json?camera=${encodeURIComponent(state.camera)}`).catch(() => null);
  if (!answer || !answer.ok) return say(answer ? await answer.text() : "No connection to the board", true);
  state.places = placesOf(await answer.json());
  Object.assign(state, { selected: -1, drawing: null, changed: false });
  undone.length = 0;
  drawnNumber += 1;
  say("");
  render();
}

async function save() {
  const names = state.places.map((place) => place.name);
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) return say(`Two are called ${twice}: give each its own name.`, true);
  const answer = await fetch(`/zones?camera=${encodeURIComponent(state.camera)}`, { method: "POST", body: JSON.stringify(asConfig(state.places)) }).catch(() => null);
  if (!answer || !answer.ok) return say(answer ? await answer.text() : "No connection to the board: nothing was saved.", true);
  state.changed = false;
  render();
  say("Saved in the configuration file; it holds from the next frame on.");
}

// A camera that has not delivered yet is asked again until it has, or another one is chosen.
async function renewPicture() {
  const camera = state.camera;
  const shown = await showPicture(`/snapshot.jpg?camera=${encodeURIComponent(camera)}&at=${Date.now()}`);
  draw(state);
  if (!shown) setTimeout(() => camera === state.camera && renewPicture(), RETRY_MS);
}

async function start() {
  const [viewer, cameras] = await Promise.all(["/viewer.json", "/cameras.json"].map((path) => fetch(path).then((answer) => answer.json())));
  state.mayChange = viewer.may_change;
  byId("camera").replaceChildren(...cameras.map((name) => new Option(name || "video", name)));
  const asked = new URLSearchParams(location.hash.slice(1)).get("camera");
  state.camera = cameras.includes(asked) ? asked : cameras[0];
  byId("camera").value = state.camera;
  await Promise.all([load(), renewPicture()]);
}

byId("draw-zone").addEventListener("click", () => begin("zone"));
byId("draw-line").addEventListener("click", () => begin("line"));
byId("undo").addEventListener("click", undo);
byId("renew").addEventListener("click", renewPicture);
byId("discard").addEventListener("click", load);
byId("places").addEventListener("submit", (event) => {
  event.preventDefault();
  save();
});
byId("camera").addEventListener("change", () => {
  if (state.changed && !confirm("Leave the changes of this camera?")) {
    byId("camera").value = state.camera;
    return;
  }
  location.hash = new URLSearchParams({ camera: byId("camera").value }).toString();
  start();
});
addEventListener("beforeunload", (event) => state.changed && event.preventDefault());
addEventListener("resize", () => draw(state));
start().catch(() => say("No connection to the board", true));
