// The timeline of a day: for each camera when events began, and the hours to choose from.

import { byId, element, number, setText, svg } from "./dom.js";

const HOUR_S = 3600;
const HEIGHT = 20;

const two = (value) => String(value).padStart(2, "0");
export const dayOf = (date) => `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;

function midnights(day) {
  const begin = new Date(`${day}T00:00`);
  const end = new Date(begin);
  end.setDate(end.getDate() + 1); // 23 or 25 hours later where clocks change
  return [begin / 1000, end / 1000];
}

// {from, to} in seconds since 1970: of a day, or of one of its hours.
export function spanOf(day, hour) {
  const [from, to] = midnights(day);
  return hour === "" ? { from, to } : { from: from + hour * HOUR_S, to: from + (Number(hour) + 1) * HOUR_S };
}

// chosen: {day, hour}; choose(hour) is called with the hour of a button, as text.
export function renderTimeline({ step_s: step, cameras }, { day, hour }, choose) {
  const [from, to] = midnights(day);
  const hours = Math.round((to - from) / HOUR_S);
  const byHour = new Array(hours).fill(0);
  for (const steps of Object.values(cameras)) for (const [at, count] of steps) byHour[Math.floor((at * step) / HOUR_S)] += count;
  const total = byHour.reduce((sum, count) => sum + count, 0);
  const shown = new Date(from * 1000).toLocaleDateString([], { weekday: "long", day: "numeric", month: "long", year: "numeric" });
  setText("day-title", `${shown}: ${number(total)} ${total === 1 ? "event" : "events"}`);

  const width = (to - from) / step;
  const most = Math.max(1, ...Object.values(cameras).flat().map(([, count]) => count));
  const rows = Object.entries(cameras).flatMap(([name, steps]) => {
    const sum = steps.reduce((all, [, count]) => all + count, 0);
    const chart = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${name || "video"}: ${number(sum)} events` });
    if (hour !== "") chart.append(svg("rect", { class: "chosen", x: (hour * HOUR_S) / step, y: 0, width: HOUR_S / step, height: HEIGHT }));
    for (const [at, count] of steps) {
      const height = Math.max(4, (HEIGHT * count) / most);
      chart.append(svg("rect", { class: "bar", x: at, y: HEIGHT - height, width: 1, height }));
    }
    return [element("span", name || "video"), chart];
  });
  byId("timeline").replaceChildren(...rows);
  renderHours(byHour, from, hour, choose);
}

function renderHours(byHour, from, chosen, choose) {
  const group = byId("hours");
  while (group.children.length > byHour.length) group.lastChild.remove();
  byHour.forEach((count, at) => {
    const button = group.children[at] || group.appendChild(element("button"));
    const clock = new Date((from + at * HOUR_S) * 1000).getHours();
    button.type = "button";
    button.textContent = String(clock);
    button.className = count ? "some" : "";
    button.setAttribute("aria-pressed", String(at) === chosen);
    button.setAttribute("aria-label", `${clock}:00, ${number(count)} ${count === 1 ? "event" : "events"}`);
    button.onclick = () => choose(String(at));
  });
}
