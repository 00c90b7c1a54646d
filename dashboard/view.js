// Elements made of values. Everything that comes from elsewhere becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : String(child))));
  return element;
}

// h("p", {class: "muted"}, "text", child, ...)
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

export function card(title, aside, ...children) {
  return h("section", {class: "card"}, title && h("header", null, h("h2", null, title), aside), ...children);
}

export const empty = (what, advice) => h("div", {class: "empty"}, h("p", null, what), advice && h("p", {class: "small"}, advice));

export function note(kind, ...children) {
  return h("div", {class: `note ${kind}`, role: kind === "bad" ? "alert" : undefined}, ...children);
}

const KINDS = {
  running: "good", healthy: "good", succeeded: "good", starting: "busy", stopping: "warn", draining: "warn",
  suspect: "warn", stopped: "idle", pending: "idle", gone: "idle", cancelled: "idle", failed: "bad", error: "bad", warning: "warn",
};
export function state(name, word = name) {
  return h("span", {class: `state ${KINDS[name] ?? ""}`}, h("span", {class: "dot", "aria-hidden": "true"}), h("span", {class: "word"}, word));
}

// A bar with its value as text for those who do not see it; `mark` is a second value, as a line.
export function bar(share, label, {over = false, mark} = {}) {
  const percent = (value) => `${Math.max(0, Math.min(1, value || 0)) * 100}%`;
  return h("span", {class: "bar", role: "img", "aria-label": label, title: label},
    h("i", {class: over ? "over" : undefined, style: {width: percent(share)}}),
    mark > 0 && h("b", {style: {left: percent(mark)}}));
}

// columns: [{name, num, cell: (item) => child, wide, head}]; the cells know their column's name, which a narrow screen shows.
export function table(columns, {caption} = {}) {
  const body = h("tbody");
  const element = h("table", {class: "cards", "aria-label": caption},
    h("thead", null, h("tr", null, columns.map((c) => h("th", {class: c.num && "num", scope: "col"}, c.name)))), body);
  const row = (item) => h("tr", null, columns.map((c) => h(c.head ? "th" : "td",
    {class: [c.num && "num", c.wide && "wide"].filter(Boolean).join(" ") || undefined, "data-label": c.name, scope: c.head && "row"}, c.cell(item))));
  const known = new Map();
  // Rows whose item did not change stay as they are, with their focus.
  const update = (items, key) => {
    const fresh = items.map((item) => {
      const id = key(item), text = JSON.stringify(item), old = known.get(id);
      if (old?.text === text && !old.moves) return [id, old];
      const hadFocus = old?.row.contains(document.activeElement);
      const entry = {text, row: row(item), moves: item.moves};
      if (hadFocus) queueMicrotask(() => entry.row.querySelector("a, button")?.focus());
      return [id, entry];
    });
    known.clear();
    for (const [id, entry] of fresh) known.set(id, entry);
    const rows = [...known.values()].map((entry) => entry.row);
    const same = rows.length === body.children.length && rows.every((r, i) => r === body.children[i]);
    if (!same) body.replaceChildren(...rows);
  };
  return {element: h("div", {class: "scroll"}, element), update};
}

// Shows `item` in `place` when it is not there already.
export function show(place, ...items) {
  place.replaceChildren(...items.flat().filter(Boolean));
}

// One question before something is done. True: go on.
export function confirm(title, text, yes) {
  const dialog = document.getElementById("ask");
  document.getElementById("ask-title").textContent = title;
  document.getElementById("ask-text").textContent = text;
  document.getElementById("ask-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), {once: true}));
}
