// Elements, and numbers as text. Used by every other file of the pages, and by the page of edgedet label.

export const byId = (id) => document.getElementById(id);

export function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function svg(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Sets a text only where it changes, so that screen readers do not say it again.
export function setText(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

export const number = (value, digits = 0) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const ms = (value) => (value < 10 ? number(value, 1) : number(value));

export function duration(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0 s";
  const parts = units.slice(first, first + 2).map(([unit, size], at) => {
    const count = Math.floor((at ? seconds % units[first][1] : seconds) / size);
    return `${count} ${unit}`;
  });
  return parts.join(" ");
}

// Rows are name -> text or element; an empty text leaves the row out.
export function fillFacts(list, rows) {
  list.replaceChildren();
  for (const [name, value] of Object.entries(rows)) {
    if (value === "") continue;
    const cell = element("dd");
    cell.append(value);
    list.append(element("dt", name), cell);
  }
}
