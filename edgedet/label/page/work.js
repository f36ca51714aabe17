// The pictures and their boxes: from the server, and back to it after every change.

export const work = { pictures: [], classNames: [], labels: "", at: 0 };
const undone = []; // [picture, its boxes as JSON, whether it was done]
const MOST_UNDONE = 200;
let saving = Promise.resolve();

export async function loadWork() {
  const answer = await fetch("/work.json");
  if (!answer.ok) throw new Error("the program does not answer");
  const { pictures, class_names: classNames, labels } = await answer.json();
  Object.assign(work, { pictures, classNames, labels });
  work.at = Math.max(0, pictures.findIndex((picture) => !picture.done));
}

export const current = () => work.pictures[work.at];

// Call before a change, so that it can be undone.
export function remember() {
  const { boxes, done } = current();
  undone.push([work.at, JSON.stringify(boxes), done]);
  if (undone.length > MOST_UNDONE) undone.shift();
}

export function undo() {
  const last = undone.pop();
  if (!last) return false;
  work.at = last[0];
  current().boxes = JSON.parse(last[1]);
  current().done = last[2];
  return true;
}

// Sends a picture; one after the other, so that an earlier state never comes last.
export function save(trouble) {
  const at = work.at;
  const { boxes, done } = current();
  const body = JSON.stringify({ boxes, done });
  saving = saving.then(() => fetch(`/boxes/${at}`, { method: "POST", body })).then(
    (answer) => trouble(answer.ok ? "" : "The program did not take these boxes."),
    () => trouble("The program does not answer: what you do now is not kept. Is it still running?"),
  );
  return saving;
}

export async function finish() {
  await saving;
  return fetch("/finish", { method: "POST" });
}
