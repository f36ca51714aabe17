// The page of events: which ones are asked for, and the list. The address holds the choice, behind the #.

import { byId, duration, element, setText } from "./dom.js";
import { play } from "./player.js";
import { dayOf, renderTimeline, spanOf } from "./timeline.js";

const REFRESH_MS = 5000; // while somebody looks
const CHOICES = ["camera", "class", "zone"];

const cards = new Map(); // event's id -> {item, update}
let events = []; // that are shown, the newest first
let next = null; // what the next page is asked by; null after the last event
let asked = ""; // the choice of which events are shown

function choice() {
  const given = new URLSearchParams(location.hash.slice(1));
  const day = given.has("day") ? given.get("day") : dayOf(new Date());
  return { ...Object.fromEntries(CHOICES.map((name) => [name, given.get(name) || ""])), day, hour: given.get("hour") || "" };
}

function choose(change) {
  location.hash = new URLSearchParams({ ...choice(), ...change }).toString();
}

function queryOf({ day, hour, ...rest }) {
  const query = new URLSearchParams(Object.entries(rest).filter(([, value]) => value));
  if (day) for (const [name, at] of Object.entries(spanOf(day, hour))) query.set(name, at);
  return query;
}

async function ask(path, query) {
  const answer = await fetch(`${path}?${query}`).catch(() => null);
  if (answer && answer.ok) {
    setText("trouble", "");
    return answer.json();
  }
  if (answer && answer.status === 401) location.reload(); // to the page that asks for the token
  setText("trouble", answer ? (await answer.text()).trim() : "No connection to the board");
  return null;
}

// Begins anew where other events are asked for; else takes the newest ones in.
async function refresh() {
  const chosen = choice();
  const query = queryOf(chosen);
  const isNew = asked !== String(query);
  asked = String(query);
  showChoice(chosen);
  const answers = [ask("/events.json", query)];
  if (chosen.day) answers.push(ask("/events-timeline.json", queryOf({ ...chosen, hour: "" })));
  const [page, timeline] = await Promise.all(answers);
  if (String(query) !== asked) return; // something else was asked for meanwhile
  byId("day-card").hidden = !chosen.day;
  if (timeline) renderTimeline(timeline, chosen, (hour) => choose({ hour: hour === chosen.hour ? "" : hour }));
  if (!page) return;
  if (isNew) next = page.next;
  const ids = new Set(page.events.map((event) => event.id));
  events = isNew ? page.events : [...page.events, ...events.filter((event) => !ids.has(event.id))];
  renderEvents(chosen);
}

async function showOlder() {
  const query = queryOf(choice());
  query.set("older_than", next);
  const page = await ask("/events.json", query);
  if (!page) return;
  next = page.next;
  const had = events.length;
  events = [...events, ...page.events];
  renderEvents(choice());
  byId("events").children[had]?.querySelector("button, a").focus();
}

function showChoice(chosen) {
  for (const name of CHOICES) {
    const select = byId(name);
    if (chosen[name] && ![...select.options].some((option) => option.value === chosen[name])) select.append(new Option(chosen[name], chosen[name]));
    select.value = chosen[name];
  }
  byId("day").value = chosen.day;
}

function renderEvents(chosen) {
  const list = byId("events");
  const ids = new Set(events.map((event) => event.id));
  for (const [id, card] of cards) {
    if (ids.has(id)) continue;
    card.item.remove();
    cards.delete(id);
  }
  events.forEach((event, at) => {
    if (!cards.has(event.id)) cards.set(event.id, makeCard());
    const { item, update } = cards.get(event.id);
    update(event);
    if (list.children[at] !== item) list.insertBefore(item, list.children[at] || null); // the others stay, with their focus
  });
  byId("empty").hidden = events.length > 0;
  setText("empty", chosen.day ? "Nothing happened here on this day." : "Nothing happened yet.");
  byId("older").hidden = !next;
}

const time = (utc) => new Date(utc * 1000).toLocaleTimeString([], { hourCycle: "h23" });
const date = (utc) => new Date(utc * 1000).toLocaleDateString([], { day: "numeric", month: "short" });
const canPlay = (event) => event.clips.some((clip) => /\.(mp4|webm)$/.test(clip));

function makeCard() {
  const item = element("li", "", "event card");
  const shot = element("button", "", "shot");
  shot.type = "button";
  const image = element("img");
  image.loading = "lazy";
  image.alt = "";
  const length = element("span", "", "length");
  shot.append(image, length);
  const text = element("div", "", "text");
  const [title, when, camera, score, zones] = [element("h3"), element("span", "", "when"), element("span", "", "soft"), element("span", "", "soft when"), element("span", "", "zones")];
  text.append(title, when, camera, score, zones);
  const buttons = element("div", "", "buttons");
  item.append(shot, text, buttons);
  let event = null;
  shot.addEventListener("click", () => (canPlay(event) ? play(event, `${event.label}, ${event.camera || "video"}, ${time(event.start_s)}`) : open(image.src, "_blank", "noopener")));

  function update(newest) {
    if (event && JSON.stringify(event) === JSON.stringify(newest)) return;
    event = newest;
    const address = `/event-picture?id=${encodeURIComponent(event.id)}&best=${event.best.utc_s}`; // a better one has another address
    if (event.snapshot && image.getAttribute("src") !== address) image.src = address;
    shot.disabled = !event.snapshot;
    shot.classList.toggle("plays", canPlay(event));
    length.textContent = event.end_s === null ? "goes on" : duration(Math.max(1, event.end_s - event.start_s));
    shot.setAttribute("aria-label", `${canPlay(event) ? "Play" : "Picture of"} ${event.label}, ${event.camera}, ${time(event.start_s)}, ${length.textContent}`);
    title.textContent = event.label;
    when.textContent = `${date(event.start_s)} ${time(event.start_s)}`;
    camera.textContent = event.camera;
    score.textContent = `score ${event.best.score.toFixed(2)}`;
    zones.replaceChildren(...event.entered.map((zone) => element("span", zone)));
    buttons.replaceChildren(...event.clips.map((clip, part) => {
      const link = element("a", event.clips.length > 1 ? `Download ${part + 1}` : "Download", "button");
      link.href = `/event-clip?id=${encodeURIComponent(event.id)}&part=${part}&download`;
      link.setAttribute("aria-label", `${link.textContent}: ${event.label}, ${time(event.start_s)}`);
      return link;
    }));
  }
  return { item, update };
}

async function loadKnown() {
  const known = await ask("/events-known.json", "");
  if (!known) return;
  for (const [name, values] of [["camera", known.cameras], ["class", known.labels], ["zone", known.zones]]) {
    const there = [...byId(name).options].map((option) => option.value);
    byId(name).append(...values.filter((value) => value && !there.includes(value)).map((value) => new Option(value, value)));
  }
}

function moveDay(days) {
  const { day } = choice();
  const date = new Date(`${day || dayOf(new Date())}T12:00`);
  date.setDate(date.getDate() + days);
  choose({ day: dayOf(date), hour: "" });
}

for (const name of CHOICES) byId(name).addEventListener("change", () => choose({ [name]: byId(name).value }));
byId("day").addEventListener("change", () => choose({ day: byId("day").value, hour: "" }));
byId("before").addEventListener("click", () => moveDay(-1));
byId("after").addEventListener("click", () => moveDay(1));
byId("any-day").addEventListener("click", () => choose({ day: "", hour: "" }));
byId("older").addEventListener("click", showOlder);
byId("filter").addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", refresh);
document.addEventListener("visibilitychange", () => !document.hidden && refresh());
setInterval(() => !document.hidden && refresh(), REFRESH_MS);
setInterval(() => !document.hidden && loadKnown(), 12 * REFRESH_MS);
loadKnown().then(refresh);
ask("/viewer.json", "").then((viewer) => (byId("to-zones").hidden = !viewer?.zones));
