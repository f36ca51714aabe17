// The last ten minutes as three plots, and as a table: frames a second, frame age, boxes. uPlot draws them.

import { byId, element, number } from "./dom.js";

const KEPT = 300; // steps of two seconds, as the board keeps
const SHOWN_S = 600;
const LEAST_S = 60; // of the time axis, in the first minute of a run
const MOST_LINES = 5; // classes or cameras; the plot says how many more there are
const TABLE_STEP_S = 60;
const HEIGHT_PX = 150;
const LINES = ["--accent", "--line-2", "--line-3", "--line-4", "--line-5"];

const history = { startedAt: 0, cameras: new Map() }; // camera -> Map(seconds since the start -> row)
const plots = new Map(); // element's id -> {uplot, key}

const PLOTS = [
  ["history-fps", "Frames a second", ""],
  ["history-age", "Frame age", " ms"],
  ["history-boxes", "Boxes in a frame", ""],
];

function addRows(rows, columns) {
  columns.at_s.forEach((at, step) => {
    const boxes = Object.entries(columns.boxes).map(([name, values]) => [name, values[step]]);
    rows.set(at, { fps: columns.fps[step], age: columns.age_ms[step], longest: columns.longest_ms[step], boxes: new Map(boxes) });
  });
  for (const at of rows.keys()) {
    if (rows.size <= KEPT) break;
    rows.delete(at);
  }
}

// Asks the board for the whole history of each camera: at the start, and after a connection was lost.
export async function loadHistory(status) {
  history.startedAt = Date.now() / 1000 - status.uptime_s;
  history.cameras = new Map();
  for (const { name } of status.cameras) {
    const answer = await fetch(`/history.json?camera=${encodeURIComponent(name)}`).catch(() => null);
    if (!answer || !answer.ok) continue;
    const rows = new Map();
    addRows(rows, await answer.json());
    history.cameras.set(name, rows);
  }
}

// Takes the newest step of each camera from a state, and draws where there is a new one.
export function renderHistory(status, shown) {
  let news = false;
  for (const { name, latest } of status.cameras) {
    const rows = history.cameras.get(name);
    if (!rows || !latest.at_s.length || rows.has(latest.at_s[0])) continue;
    addRows(rows, latest);
    news = true;
  }
  const key = shown.map((camera) => camera.name).join("\n");
  if (!news && byId("history").dataset.key === key) return;
  byId("history").dataset.key = key;
  const steps = [...new Set(shown.flatMap((camera) => [...(history.cameras.get(camera.name)?.keys() || [])]))].sort((a, b) => a - b).slice(-KEPT);
  const [fps, age, boxes] = linesOf(shown, steps);
  const times = steps.map((at) => history.startedAt + at);
  const all = PLOTS.map((plot, at) => [...plot, times, [fps, age, boxes][at]]);
  for (const [id, , , , lines] of all) byId(id).parentElement.hidden = isEmpty(lines); // all of them before any is measured
  for (const plot of all) draw(...plot);
  renderTable(shown, steps);
}

const totalBoxes = (row) => [...row.boxes.values()].reduce((sum, count) => sum + count, 0);

// [[name, values], ...] of each plot: of one camera its classes, of several one line a camera.
function linesOf(shown, steps) {
  const values = (camera, pick) => steps.map((at) => {
    const row = history.cameras.get(camera.name)?.get(at);
    return row === undefined ? null : pick(row);
  });
  if (shown.length > 1) {
    const some = shown.slice(0, MOST_LINES);
    return [(row) => row.fps, (row) => row.age, (row) => (row.fps ? totalBoxes(row) : null)].map((pick) => some.map((camera) => [camera.title, values(camera, pick)]));
  }
  const [camera] = shown;
  const names = Object.keys(camera.total).sort((a, b) => camera.total[b] - camera.total[a]).slice(0, MOST_LINES);
  return [
    [["frames a second", values(camera, (row) => row.fps)]],
    [["mean", values(camera, (row) => row.age)], ["longest", values(camera, (row) => row.longest)]],
    names.map((name) => [name, values(camera, (row) => (row.fps ? row.boxes.get(name) || 0 : null))]),
  ];
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const isEmpty = (lines) => !lines.some(([, values]) => values.some((value) => value !== null));

function draw(id, title, unit, times, lines) {
  if (isEmpty(lines)) return;
  const place = byId(id);
  const data = [times, ...lines.map(([, values]) => values)];
  const key = lines.map(([name]) => name).join("\n");
  const plot = plots.get(id);
  if (plot && plot.key === key && plot.uplot.width === place.clientWidth) plot.uplot.setData(data);
  else {
    if (plot) plot.uplot.destroy();
    plots.set(id, { key, uplot: new uPlot(optionsOf(place, unit, lines), data, place) });
  }
  const { uplot } = plots.get(id);
  if (!(uplot.cursor.left >= 0)) showNewest(uplot); // while nobody points
  const known = lines[0][1].filter((value) => value !== null);
  const range = known.length ? `now ${number(known.at(-1), 1)}, least ${number(Math.min(...known), 1)}, most ${number(Math.max(...known), 1)}${unit}` : "nothing known";
  place.setAttribute("aria-label", `${title} over the last ten minutes, ${lines[0][0]}: ${range}`);
}

function showNewest(uplot) {
  uplot.setLegend({ idx: uplot.data[0].length - 1 });
}

function optionsOf(place, unit, lines) {
  const soft = colour("--soft");
  const axis = { stroke: soft, grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return {
    width: place.clientWidth,
    height: HEIGHT_PX,
    cursor: { sync: { key: "history" }, drag: { setScale: false }, y: false },
    hooks: { ready: [showNewest] },
    legend: { markers: { fill: (_, at) => colour(LINES[at - 1]) } },
    scales: { x: { range: (_, least, most) => [Math.max(most - SHOWN_S, Math.min(least, most - LEAST_S)), most] }, y: { range: (_, least, most) => [0, Math.max(1, most * 1.1)] } },
    axes: [{ ...axis, space: 70, values: (_, ticks) => ticks.map(clock) }, { ...axis, size: 44, space: 30 }],
    series: [
      {},
      ...lines.map(([label], at) => ({ label, stroke: colour(LINES[at]), width: 2, points: { show: false }, value: (_, value) => (value === null ? "–" : `${number(value, 1)}${unit}`) })),
    ],
  };
}

function clock(at) {
  return new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

// The same by the minute, for those who hear the page: rates and boxes of all cameras together, and their mean age.
function renderTable(shown, steps) {
  const minutes = new Map();
  for (const at of steps) {
    const minute = Math.floor((history.startedAt + at) / TABLE_STEP_S);
    const rows = shown.map((camera) => history.cameras.get(camera.name)?.get(at)).filter((row) => row !== undefined);
    minutes.set(minute, [...(minutes.get(minute) || []), rows]);
  }
  const mean = (values) => {
    const known = values.filter((value) => value !== null);
    return known.length ? number(known.reduce((sum, value) => sum + value, 0) / known.length, 1) : "–";
  };
  const sum = (rows, pick) => rows.reduce((total, row) => total + pick(row), 0);
  const lines = [...minutes].reverse().map(([minute, all]) => {
    const line = element("tr");
    const figures = [mean(all.map((rows) => sum(rows, (row) => row.fps))), mean(all.flatMap((rows) => rows.map((row) => row.age))), mean(all.map((rows) => sum(rows, totalBoxes)))];
    line.append(element("td", clock(minute * TABLE_STEP_S)), ...figures.map((figure) => element("td", figure, "number")));
    return line;
  });
  byId("history-table").tBodies[0].replaceChildren(...lines);
}

function redraw() {
  plots.forEach(({ uplot }) => uplot.destroy());
  plots.clear();
  delete byId("history").dataset.key; // the next state draws again
}

let width = 0;
new ResizeObserver(([{ contentRect }]) => {
  if (Math.abs(contentRect.width - width) > 1) redraw();
  width = contentRect.width;
}).observe(byId("history"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
