// The connection to the board: the state twice a second by /events, and what is said where it breaks.

import { byId, duration, setText } from "./dom.js";
import { GRID, cameraLookedAt } from "./view.js";

const RETRY_MS = 1000; // between two tries to reach the board
const SILENT_S = 3; // a camera without a frame for so long is told of
const LOST_MS = 4000; // without an event for so long (there are two a second) the board is taken for gone

const link = { status: null, events: null, ended: false, heardAt: 0 };

// Calls take(status, isNew) for each state; isNew where another run may have begun, or the board was lost.
export function watchStates(take) {
  stopStates();
  const events = (link.events = new EventSource("/events"));
  events.onmessage = (event) => {
    const isNew = link.status === null || link.ended || document.body.dataset.link === "offline";
    link.heardAt = Date.now();
    link.ended = false;
    link.status = JSON.parse(event.data);
    take(link.status, isNew);
  };
  events.addEventListener("end", () => {
    link.ended = true;
    events.close();
    showLink();
    setTimeout(() => reconnect(take), RETRY_MS);
  });
  events.onerror = () => {
    if (events.readyState === EventSource.CLOSED && !link.ended) setTimeout(() => reconnect(take), RETRY_MS);
    showLink();
  };
}

export function stopStates() {
  if (link.events) link.events.close();
}

// An EventSource gives up where the answer is an error: too many viewers, or a token that no longer holds.
async function reconnect(take) {
  if (document.hidden) return;
  const answer = await fetch("/viewer.json").catch(() => null);
  if (answer && answer.status === 401) location.reload(); // to the page that asks for the token
  else watchStates(take);
}

const sentence = (text) => (/[.?!]$/.test(text) ? text : `${text}.`);

// [what the page looks like, the badge, the notice over the picture]
function trouble() {
  if (link.ended) return ["offline", "Run ended", "The run has ended. Waiting for the next one."];
  if (!link.heardAt) return ["connecting", "Connecting", "Connecting to the board"];
  if (Date.now() - link.heardAt > LOST_MS || link.events.readyState !== EventSource.OPEN)
    return ["offline", "Disconnected", `No connection to the board since ${new Date(link.heardAt).toLocaleTimeString()}. Trying again.`];
  const { cameras } = link.status;
  const shown = cameraLookedAt(cameras);
  if (shown === GRID) {
    const silent = cameras.filter((camera) => camera.state !== "live" || camera.silent_s > SILENT_S).length;
    return silent ? ["partly", `${silent} of ${cameras.length} silent`, ""] : ["live", "Live", ""];
  }
  if (shown.state === "lost" || shown.state === "ended")
    return ["stale", `Camera ${shown.state}`, `${shown.title}: ${sentence(shown.reason || shown.state)} ${shown.state === "lost" ? "Opening it again." : ""}`];
  if (!shown.frames) return ["stale", "Waiting", "Waiting for the first frame"];
  if (shown.silent_s > SILENT_S) return ["stale", "No new frames", `No new frame for ${duration(shown.silent_s)}`];
  return ["live", "Live", ""];
}

export function showLink() {
  const [look, badge, notice] = trouble();
  document.body.dataset.link = look;
  setText("badge", badge);
  setText("notice", notice);
  byId("notice").hidden = !notice;
}
