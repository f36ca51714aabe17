// The score threshold: the slider follows the board, and moves it where the viewer may.

import { byId, setText } from "./dom.js";

const SEND_EVERY_MS = 100; // while the slider moves
const HANDS_OFF_MS = 1500; // after the slider was moved, before what the board says moves it again
const HELP = byId("score-help").textContent;
const READ_ONLY = "Your token lets you look and change nothing.";

let slidAt = 0;
let timer = 0;

export function renderScore(score) {
  if (Date.now() - slidAt < HANDS_OFF_MS) return;
  byId("score").value = score;
  setText("score-value", Number(score).toFixed(2));
}

// The slider is shut until the board says that this viewer may move it.
export async function askWhetherMayChange() {
  const answer = await fetch("/viewer.json").catch(() => null);
  if (!answer || !answer.ok) return;
  const viewer = await answer.json();
  allow(viewer.may_change);
  byId("pages").hidden = !viewer.events;
  byId("to-zones").hidden = !viewer.zones;
}

function allow(mayChange) {
  byId("score").disabled = !mayChange;
  setText("score-help", mayChange ? HELP : READ_ONLY);
}

function slide() {
  slidAt = Date.now();
  setText("score-value", Number(byId("score").value).toFixed(2));
  if (!timer) timer = setTimeout(send, SEND_EVERY_MS);
}

async function send() {
  timer = 0;
  const answer = await fetch("/score", { method: "POST", body: new URLSearchParams({ score: byId("score").value }) }).catch(() => null);
  if (answer && (answer.ok || answer.status === 403)) allow(answer.ok);
  else setText("score-help", "The board did not take this threshold.");
}

byId("score").addEventListener("input", slide);
