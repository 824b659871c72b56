/** The verdict of an item at any alpha, from what the server said once: no request is needed for another alpha. */

/**
 * @typedef {object} Result what the server answered of an item
 * @property {number} score
 * @property {number} p_value
 * @property {number} [conditional_p_value]
 * @property {string | null} [group]
 * @property {string | null} fired
 * @property {Record<string, {value: number, p_value: number}>} scores
 * @typedef {{isAnomaly: boolean, severity: number | null, threshold: number | null, pValue: number}} Verdict
 */

const SAME = 1 + 1e-9; // p-values and alphas are both k / (n + 1), computed in two places

/**
 * @param {Result} result
 * @param {import("./state.js").Calibration} calibration
 * @param {number} alphaIndex
 * @returns {Verdict}
 */
export function decide(result, calibration, alphaIndex) {
  const pValue = calibration.guarantee === null ? result.p_value : result.conditional_p_value ?? result.p_value;
  const { median, threshold } = thresholdOf(calibration, alphaIndex, result.group);
  const resolves = threshold !== null && threshold > median;
  return {
    isAnomaly: pValue <= calibration.alphas[alphaIndex] * SAME,
    severity: resolves ? (result.score - median) / (threshold - median) : null,
    threshold,
    pValue,
  };
}

/** Median and threshold by which an item is judged: those of its group where that has its own. */
export function thresholdOf(calibration, alphaIndex, group = null) {
  const own = calibration.groups?.used[group ?? ""] ?? calibration.verdict;
  return { median: own.median, threshold: own.thresholds[alphaIndex] };
}
