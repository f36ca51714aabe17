// Labelling: begins, and joins the picture, the list of boxes, and the keys.

import { byId, element, setText } from "./dom.js";
import { colourOf, draw, letMouseEdit, moved, nameOf } from "./drawing.js";
import { current, finish, loadWork, remember, save, undo, work } from "./work.js";

const BOXES_FOR_A_VERDICT = 50; // as the accuracy gate wants (edgedet/judge/gate/verdict.py)
const NEW_SHARE = 0.2; // of the picture, the side of a box that a key adds

let selected = -1;

function render() {
  const picture = current();
  draw(selected);
  byId("picture-title").textContent = `Picture ${work.at + 1} of ${work.pictures.length}: ${picture.file}${picture.done ? ", done" : ""}`;
  const done = work.pictures.filter((picture) => picture.done);
  const boxes = done.reduce((sum, picture) => sum + picture.boxes.filter((box) => box.accepted).length, 0);
  const progress = `${done.length} of ${work.pictures.length} pictures done, ${boxes} ${boxes === 1 ? "box" : "boxes"}; a verdict needs ${BOXES_FOR_A_VERDICT}`;
  setText("progress", progress);
  byId("bar").max = work.pictures.length;
  byId("bar").value = done.length;
  renderList(picture);
  if (selected >= 0) byId("class").value = picture.boxes[selected].class;
  byId("previous").disabled = work.at === 0;
  byId("next").disabled = work.at === work.pictures.length - 1;
}

function renderList(picture) {
  const list = byId("boxes");
  const hadFocus = list.contains(document.activeElement);
  list.replaceChildren(...picture.boxes.map((box, index) => {
    const item = element("li");
    const button = element("button");
    const swatch = element("span", "", "swatch");
    const more = element("span", box.accepted ? (box.score === null ? "yours" : "") : "suggestion", "more");
    button.type = "button";
    button.setAttribute("aria-pressed", index === selected);
    swatch.style.background = colourOf(box.class);
    button.append(swatch, nameOf(box), more);
    button.addEventListener("focus", () => selected !== index && select(index));
    button.addEventListener("click", () => select(index));
    item.append(button);
    return item;
  }));
  if (hadFocus && selected >= 0) list.querySelectorAll("button")[selected].focus();
}

function select(index) {
  selected = index;
  render();
}

function trouble(text) {
  byId("trouble").textContent = text;
  byId("trouble").hidden = !text;
}

// Changes the boxes by a function, keeps the change, and shows it.
function change(edit) {
  remember();
  edit(current());
  save(trouble);
  render();
}

function go(to) {
  if (to < 0 || to >= work.pictures.length) return;
  work.at = to;
  selected = -1;
  byId("boxes").scrollTop = 0;
  render();
}

function accept() {
  change((picture) => (picture.done = true));
  const left = work.pictures.findIndex((picture, at) => at > work.at && !picture.done);
  if (left >= 0) go(left);
  else if (work.at < work.pictures.length - 1) go(work.at + 1);
  else select(-1);
}

function remove() {
  if (selected < 0) return;
  const index = selected;
  selected = -1;
  change((picture) => picture.boxes.splice(index, 1));
}

function takeOrDrop() {
  if (selected >= 0) change((picture) => (picture.boxes[selected].accepted = !picture.boxes[selected].accepted));
}

function setClass(classId) {
  if (!work.classNames[classId]) return; // no class, or a number that COCO has not used
  byId("class").value = classId;
  if (selected >= 0) change((picture) => (picture.boxes[selected].class = classId));
}

function newBox(box) {
  return { box, class: Number(byId("class").value), score: null, accepted: true };
}

function add() {
  const { width, height } = current();
  const half = [(width * NEW_SHARE) / 2, (height * NEW_SHARE) / 2];
  change((picture) => {
    picture.boxes.push(newBox([width / 2 - half[0], height / 2 - half[1], width / 2 + half[0], height / 2 + half[1]]));
    selected = picture.boxes.length - 1;
  });
}

function nudge(dx, dy, resize) {
  if (selected < 0) return;
  const step = Math.max(1, current().width / 400);
  change((picture) => {
    const [x1, y1, x2, y2] = picture.boxes[selected].box;
    const size = [Math.min(Math.max(x2 + dx * step, x1 + 1), picture.width), Math.min(Math.max(y2 + dy * step, y1 + 1), picture.height)];
    picture.boxes[selected].box = resize ? [x1, y1, ...size] : moved([x1, y1, x2, y2], dx * step, dy * step);
    picture.boxes[selected].accepted = true;
  });
}

function undoLast() {
  if (!undo()) return;
  selected = -1;
  save(trouble);
  render();
}

letMouseEdit({
  selected: () => selected,
  select,
  begin: remember,
  add: (box) => {
    selected = current().boxes.push(newBox(box)) - 1;
    return selected;
  },
  change: (index, box) => {
    Object.assign(current().boxes[index], { box, accepted: true });
    draw(selected);
  },
  end: () => {
    save(trouble);
    render();
  },
  click: (index) => {
    if (index >= 0 && !current().boxes[index].accepted) takeOrDrop();
    else select(index);
  },
});

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const KEYS = { n: add, N: add, Delete: remove, Backspace: remove, PageUp: () => go(work.at - 1), PageDown: () => go(work.at + 1), Escape: () => select(-1) };

document.addEventListener("keydown", (event) => {
  const { key, target } = event;
  const onBox = byId("boxes").contains(target);
  const onControl = !onBox && target.closest("select, button");
  let act = null;
  if ((event.ctrlKey || event.metaKey) && key === "z") act = undoLast;
  else if (event.ctrlKey || event.metaKey || event.altKey || target.closest("select")) return;
  else if (key === "Enter" && !onControl) act = accept;
  else if (key === " " && !onControl) act = takeOrDrop;
  else if (ARROWS[key] && selected >= 0) act = () => nudge(...ARROWS[key], event.shiftKey);
  else if (/^[1-9]$/.test(key)) act = () => setClass(Number(key) - 1);
  else act = KEYS[key] || null;
  if (!act) return;
  event.preventDefault();
  act();
});

const BUTTONS = { previous: () => go(work.at - 1), next: () => go(work.at + 1), accept, add, take: takeOrDrop, remove, undo: undoLast };
for (const [id, act] of Object.entries(BUTTONS)) byId(id).addEventListener("click", act);
byId("class").addEventListener("change", () => setClass(Number(byId("class").value)));
byId("finish").addEventListener("click", async () => {
  const left = work.pictures.filter((picture) => !picture.done).length;
  await finish();
  document.querySelector("main").replaceChildren();
  byId("progress").textContent = `Written: ${work.labels}${left ? `; ${left} pictures are still to be done` : ""}. You may close this page.`;
  byId("finish").hidden = true;
});
addEventListener("resize", () => work.pictures.length && draw(selected));

loadWork().then(() => {
  byId("class").replaceChildren(...work.classNames.map((name, index) => new Option(index < 9 ? `${index + 1} ${name}` : name, index)).filter((_, index) => work.classNames[index]));
  render();
}, (error) => trouble(String(error.message)));
