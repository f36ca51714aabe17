// Boxes over the picture: draws them, and lets the mouse make, move and resize them.

import { byId, svg as make } from "./dom.js";
import { current, work } from "./work.js";

const svg = byId("picture");
const LEAST_PX = 3; // of a new box, on the screen: less is a click
const HANDLE_PX = 9;
const NAME_PX = 15;

export const colourOf = (classId) => `hsl(${Math.round((classId * 222.5) % 360)} 90% 60%)`;

export function nameOf(box) {
  const score = box.score === null ? "" : ` ${box.score.toFixed(2)}`;
  return `${work.classNames[box.class]}${score}`;
}

// Draws the picture and its boxes; the selected one has handles at its corners.
export function draw(selected) {
  const picture = current();
  const address = `/images/${work.at}`;
  svg.setAttribute("viewBox", `0 0 ${picture.width} ${picture.height}`);
  let image = svg.querySelector("image");
  if (!image || image.getAttribute("href") !== address) {
    image = make("image", { href: address, width: picture.width, height: picture.height });
  }
  const unit = 1 / (svg.getScreenCTM()?.a || 1); // pixels of the picture for one of the screen
  const shapes = [];
  picture.boxes.forEach((box, index) => {
    const [x1, y1, x2, y2] = box.box;
    const kind = `box${box.accepted ? "" : " suggested"}${index === selected ? " selected" : ""}`;
    shapes.push(make("rect", { class: kind, x: x1, y: y1, width: x2 - x1, height: y2 - y1, stroke: colourOf(box.class), "data-index": index }));
    if (box.accepted || index === selected) {
      const name = make("text", { class: "name", x: x1 + 3 * unit, y: Math.max(y1 - 4 * unit, NAME_PX * unit), "font-size": NAME_PX * unit, "stroke-width": 3 * unit });
      name.textContent = nameOf(box);
      shapes.push(name);
    }
  });
  if (selected >= 0) {
    const [x1, y1, x2, y2] = picture.boxes[selected].box;
    const size = HANDLE_PX * unit;
    for (const [corner, x, y] of [["00", x1, y1], ["20", x2, y1], ["02", x1, y2], ["22", x2, y2]])
      shapes.push(make("rect", { class: "handle", x: x - size / 2, y: y - size / 2, width: size, height: size, "data-corner": corner }));
  }
  svg.replaceChildren(image, ...shapes);
}

function pointOf(event) {
  const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const { width, height } = current();
  return [Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)];
}

export function moved([x1, y1, x2, y2], dx, dy) {
  const { width, height } = current();
  const right = Math.min(Math.max(dx, -x1), width - x2);
  const down = Math.min(Math.max(dy, -y1), height - y2);
  return [x1 + right, y1 + down, x2 + right, y2 + down];
}

const sorted = ([x1, y1, x2, y2]) => [Math.min(x1, x2), Math.min(y1, y2), Math.max(x1, x2), Math.max(y1, y2)];

// edit: begin() before a change, select(index), add(box) -> index, change(index, box), end(), click(index)
export function letMouseEdit(edit) {
  let drag = null;
  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    svg.setPointerCapture(event.pointerId);
    const { corner, index } = event.target.dataset;
    const at = [event.clientX, event.clientY];
    const selected = edit.selected();
    if (corner !== undefined) drag = { kind: "corner", corner: [...corner].map(Number), index: selected, box: [...current().boxes[selected].box] };
    else if (index !== undefined) drag = { kind: "move", index: Number(index), box: [...current().boxes[index].box] };
    else drag = { kind: "new", index: -1 };
    Object.assign(drag, { from: pointOf(event), at, begun: false });
    if (drag.index >= 0) edit.select(drag.index);
  });
  svg.addEventListener("pointermove", (event) => {
    if (!drag) return;
    if (!drag.begun && Math.hypot(event.clientX - drag.at[0], event.clientY - drag.at[1]) < LEAST_PX) return;
    const [x, y] = pointOf(event);
    if (!drag.begun) {
      edit.begin();
      drag.begun = true;
      if (drag.kind === "new") drag.index = edit.add([...drag.from, x, y]);
    }
    if (drag.kind === "new") edit.change(drag.index, sorted([...drag.from, x, y]));
    else if (drag.kind === "move") edit.change(drag.index, moved(drag.box, x - drag.from[0], y - drag.from[1]));
    else {
      const box = [...drag.box];
      box[drag.corner[0]] = x;
      box[drag.corner[1] + 1] = y; // a corner is [0 or 2, 0 or 2]: which x, which y
      edit.change(drag.index, sorted(box));
    }
  });
  const end = () => {
    if (drag && drag.begun) edit.end();
    else if (drag) edit.click(drag.index);
    drag = null;
  };
  svg.addEventListener("pointerup", end);
  svg.addEventListener("pointercancel", end);
}
