/**
 * What the whole page shares, and who wants to know when it changes.
 *
 * @typedef {{name: string, version: string, kind: "table" | "image", alpha: number}} Model
 * @typedef {{edges: number[], counts: number[]}} Histogram
 * @typedef {{median: number, thresholds: (number | null)[]}} Thresholds
 * @typedef {object} Calibration
 * @property {{name: string, version: string}} model
 * @property {number} alpha
 * @property {number | null} guarantee
 * @property {number} n_calibration
 * @property {number[]} alphas rising
 * @property {Thresholds & {rule: string, histogram: Histogram}} verdict
 * @property {Record<string, Thresholds & {unit: string, histogram: Histogram}>} scores
 * @property {{by: string, used: Record<string, Thresholds & {n_calibration: number}>} | null} groups
 * @typedef {"models" | "model" | "alpha" | "items" | "selected" | "opened" | "key" | "locked" | "tab" | "version"} Change
 */

export const state = {
  /** @type {Model[]} */ models: [],
  /** Limits of the server; those of a server that does not tell are what it has by default. */
  limits: { max_body_bytes: 64 * 2 ** 20, max_rows: 100_000, max_files: 10_000 },
  /** @type {Model | null} */ model: null,
  /** @type {Calibration | null} */ calibration: null,
  /** Which of the calibration's alphas the slider stands on. */
  alphaIndex: 0,
};

/** @type {Map<Change, Set<(detail?: unknown) => void>>} */
const listeners = new Map();

/** @param {Change} change */
export function on(change, listener) {
  if (!listeners.has(change)) listeners.set(change, new Set());
  listeners.get(change).add(listener);
}

/** @param {Change} change */
export function tell(change, detail) {
  for (const listener of listeners.get(change) ?? []) listener(detail);
}

/** The false-alarm rate that the slider stands on. */
export function alpha() {
  return state.calibration?.alphas[state.alphaIndex] ?? null;
}

/** Stand on the largest alpha of the slider that is not above `wanted`. */
export function chooseAlpha(wanted) {
  const alphas = state.calibration?.alphas ?? [];
  state.alphaIndex = Math.max(0, alphas.findLastIndex((one) => one <= wanted * (1 + 1e-9)));
}
