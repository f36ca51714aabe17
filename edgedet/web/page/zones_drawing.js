// Zones and lines over the picture: draws them, and lets mouse and keys move, make and remove their corners.

import { byId, svg } from "./dom.js";

const CORNER_PX = 6; // on the screen
const NAME_PX = 15;
const CLOSE_PX = 14; // as near to its first corner, a click closes a zone
const STEP = 0.0025; // of the picture, by a key
const FAR = 10; // steps, with Shift
const ARROW = 0.06; // of the picture's width
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const picture = byId("picture");
const size = { width: 640, height: 360 };
let image = null;

const within = (value) => Math.min(1, Math.max(0, value));
const inPixels = ([x, y]) => [x * size.width, y * size.height];
const listed = (points) => points.map((point) => inPixels(point).join()).join(" ");

// Loads a picture and shows it below the shapes; the promise says whether it could be had.
export function showPicture(address) {
  const loaded = new Image();
  return new Promise((resolve) => {
    loaded.onload = () => {
      Object.assign(size, { width: loaded.naturalWidth, height: loaded.naturalHeight });
      image = svg("image", { href: address, width: size.width, height: size.height });
      resolve(true);
    };
    loaded.onerror = () => resolve(false);
    loaded.src = address;
  });
}

export function draw({ places, selected, drawing, cross }) {
  const hadFocus = document.activeElement?.dataset?.corner;
  picture.setAttribute("viewBox", `0 0 ${size.width} ${size.height}`);
  picture.classList.toggle("drawing", drawing !== null);
  const unit = 1 / (picture.getScreenCTM()?.a || 1); // of the picture's pixels for one of the screen
  const shapes = places.map((place, at) => shapeOf(place, at, at === selected, unit));
  if (drawing) {
    shapes.push(svg("polyline", { class: "drawn", points: listed(drawing.points) }));
    drawing.points.forEach((point) => shapes.push(circle(point, unit)));
    const [x, y] = inPixels(cross);
    shapes.push(svg("path", { class: "cross", d: `M${x - 12 * unit} ${y}h${24 * unit}M${x} ${y - 12 * unit}v${24 * unit}` }));
  }
  picture.replaceChildren(...(image ? [image] : []), ...shapes);
  if (hadFocus !== undefined) picture.querySelector(`[data-corner="${hadFocus}"]`)?.focus();
}

const circle = (point, unit, more = {}) => svg("circle", { class: "corner", cx: inPixels(point)[0], cy: inPixels(point)[1], r: CORNER_PX * unit, ...more });

function shapeOf({ kind, name, points }, at, isSelected, unit) {
  const group = svg("g", { class: `place${isSelected ? " selected" : ""}`, "data-place": at });
  if (kind === "zone") group.append(svg("polygon", { class: "zone", points: listed(points) }));
  else group.append(svg("polyline", { class: "grip", points: listed(points) }), svg("polyline", { class: "line", points: listed(points) }), arrow(points, unit));
  const [x, y] = inPixels(points[0]);
  const text = svg("text", { class: "name", x: Math.min(x + 8 * unit, size.width - 90 * unit), y: Math.max(y - 8 * unit, NAME_PX * unit), "font-size": NAME_PX * unit, "stroke-width": 3 * unit });
  text.textContent = name;
  group.append(text);
  if (isSelected)
    points.forEach((point, corner) => {
      const where = point.map((share) => `${Math.round(100 * share)} %`).join(", ");
      group.append(circle(point, unit, { tabindex: 0, role: "button", "data-corner": corner, "aria-label": `Corner ${corner + 1} of ${name}: ${where}` }));
    });
  return group;
}

// From the middle of a line to its right, seen from its begin: there is forward.
function arrow([from, to], unit) {
  const [[x1, y1], [x2, y2]] = [inPixels(from), inPixels(to)];
  const length = Math.hypot(x2 - x1, y2 - y1) || 1;
  const [dx, dy] = [-(y2 - y1) / length, (x2 - x1) / length];
  const reach = ARROW * size.width;
  const [x, y] = [(x1 + x2) / 2 + dx * reach, (y1 + y2) / 2 + dy * reach];
  const head = 9 * unit;
  const side = (turn) => `M${x} ${y}l${(-dx - turn * dy) * head} ${(-dy + turn * dx) * head}`;
  return svg("path", { class: "arrow", d: `M${(x1 + x2) / 2} ${(y1 + y2) / 2}L${x} ${y}${side(1)}${side(-1)}` });
}

function pointOf(event) {
  const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
  return [within(x / size.width), within(y / size.height)];
}

// Moves all points by as much as keeps them in the picture.
function moved(points, dx, dy) {
  const room = (axis, by) => Math.min(Math.max(by, -Math.min(...points.map((point) => point[axis]))), 1 - Math.max(...points.map((point) => point[axis])));
  const [right, down] = [room(0, dx), room(1, dy)];
  return points.map(([x, y]) => [x + right, y + down]);
}

// act: what the page does on render, select, remember, changed, setPoint, finish, undo, stop.
export function letHandsEdit(state, act) {
  let drag = null;

  function closes(event) {
    const [first] = state.drawing.points;
    if (state.drawing.kind !== "zone" || state.drawing.points.length < 3) return false;
    const { x, y } = new DOMPoint(...inPixels(first)).matrixTransform(picture.getScreenCTM());
    return Math.hypot(event.clientX - x, event.clientY - y) < CLOSE_PX;
  }

  picture.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !state.mayChange) return;
    event.preventDefault();
    picture.focus({ preventScroll: true });
    if (state.drawing) return closes(event) ? act.finish() : act.setPoint(pointOf(event));
    const place = event.target.closest("[data-place]");
    if (!place) return act.select(-1);
    const at = Number(place.dataset.place);
    const { corner } = event.target.dataset;
    picture.setPointerCapture(event.pointerId);
    drag = { at, corner, from: pointOf(event), points: state.places[at].points, begun: false };
    act.select(at);
    if (corner !== undefined) picture.querySelector(`[data-corner="${corner}"]`).focus();
  });
  picture.addEventListener("pointermove", (event) => {
    if (state.drawing) {
      state.cross = pointOf(event);
      draw(state);
    }
    if (!drag) return;
    if (!drag.begun) act.remember();
    drag.begun = true;
    const [x, y] = pointOf(event);
    const place = state.places[drag.at];
    if (drag.corner === undefined) place.points = moved(drag.points, x - drag.from[0], y - drag.from[1]);
    else place.points = drag.points.map((point, corner) => (corner === Number(drag.corner) ? [x, y] : point));
    draw(state);
  });
  const end = () => {
    if (drag?.begun) act.changed();
    drag = null;
  };
  picture.addEventListener("pointerup", end);
  picture.addEventListener("pointercancel", end);

  function keyWhileDrawing(event) {
    const step = (event.shiftKey ? FAR : 1) * STEP;
    if (ARROWS[event.key]) {
      state.cross = state.cross.map((value, axis) => within(value + ARROWS[event.key][axis] * step));
      draw(state);
    } else if (event.key === " ") act.setPoint([...state.cross]);
    else if (event.key === "Enter") act.finish();
    else return false;
    return true;
  }

  function keyAtCorner(event, corner) {
    const place = state.places[state.selected];
    const step = (event.shiftKey ? FAR : 1) * STEP;
    const least = place.kind === "zone" ? 3 : 2;
    if (ARROWS[event.key]) {
      act.remember();
      place.points = place.points.map((point, at) => (at === corner ? point.map((value, axis) => within(value + ARROWS[event.key][axis] * step)) : point));
    } else if (event.key === "+" && place.kind === "zone") {
      act.remember();
      const [next, here] = [place.points[(corner + 1) % place.points.length], place.points[corner]];
      place.points = place.points.toSpliced(corner + 1, 0, here.map((value, axis) => (value + next[axis]) / 2));
    } else if (["Delete", "Backspace"].includes(event.key) && place.points.length > least) {
      act.remember();
      place.points = place.points.toSpliced(corner, 1);
    } else return false;
    act.changed();
    return true;
  }

  document.addEventListener("keydown", (event) => {
    if (!state.mayChange || event.target.closest("input, select")) return;
    const { corner } = event.target.dataset;
    let taken = false;
    if ((event.ctrlKey || event.metaKey) && event.key === "z") taken = act.undo() || true;
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key === "Escape" && state.drawing) taken = act.stop() || true;
    else if (state.drawing && event.target === picture) taken = keyWhileDrawing(event);
    else if (corner !== undefined) taken = keyAtCorner(event, Number(corner));
    if (taken) event.preventDefault();
  });
}
