// The live picture: one camera large, or all of them side by side, and the choice between them.

import { byId, element, number } from "./dom.js";
import { clearPicture, drawPicture, watchPictures } from "./multipart.js";
import { GRID, cameraLookedAt, look } from "./view.js";

let abort = null;
let watched; // the address of the pictures that are shown; undefined before the first

export function stopPictures() {
  if (abort) abort.abort();
  watched = undefined;
}

// Shows what is looked at now; asks for nothing new where that has not changed.
export function renderLive(cameras) {
  const chosen = cameraLookedAt(cameras);
  renderPicker(cameras, chosen);
  renderGrid(cameras, chosen === GRID);
  document.body.dataset.view = chosen === GRID ? "grid" : "one";
  byId("screen").hidden = chosen === GRID;
  byId("snapshot").hidden = chosen === GRID;
  const query = chosen === GRID ? "" : `?camera=${encodeURIComponent(chosen.name)}`;
  byId("snapshot").href = `/snapshot.jpg${query}`;
  byId("stream-link").href = `/stream.mjpg${query}`;
  const address = chosen === GRID ? "/grid.mjpg" : `/stream.mjpg${query}`;
  if (address === watched) return;
  stopPictures();
  watched = address;
  abort = new AbortController();
  const { signal } = abort;
  if (chosen === GRID) watchPictures(address, signal, (blob, head) => drawPicture(gridCanvas(head), blob, signal));
  else {
    clearPicture(byId("picture")); // the other camera's last picture is none of this one
    watchPictures(address, signal, (blob) => drawPicture(byId("picture"), blob, signal));
  }
}

function gridCanvas(head) {
  return byId("grid").querySelectorAll("canvas")[Number(/camera: *(\d+)/i.exec(head)[1])];
}

// Lays out anew only where the cameras are others.
function isLaidOut(parent, cameras) {
  const names = cameras.map((camera) => camera.name).join("\n");
  const same = parent.dataset.names === names;
  parent.dataset.names = names;
  return same;
}

function renderPicker(cameras, chosen) {
  const picker = byId("picker");
  picker.hidden = cameras.length < 2;
  if (!isLaidOut(picker, cameras)) {
    picker.querySelectorAll("label").forEach((label) => label.remove());
    for (const [value, title, name] of [["", "All cameras", GRID], ...cameras.map((camera) => [camera.name, camera.title, camera.name])]) {
      const label = element("label");
      const input = element("input");
      Object.assign(input, { type: "radio", name: "camera", value });
      input.addEventListener("change", () => look(name));
      label.append(input, ...(name === GRID ? [] : [element("span", "", "dot")]), element("span", title));
      picker.append(label);
    }
  }
  picker.querySelectorAll("input").forEach((input, at) => (input.checked = at ? cameras[at - 1] === chosen : chosen === GRID));
  picker.querySelectorAll(".dot").forEach((dot, at) => (dot.className = `dot ${cameras[at].state}`));
}

function renderGrid(cameras, shown) {
  const grid = byId("grid");
  grid.hidden = !shown;
  if (!isLaidOut(grid, cameras)) {
    grid.replaceChildren(...cameras.map((camera) => {
      const tile = element("button", "", "preview");
      tile.type = "button";
      tile.title = "Enlarge";
      tile.addEventListener("click", () => look(camera.name));
      const canvas = element("canvas");
      Object.assign(canvas, { width: 480, height: 270 });
      canvas.setAttribute("aria-hidden", "true");
      const caption = element("span", "", "caption");
      caption.append(element("span", "", "dot"), element("span", camera.title, "name"), element("span", "", "rate"));
      tile.append(canvas, caption);
      return tile;
    }));
  }
  grid.querySelectorAll(".preview").forEach((tile, at) => {
    const camera = cameras[at];
    tile.classList.toggle("off", camera.state !== "live");
    tile.querySelector(".dot").className = `dot ${camera.state}`;
    const boxes = Object.values(camera.now).reduce((sum, count) => sum + count, 0);
    tile.querySelector(".rate").textContent = camera.state === "live" ? `${number(camera.fps, 1)} FPS, ${boxes} ${boxes === 1 ? "box" : "boxes"}` : camera.state;
  });
}
