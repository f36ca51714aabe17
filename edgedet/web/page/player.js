// Plays the clips of an event, one after the other.

import { byId, element, setText } from "./dom.js";

const BEFORE_S = 5; // of the event, where its clip began much earlier because of another one

const video = byId("video");
let event = null;
let part = 0;

export function play(newEvent, title) {
  event = newEvent;
  setText("player-title", title);
  byId("parts").replaceChildren(...(event.clips.length > 1 ? event.clips.map((_, at) => partButton(at)) : []));
  byId("player").showModal();
  show(0);
}

function partButton(at) {
  const button = element("button", `Part ${at + 1}`);
  button.type = "button";
  button.addEventListener("click", () => show(at));
  return button;
}

function show(at) {
  part = at;
  const address = `/event-clip?id=${encodeURIComponent(event.id)}&part=${part}`;
  setText("video-trouble", "");
  byId("download").href = `${address}&download`;
  byId("parts").querySelectorAll("button").forEach((button, index) => button.setAttribute("aria-pressed", index === part));
  video.src = address;
  video.play().catch(() => {}); // where the browser does not begin by itself, its controls do
}

video.addEventListener("loadedmetadata", () => {
  if (part === 0) video.currentTime = Math.max(0, event.clip_from_s - BEFORE_S);
});
video.addEventListener("ended", () => part + 1 < event.clips.length && show(part + 1));
video.addEventListener("error", () => byId("player").open && setText("video-trouble", "This browser does not play the clip, or it is gone: try to download it."));
byId("close").addEventListener("click", () => byId("player").close());
byId("player").addEventListener("close", () => {
  video.removeAttribute("src");
  video.load(); // ends its connection to the board
});
