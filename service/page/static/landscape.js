/** All items of the page against the scores of normals. */

import { scoreChart } from "./charts.js";
import { byId, throttle } from "./dom.js";
import { number, oneIn } from "./format.js";
import { all, selectedItem, tally, verdictOf } from "./items.js";
import { alpha, on, state } from "./state.js";

const REDRAW_MS = 400;

export function showLandscape() {
  for (const change of ["items", "selected"]) on(change, throttle(draw, REDRAW_MS));
  on("alpha", draw);
  on("model", draw);
}

function draw() {
  const { calibration } = state;
  if (!calibration || !all().length) return;
  const scores = [];
  for (const item of all()) {
    const verdict = verdictOf(item);
    if (verdict) scores.push({ score: item.result.score, isAnomaly: verdict.isAnomaly });
  }
  const picked = selectedItem();
  const verdict = picked && verdictOf(picked);
  const threshold = calibration.verdict.thresholds[state.alphaIndex];
  const n = tally();
  byId("landscape").replaceChildren(scoreChart({
    histogram: calibration.verdict.histogram,
    threshold,
    scores,
    marked: verdict ? { score: picked.result.score, isAnomaly: verdict.isAnomaly } : null,
    label: `Scores: ${n.anomaly} of ${n.all} items lie above the threshold ${number(threshold)}, which ${oneIn(alpha())} normal items passes`,
  }));
}
