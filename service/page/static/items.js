/**
 * What was dropped or pasted, and what the server said of it.
 *
 * @typedef {object} Item
 * @property {number} id
 * @property {"image" | "row" | "bulk" | "unread"} kind `bulk` is a file of many items that only the server opens
 * @property {string} name
 * @property {File} [file] of images and bulk files
 * @property {import("./records.js").Source} [source] of rows
 * @property {string} [row] the text of a row
 * @property {Item} [parent] the bulk file that an item came in
 * @property {"waiting" | "sending" | "done" | "failed"} state
 * @property {import("./decide.js").Result} [result]
 * @property {string} [version] of the model that scored it
 * @property {{message: string, canRetry: boolean, code: string}} [error]
 */

import { decide } from "./decide.js";
import { state, tell } from "./state.js";

export const MAX_ITEMS = 50_000;

const ORDERS = {
  odd: (a, b) => rankOf(b) - rankOf(a) || a.id - b.id,
  dropped: (a, b) => a.id - b.id,
  name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }) || a.id - b.id,
};

/** @type {Item[]} */
let items = [];
let lastId = 0;
/** @type {Item | null} */
let selected = null;

/** Every item, in the order in which they came. */
export function all() {
  return items;
}

export function selectedItem() {
  return selected;
}

/** @param {Item | null} item */
export function select(item) {
  selected = item;
  tell("selected");
}

/** Room that is left on the page. */
export function room() {
  return MAX_ITEMS - items.length;
}

/**
 * Take up new items.
 * @param {Partial<Item>[]} made
 * @returns {Item[]}
 */
export function add(made) {
  const added = made.map((one) => ({ state: "waiting", ...one, id: (lastId += 1) }));
  items = items.concat(added);
  tell("items");
  return added;
}

/** A file of many items was scored: put what is in it in its place. */
export function unfold(bulk, results, version) {
  const inside = results.slice(0, Math.max(0, room() + 1)).map((result, i) => {
    const name = result.name ?? `${bulk.name}, item ${i + 1}`;
    const item = { id: (lastId += 1), kind: "row", name, parent: bulk, state: "waiting" };
    return settle(item, result, version);
  });
  const place = items.indexOf(bulk);
  if (place >= 0) items.splice(place, 1, ...inside);
  tell("items");
}

/** Write down what the server said of an item. */
export function settle(item, result, version) {
  if (result.error) return fail(item, { ...result.error, canRetry: false });
  const { score, p_value, conditional_p_value, group, fired, scores } = result;
  item.result = { score, p_value, conditional_p_value, group, fired, scores };
  item.version = version;
  item.state = "done";
  item.error = undefined;
  return item;
}

/** Write down that an item could not be scored. */
export function fail(item, { message, code = "", canRetry }) {
  item.state = "failed";
  item.result = undefined;
  item.error = { message, code, canRetry };
  return item;
}

/** Forget everything. */
export function clear() {
  items = [];
  select(null);
  tell("items");
}

/** As they came in, with nothing of what a server said: what another model is to be asked. */
export function unscored() {
  const fresh = new Set(items.map((item) => item.parent ?? item));
  items = [...fresh];
  for (const item of items) {
    if (item.kind !== "unread") Object.assign(item, { state: "waiting", result: undefined, error: undefined });
  }
  select(null);
  tell("items");
  return items.filter((item) => item.kind !== "unread");
}

/** The verdict of an item at the alpha of the slider, null without one. */
export function verdictOf(item) {
  if (!item.result || !state.calibration) return null;
  return decide(item.result, state.calibration, state.alphaIndex);
}

/** @returns {"anomaly" | "normal" | "failed" | "waiting"} */
export function kindOf(item) {
  if (item.state === "failed") return "failed";
  const verdict = verdictOf(item);
  if (!verdict) return "waiting";
  return verdict.isAnomaly ? "anomaly" : "normal";
}

/** How many there are of each kind. */
export function tally() {
  const counts = { all: items.length, anomaly: 0, normal: 0, failed: 0, waiting: 0 };
  for (const item of items) counts[kindOf(item)] += 1;
  return counts;
}

/**
 * The items to show.
 * @param {"all" | "anomaly" | "normal" | "failed"} filter
 * @param {keyof typeof ORDERS} order
 */
export function view(filter, order) {
  const shown = filter === "all" ? [...items] : items.filter((item) => kindOf(item) === filter);
  return shown.sort(ORDERS[order]);
}

/** Anomalies by their severity, then what failed, then normal items, then those that wait. */
function rankOf(item) {
  const verdict = verdictOf(item);
  if (!verdict) return item.state === "failed" ? 0 : -2e9;
  const severity = verdict.severity ?? 1 - verdict.pValue;
  return verdict.isAnomaly ? 1e9 + severity : -1e9 + severity;
}
