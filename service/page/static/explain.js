/** Explanations of one item at a time, asked for when it is looked at, the latest ones kept. */

import { getJson } from "./api.js";
import { bodyOf } from "./records.js";
import { state } from "./state.js";

const KEPT = 24;
const TOP = 40;

/** @type {Map<string, object>} */
const kept = new Map();

/** Whether an item is at hand by itself: what came in a file that only the server opens is not. */
export function canExplain(item) {
  return item.kind === "image" || Boolean(item.source);
}

/**
 * Why an item has its score: `explanation` and `fired_explanation` of the server's answer.
 * @param {import("./items.js").Item} item
 * @param {AbortSignal} signal
 */
export function explanationOf(item, signal) {
  const top = item.source ? String(TOP) : null;
  return remembered(`why ${item.id} ${item.version}`, () => ask(item, { explain: "true", top }, signal));
}

/**
 * The nearest item that the model finds normal at this alpha.
 * @param {import("./items.js").Item} item
 * @param {number} alpha
 * @param {AbortSignal} signal
 */
export function nearestOf(item, alpha, signal) {
  const query = { counterfactual: "true", alpha: String(alpha) };
  return remembered(`nearest ${item.id} ${item.version} ${alpha}`, () => ask(item, query, signal));
}

async function ask(item, query, signal) {
  const { body, type } = item.source ? bodyOf(item.source, [item.row]) : { body: item.file, type: item.file.type };
  const all = { model: state.model.name, ...query };
  const answer = await getJson("/score", { method: "POST", body, type, query: all, signal });
  return answer.items[0];
}

/** The answer by `name`; one that failed is asked for again. */
async function remembered(name, make) {
  const known = kept.get(name);
  if (known) return known;
  const made = await make();
  kept.set(name, made);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  return made;
}
