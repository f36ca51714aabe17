// The figures of the moment: tiles, classes, latency by stage, the cameras' health.

import { byId, duration, element, fillFacts, ms, number, setText, svg } from "./dom.js";

export function renderFigures(status, camera) {
  byId("subject").textContent = camera.title;
  document.title = `${camera.title} – edgedet`;
  renderTiles(status, camera);
  renderClasses(camera);
  renderStages(status.stages, status.bounds_ms);
  renderCameras(status.cameras);
  byId("uptime").textContent = `Running for ${duration(status.uptime_s)}, ${status.viewers} open ${status.viewers === 1 ? "stream" : "streams"}`;
}

function tile(id, value, unit, more) {
  byId(id).replaceChildren(value, element("span", unit, "unit"));
  byId(`${id}-more`).textContent = more || "\u00a0";
}

function renderTiles(status, camera) {
  tile("fps", number(camera.fps, 1), "", `${number(camera.frames)} frames in all`);
  const latency = Object.values(status.stages).reduce((sum, stage) => sum + stage.p50_ms, 0);
  byId("age-title").textContent = camera.age ? "Frame age" : "Latency";
  if (camera.age) tile("age", ms(camera.age.p50_ms), "ms", `99 % within ${ms(camera.age.p99_ms)} ms`);
  else tile("age", camera.frames ? ms(latency) : "–", camera.frames ? "ms" : "", "all stages, half of the frames");
  const dropped = camera.captured === undefined ? 0 : camera.dropped;
  tile("dropped", number(dropped), camera.captured ? `${number((100 * dropped) / camera.captured, 1)} %` : "", camera.captured ? `of ${number(camera.captured)} captured` : camera.state === "file" ? "a file: every frame is used" : "none captured yet");
  const boxes = Object.values(camera.now).reduce((sum, count) => sum + count, 0);
  tile("found", number(boxes), "", Object.entries(camera.now).map(([name, count]) => (count === boxes ? name : `${count} ${name}`)).join(", ") || "nothing");
}

// Objects since the start where they are followed, else boxes.
function renderClasses(camera) {
  const counts = camera.objects || camera.total;
  setText("classes-note", camera.objects ? "An object counts once, however long it stays." : "A box in each frame counts: one person for a minute is many.");
  setText("since-start", `${camera.objects ? "Objects" : "Boxes"} since start`);
  const names = [...new Set([...Object.keys(counts), ...Object.keys(camera.now)])].sort((a, b) => (counts[b] || 0) - (counts[a] || 0));
  const rows = names.map((name) => {
    const row = element("tr");
    row.append(element("td", name), element("td", number(camera.now[name] || 0), "number"), element("td", number(counts[name] || 0), "number"));
    return row;
  });
  if (!rows.length) {
    const row = element("tr");
    row.append(element("td", "Nothing found yet"), element("td"), element("td"));
    rows.push(row);
  }
  byId("classes").tBodies[0].replaceChildren(...rows);
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
  byId("cameras-card").hidden = cameras.every((camera) => camera.state === "file");
  const blocks = cameras.filter((camera) => camera.state !== "file").map((camera) => {
    const block = element("div", "", "camera");
    const title = element("h3");
    title.append(element("span", "", `dot ${camera.state}`), element("span", camera.title), element("span", STATES[camera.state] || camera.state, "state"));
    const facts = element("dl", "", "facts");
    const rows = {
      "Picture": camera.size[0] ? `${camera.size[0]} × ${camera.size[1]}` : "none yet",
      "Frames": `${number(camera.captured)} captured, ${number(camera.frames)} looked at, ${number(camera.dropped)} dropped`,
      "Left out": camera.skipped || camera.stale ? `${number(camera.skipped)} by choice, ${number(camera.stale)} stale` : "",
      "Not recorded": camera.left_out ? `${number(camera.left_out)}: the encoder has no time for them` : "",
      "Age": camera.age ? `half within ${ms(camera.age.p50_ms)} ms, 99 % within ${ms(camera.age.p99_ms)} ms` : "",
      "Gaps": camera.gaps ? `${number(camera.gaps)}, ${duration(camera.gap_s)} in all` : "none",
    };
    fillFacts(facts, rows);
    block.append(title, ...(camera.reason ? [element("p", camera.reason, "reason")] : []), facts);
    return block;
  });
  byId("cameras").replaceChildren(...blocks);
}

