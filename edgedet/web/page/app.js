// The live page: pictures by /stream.mjpg, figures by /events, the threshold by /score. No library, no build step.
"use strict";

const RETRY_MS = 1000; // between two tries to reach the board
const SILENT_S = 3; // a camera without a frame for so long is told of
const SCORE_EVERY_MS = 100; // while the slider moves
const HANDS_OFF_MS = 1500; // after the slider was moved, before what the board says moves it again
const LOST_MS = 4000; // without an event for so long (there are two a second) the board is taken for gone

const byId = (id) => document.getElementById(id);
const state = { camera: null, status: null, ended: false, heardAt: 0, slidAt: 0, abort: null, events: null };

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

const number = (value, digits = 0) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const ms = (value) => (value < 10 ? number(value, 1) : number(value));

function duration(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0 s";
  const parts = units.slice(first, first + 2).map(([unit, size], at) => {
    const count = Math.floor((at ? seconds % units[first][1] : seconds) / size);
    return `${count} ${unit}`;
  });
  return parts.join(" ");
}

// --- pictures ---------------------------------------------------------------------------------------------------------

function find(bytes, pattern, from) {
  for (let at = from; at <= bytes.length - pattern.length; at++) {
    let same = 0;
    while (same < pattern.length && bytes[at + same] === pattern[same]) same++;
    if (same === pattern.length) return at;
  }
  return -1;
}

const HEAD_END = [13, 10, 13, 10];

// Calls show(blob) for each picture of a multipart stream, and waits for it: what is taken slowly is sent seldom.
async function readPictures(reader, show) {
  let bytes = new Uint8Array(0);
  for (;;) {
    const end = find(bytes, HEAD_END, 0);
    const length = end < 0 ? 0 : Number(/content-length: *(\d+)/i.exec(new TextDecoder("latin1").decode(bytes.subarray(0, end)))[1]);
    if (end >= 0 && bytes.length >= end + 4 + length) {
      await show(new Blob([bytes.subarray(end + 4, end + 4 + length)], { type: "image/jpeg" }));
      bytes = bytes.slice(end + 4 + length + 2);
      continue;
    }
    const { done, value } = await reader.read();
    if (done) return;
    const longer = new Uint8Array(bytes.length + value.length);
    longer.set(bytes);
    longer.set(value, bytes.length);
    bytes = longer;
  }
}

async function showPicture(blob, signal) {
  const bitmap = await createImageBitmap(blob);
  if (signal.aborted) return bitmap.close();
  const canvas = byId("picture");
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  canvas.dataset.pictures = Number(canvas.dataset.pictures || 0) + 1;
}

function clearPicture() {
  const canvas = byId("picture");
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  canvas.dataset.pictures = 0;
}

async function watchPictures() {
  if (state.abort) state.abort.abort();
  const abort = (state.abort = new AbortController());
  while (!abort.signal.aborted) {
    try {
      const query = state.camera === null ? "" : `?camera=${encodeURIComponent(state.camera)}`;
      const answer = await fetch(`/stream.mjpg${query}`, { signal: abort.signal, headers: { Accept: "multipart/x-mixed-replace" } });
      if (answer.ok) await readPictures(answer.body.getReader(), (blob) => showPicture(blob, abort.signal));
    } catch (error) {
      if (abort.signal.aborted) return;
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

// --- figures ----------------------------------------------------------------------------------------------------------

function watchFigures() {
  if (state.events) state.events.close();
  const events = (state.events = new EventSource("/events"));
  events.onmessage = (event) => {
    const back = state.status === null || state.ended || document.body.dataset.link === "offline";
    state.heardAt = Date.now();
    state.ended = false;
    state.status = JSON.parse(event.data);
    if (back) loadModel(); // another run may have begun
    if (state.camera !== null && !state.status.cameras.some((one) => one.name === state.camera)) {
      state.camera = null; // with other cameras
      watchPictures();
    }
    render();
  };
  events.addEventListener("end", () => {
    state.ended = true;
    events.close();
    showLink();
    setTimeout(reconnect, RETRY_MS);
  });
  events.onerror = () => {
    if (events.readyState === EventSource.CLOSED && !state.ended) setTimeout(reconnect, RETRY_MS);
    showLink();
  };
}

// An EventSource gives up where the answer is an error: too many viewers, or a token that no longer holds.
async function reconnect() {
  if (document.hidden) return;
  const answer = await fetch("/model.json").catch(() => null);
  if (answer && answer.status === 401) location.reload(); // to the page that asks for the token
  else watchFigures();
}

function camera() {
  const cameras = state.status ? state.status.cameras : [];
  return cameras.find((one) => one.name === state.camera) || cameras[0];
}

function trouble() {
  const one = camera();
  if (state.ended) return ["offline", "Run ended", "The run has ended. Waiting for the next one."];
  if (!state.heardAt) return ["connecting", "Connecting", "Connecting to the board"];
  if (Date.now() - state.heardAt > LOST_MS || state.events.readyState !== EventSource.OPEN)
    return ["offline", "Disconnected", `No connection to the board since ${new Date(state.heardAt).toLocaleTimeString()}. Trying again.`];
  if (one.state === "lost" || one.state === "ended")
    return ["stale", `Camera ${one.state}`, `${one.title}: ${sentence(one.reason || one.state)} ${one.state === "lost" ? "Opening it again." : ""}`];
  if (!one.frames) return ["stale", "Waiting", "Waiting for the first frame"];
  if (one.silent_s > SILENT_S) return ["stale", "No new frames", `No new frame for ${duration(one.silent_s)}`];
  return ["live", "Live", ""];
}

function showLink() {
  const [link, badge, notice] = trouble();
  document.body.dataset.link = link;
  if (byId("badge").textContent !== badge) byId("badge").textContent = badge;
  if (byId("notice").textContent !== notice) byId("notice").textContent = notice;
  byId("notice").hidden = !notice;
}

function sentence(text) {
  return /[.?!]$/.test(text) ? text : `${text}.`;
}

function tile(id, value, unit, more) {
  byId(id).replaceChildren(value, element("span", unit, "unit"));
  byId(`${id}-more`).textContent = more || "\u00a0";
}

function render() {
  const { status } = state;
  const one = camera();
  showLink();
  renderPicker(status.cameras, one);
  byId("subject").textContent = one.title;
  document.title = `${one.title} – edgedet`;
  tile("fps", number(one.fps, 1), "", `${number(one.frames)} frames in all`);
  const latency = Object.values(status.stages).reduce((sum, stage) => sum + stage.p50_ms, 0);
  byId("age-title").textContent = one.age ? "Frame age" : "Latency";
  if (one.age) tile("age", ms(one.age.p50_ms), "ms", `99 % within ${ms(one.age.p99_ms)} ms`);
  else tile("age", one.frames ? ms(latency) : "–", one.frames ? "ms" : "", "all stages, half of the frames");
  const dropped = one.captured === undefined ? 0 : one.dropped;
  tile("dropped", number(dropped), one.captured ? `${number((100 * dropped) / one.captured, 1)} %` : "", one.captured ? `of ${number(one.captured)} captured` : one.state === "file" ? "a file: every frame is used" : "none captured yet");
  const found = Object.values(one.now).reduce((sum, count) => sum + count, 0);
  tile("found", number(found), "", Object.entries(one.now).map(([name, count]) => (count === found ? name : `${count} ${name}`)).join(", ") || "nothing");
  renderClasses(one);
  renderStages(status.stages, status.bounds_ms);
  renderCameras(status.cameras);
  byId("uptime").textContent = `Running for ${duration(status.uptime_s)}, ${status.viewers} open ${status.viewers === 1 ? "stream" : "streams"}`;
  if (Date.now() - state.slidAt > HANDS_OFF_MS) setSlider(status.score);
  const query = `?camera=${encodeURIComponent(one.name)}`;
  byId("snapshot").href = `/snapshot.jpg${query}`;
  byId("stream-link").href = `/stream.mjpg${query}`;
}

function renderPicker(cameras, chosen) {
  const picker = byId("picker");
  picker.hidden = cameras.length < 2;
  const names = cameras.map((one) => one.name).join("\n");
  if (picker.dataset.names !== names) {
    picker.dataset.names = names;
    picker.querySelectorAll("label").forEach((label) => label.remove());
    for (const one of cameras) {
      const label = element("label");
      const input = element("input");
      Object.assign(input, { type: "radio", name: "camera", value: one.name, checked: one.name === chosen.name });
      input.addEventListener("change", () => {
        state.camera = one.name;
        watchPictures();
        clearPicture(); // the other camera's last picture is none of this one
        render();
      });
      label.append(input, element("span", "", "dot"), element("span", one.title));
      picker.append(label);
    }
  }
  picker.querySelectorAll(".dot").forEach((dot, at) => (dot.className = `dot ${cameras[at].state}`));
}

function renderClasses(one) {
  const names = Object.keys(one.total).sort((a, b) => one.total[b] - one.total[a]);
  const rows = names.map((name) => {
    const row = element("tr");
    row.append(element("td", name), element("td", number(one.now[name] || 0), "number"), element("td", number(one.total[name]), "number"));
    return row;
  });
  if (!rows.length) {
    const row = element("tr");
    row.append(element("td", "Nothing found yet"));
    rows.push(row);
  }
  byId("classes").tBodies[0].replaceChildren(...rows);
}

function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function renderStages(stages, bounds) {
  const all = Object.entries(stages);
  if (!all.length) return;
  const used = bounds.map((_, at) => all.some(([, stage]) => stage.counts[at])).concat(all.some(([, stage]) => stage.counts[bounds.length]));
  const first = Math.max(0, used.indexOf(true) - 1);
  const last = Math.min(bounds.length, used.lastIndexOf(true) + 1);
  const blocks = all.map(([name, stage]) => {
    const counts = stage.counts.slice(first, last + 1);
    const total = counts.reduce((sum, count) => sum + count, 0) || 1;
    const block = element("div", "", "stage");
    const line = element("p");
    line.append(element("span", name), element("span", `p50 ${ms(stage.p50_ms)}  p90 ${ms(stage.p90_ms)}  p99 ${ms(stage.p99_ms)} ms`, "times"));
    const chart = svg("svg", { viewBox: `0 0 ${counts.length * 10} 40`, preserveAspectRatio: "none", role: "img", "aria-label": `${name}: half of the frames within ${ms(stage.p50_ms)} milliseconds, 99 percent within ${ms(stage.p99_ms)}` });
    counts.forEach((count, at) => {
      const height = count ? Math.max(2, (38 * count) / total) : 0;
      chart.append(svg("rect", { class: "rail", x: at * 10 + 0.5, y: 39, width: 9, height: 1 }));
      chart.append(svg("rect", { class: "bar", x: at * 10 + 0.5, y: 39 - height, width: 9, height }));
    });
    block.append(line, chart);
    return block;
  });
  const scale = element("div", "", "scale");
  scale.setAttribute("aria-hidden", "true");
  const ends = [first ? bounds[first - 1] : 0, bounds[Math.floor((first + last) / 2)], bounds[Math.min(last, bounds.length - 1)]];
  scale.append(...ends.map((bound) => element("span", `${bound} ms`)));
  byId("stages").replaceChildren(...blocks, scale);
}

const STATES = { live: "delivers", lost: "lost", ended: "given up", opening: "is being opened" };

function renderCameras(cameras) {
  byId("cameras-card").hidden = cameras.every((one) => one.state === "file");
  const blocks = cameras.filter((one) => one.state !== "file").map((one) => {
    const block = element("div", "", "camera");
    const title = element("h3");
    title.append(element("span", "", `dot ${one.state}`), element("span", one.title), element("span", STATES[one.state] || one.state, "state"));
    const facts = element("dl", "", "facts");
    const rows = {
      "Picture": one.size[0] ? `${one.size[0]} × ${one.size[1]}` : "none yet",
      "Frames": `${number(one.captured)} captured, ${number(one.frames)} looked at, ${number(one.dropped)} dropped`,
      "Left out": one.skipped || one.stale ? `${number(one.skipped)} by choice, ${number(one.stale)} stale` : "",
      "Not recorded": one.left_out ? `${number(one.left_out)}: the encoder has no time for them` : "",
      "Age": one.age ? `half within ${ms(one.age.p50_ms)} ms, 99 % within ${ms(one.age.p99_ms)} ms` : "",
      "Gaps": one.gaps ? `${number(one.gaps)}, ${duration(one.gap_s)} in all` : "none",
    };
    fillFacts(facts, rows);
    block.append(title, ...(one.reason ? [element("p", one.reason, "reason")] : []), facts);
    return block;
  });
  byId("cameras").replaceChildren(...blocks);
}

function fillFacts(list, rows) {
  list.replaceChildren();
  for (const [name, value] of Object.entries(rows)) if (value !== "") list.append(element("dt", name), element("dd", value));
}

// --- the model --------------------------------------------------------------------------------------------------------

function shown(value) {
  if (value === null) return "–";
  if (Array.isArray(value)) return value.map(shown).join(", ");
  if (typeof value === "object") return Object.entries(value).map(([name, item]) => `${name} ${shown(item)}`).join(", ");
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(4)));
  return String(value);
}

function verdictOf(gate) {
  if (!gate || !gate.verdict) return "";
  const figure = gate.value === undefined || gate.value === null ? "" : `: ${gate.figure} ${shown(gate.value)}, required ${shown(gate.required)}`;
  return `Accuracy gate ${gate.verdict.toLowerCase()}${figure}${gate.images ? `, ${gate.images} images` : ""}`;
}

async function loadModel() {
  const answer = await fetch("/model.json").catch(() => null);
  if (!answer || !answer.ok) return;
  const { report, classes, ...facts } = await answer.json();
  const names = classes.slice(0, 12).join(", ") + (classes.length > 12 ? ", …" : "");
  fillFacts(byId("model"), { ...Object.fromEntries(Object.entries(facts).map(([name, value]) => [name, shown(value)])), classes: `${classes.length}: ${names}` });
  const verdict = verdictOf(report.gate);
  byId("verdict").hidden = !verdict;
  byId("verdict").textContent = verdict;
  byId("verdict").className = report.gate && report.gate.verdict !== "PASSED" ? "bad" : "";
  byId("report").replaceChildren(...Object.entries(report).flatMap(([name, value]) => {
    const list = element("dl", "", "facts");
    const nested = value !== null && typeof value === "object" && !Array.isArray(value);
    fillFacts(list, Object.fromEntries(Object.entries(nested ? value : { [name]: value }).map(([key, item]) => [key, shown(item)])));
    return nested ? [element("h3", name), list] : [list];
  }));
  byId("report").parentElement.hidden = !Object.keys(report).length;
}

// --- the threshold ----------------------------------------------------------------------------------------------------

function setSlider(score) {
  byId("score").value = score;
  byId("score-value").textContent = Number(score).toFixed(2);
}

let scoreTimer = 0;
function slide() {
  state.slidAt = Date.now();
  byId("score-value").textContent = Number(byId("score").value).toFixed(2);
  if (!scoreTimer) scoreTimer = setTimeout(sendScore, SCORE_EVERY_MS);
}

async function sendScore() {
  scoreTimer = 0;
  const answer = await fetch("/score", { method: "POST", body: new URLSearchParams({ score: byId("score").value }) }).catch(() => null);
  const mayLook = answer && answer.status === 403;
  byId("score").disabled = mayLook;
  byId("score-help").textContent = answer && answer.ok ? HELP : mayLook ? "Your token lets you look and change nothing." : "The board did not take this threshold.";
}
const HELP = byId("score-help").textContent;

// --- begin, and stand back while nobody looks -------------------------------------------------------------------------

function watch() {
  if (document.hidden) {
    if (state.abort) state.abort.abort();
    if (state.events) state.events.close();
    return;
  }
  watchPictures();
  watchFigures();
}

byId("score").addEventListener("input", slide);
document.addEventListener("visibilitychange", watch);
setInterval(() => !document.hidden && showLink(), 1000);
watch();
