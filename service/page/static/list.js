/** The items as a list, a page at a time: only what is in view has elements, pictures and their memory. */

import { severityBar } from "./charts.js";
import { byId, h, s, setText, throttle } from "./dom.js";
import { count, short } from "./format.js";
import { all, kindOf, select, selectedItem, tally, verdictOf, view } from "./items.js";
import { on, tell } from "./state.js";
import { retry } from "./upload.js";

const PAGE = 60;
const REDRAW_MS = 200;
const FILTERS = { all: "All", anomaly: "Anomalies", normal: "Normal", failed: "Not scored" };
const MOVES = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
const WORDS = { anomaly: "Anomaly", normal: "Normal", failed: "Not scored", waiting: "Waiting" };

let filter = "all";
let page = 0;
/** @type {Map<number, HTMLElement>} rows in view by the id of their item */
let rows = new Map();
/** @type {import("./items.js").Item[]} */
let shown = [];

export function showList() {
  for (const name of Object.keys(FILTERS)) byId("filters").append(filterButton(name));
  byId("order").addEventListener("change", () => turn(0));
  byId("page-before").addEventListener("click", () => turn(page - 1));
  byId("page-after").addEventListener("click", () => turn(page + 1));
  byId("items").addEventListener("keydown", move);
  const redraw = throttle(draw, REDRAW_MS);
  on("items", redraw);
  on("selected", redraw);
  on("alpha", draw);
  on("model", draw);
}

function filterButton(name) {
  const button = h("button", { type: "button", id: `filter-${name}`, "aria-pressed": String(name === filter) });
  button.addEventListener("click", () => {
    filter = name;
    for (const one of byId("filters").children) one.setAttribute("aria-pressed", String(one === button));
    turn(0);
  });
  return button;
}

function turn(to) {
  page = to;
  draw();
  byId("items").scrollTop = 0;
}

function draw() {
  const n = tally();
  for (const [name, label] of Object.entries(FILTERS)) setText(byId(`filter-${name}`), `${label} ${count(n[name])}`);
  byId("filter-failed").hidden = !n.failed && filter !== "failed";
  shown = view(filter, byId("order").value);
  const pages = Math.max(1, Math.ceil(shown.length / PAGE));
  page = Math.min(Math.max(0, page), pages - 1);
  place(shown.slice(page * PAGE, (page + 1) * PAGE));
  byId("pages").hidden = pages < 2;
  byId("page-before").disabled = page === 0;
  byId("page-after").disabled = page === pages - 1;
  setText(byId("page-place"), `${page + 1} of ${pages}`);
  if (all().length && !selectedItem() && n.anomaly && !n.waiting) select(shown[0] ?? null);
}

/** Put the rows of these items into the list, those that were there with their focus. */
function place(items) {
  const list = byId("items");
  const focused = document.activeElement?.closest?.("#items li")?.dataset.id;
  const next = new Map();
  for (const item of items) next.set(item.id, rows.get(item.id) ?? row(item));
  for (const [id, gone] of rows) if (!next.has(id)) release(gone);
  rows = next;
  items.forEach((item) => update(rows.get(item.id), item));
  const ordered = [...rows.values()];
  if (ordered.some((one, i) => list.children[i] !== one) || list.children.length !== ordered.length) {
    list.replaceChildren(...ordered);
    if (focused) rows.get(Number(focused))?.querySelector("button")?.focus({ preventScroll: true });
  }
  const chosen = rows.has(selectedItem()?.id) ? selectedItem().id : items[0]?.id;
  for (const [id, one] of rows) one.querySelector("button").tabIndex = id === chosen ? 0 : -1;
}

function row(item) {
  const button = h("button", { type: "button", class: "item", on: { click: () => (select(item), tell("opened")) } },
    item.kind === "image" ? thumbnail(item) : null,
    mark(),
    h("span", { class: "item-name" }, item.name),
    h("span", { class: "item-say" }),
    item.row ? h("span", { class: "item-row" }, item.row.slice(0, 200)) : null,
  );
  return h("li", { "data-id": item.id }, button);
}

function update(element, item) {
  const kind = kindOf(item);
  const verdict = verdictOf(item);
  const button = element.querySelector("button.item");
  const state = `${kind} ${item.state} ${verdict?.severity} ${item.error?.message}`;
  button.setAttribute("aria-current", String(selectedItem() === item));
  if (element.dataset.state === state) return;
  element.dataset.state = state;
  element.className = `is-${kind}`;
  button.querySelector(".severity")?.remove();
  element.querySelector(".again")?.remove();
  const says = button.querySelector(".item-say");
  if (verdict) {
    const severity = verdict.severity === null ? "" : `, severity ${short(verdict.severity)}`;
    setText(says, `${WORDS[kind]}, p ${short(verdict.pValue)}${severity}`);
    button.append(severityBar(verdict.severity, verdict.isAnomaly));
  } else {
    setText(says, item.error?.message ?? (item.state === "sending" ? "Being scored" : WORDS.waiting));
  }
  if (item.error?.canRetry) {
    const again = () => retry([item]);
    element.append(h("button", { type: "button", class: "again small", "aria-label": `Try ${item.name} again`, on: { click: again } }, "Try again"));
  }
}

/** A form for each verdict, for whom colours do not tell apart. */
function mark() {
  return s("svg", { class: "item-mark", width: 16, height: 16, viewBox: "0 0 16 16", "aria-hidden": "true" },
    s("circle", { class: "mark-normal", cx: 8, cy: 8, r: 5 }),
    s("path", { class: "mark-anomaly", d: "M8 1l7 7-7 7-7-7z" }),
    s("path", { class: "mark-failed", d: "M8 2l6.500 12h-13z" }),
    s("circle", { class: "mark-waiting", cx: 8, cy: 8, r: 4.500 }));
}

function thumbnail(item) {
  const picture = h("img", { class: "thumb", alt: "", width: 48, height: 48, decoding: "async", src: URL.createObjectURL(item.file) });
  picture.addEventListener("error", () => picture.classList.add("unseen-picture"));
  return picture;
}

function release(element) {
  const picture = element.querySelector("img");
  if (picture) URL.revokeObjectURL(picture.src);
}

function move(event) {
  const step = MOVES[event.key];
  const id = Number(event.target.closest?.("li")?.dataset.id);
  if (step === undefined || !id) return;
  event.preventDefault();
  const from = shown.findIndex((item) => item.id === id);
  const to = Math.min(shown.length - 1, Math.max(0, from + step));
  if (Math.floor(to / PAGE) !== page) turn(Math.floor(to / PAGE));
  const button = rows.get(shown[to].id)?.querySelector("button.item");
  button?.focus();
  select(shown[to]);
}
