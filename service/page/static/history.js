/**
 * The latest records of the live stream. Their counts run from the start of the server; what happened between two is
 * their difference.
 *
 * @typedef {{edges: number[], counts: number[]}} Histogram counts between neighbouring edges, the last one beyond them
 */

const STEPS = 180; // seconds on the chart
const MINUTE = 60;
const DECILES = Array.from({ length: 11 }, (_, i) => i / 10);

/** @type {object[]} */
let kept = [];

/** Keep a record, and the others as long as the chart is. */
export function add(record) {
  kept.push(record);
  if (kept.length > STEPS + 1) kept.shift();
}

/** After a break counts may begin anew. */
export function reset() {
  kept = [];
}

/** The latest record, its model of that name, and the verdicts of the last minute. */
export function perMinute(name) {
  const record = kept.at(-1);
  const model = record?.models.find((one) => one.name === name) ?? record?.models[0];
  if (!model) return null;
  return { record, model, verdicts: between(kept.at(-1 - Math.min(MINUTE, kept.length - 1)), record, model.name) };
}

/** Verdicts second by second, as many as the chart has. */
export function perStep(name) {
  const steps = kept.slice(1).map((record, i) => between(kept[i], record, name));
  return [...Array.from({ length: STEPS - steps.length }, () => ({ normal: 0, anomaly: 0 })), ...steps];
}

/** p-values in ten equal parts. */
export function pValuesOf({ p_values: { edges, counts } }) {
  const parts = DECILES.slice(1).map(() => 0);
  for (let i = 0; i + 1 < edges.length; i += 1) {
    const place = Math.min(9, Math.floor(((edges[i] + edges[i + 1]) / 2) * 10));
    parts[place] += counts[i];
  }
  return { edges: DECILES, counts: parts };
}

/** Below what half and nearly all of the latest requests were answered, null without any. */
export function latencyOf(record) {
  const before = kept[0];
  const { edges } = record.latency_seconds;
  const counts = record.latency_seconds.counts.map((n, i) => n - (kept.length > 1 ? before.latency_seconds.counts[i] : 0));
  const total = counts.reduce((sum, n) => sum + n, 0);
  return total ? { half: below(0.5), most: below(0.99) } : null;

  function below(part) {
    let seen = 0;
    const place = counts.findIndex((n) => (seen += n) >= part * total);
    return place + 1 < edges.length ? `${Math.round(edges[place + 1] * 1e4) / 10} ms` : `more than ${edges.at(-1)} s`;
  }
}

function between(before, after, name) {
  const [first, last] = [before, after].map((record) => record.models.find((one) => one.name === name)?.items ?? { normal: 0, anomaly: 0 });
  return { normal: Math.max(0, last.normal - first.normal), anomaly: Math.max(0, last.anomaly - first.anomaly) };
}
