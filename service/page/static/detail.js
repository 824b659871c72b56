/** The selected item: its verdict against normals, why, and what would have been normal. */

import { scoreChart, severityBar } from "./charts.js";
import { thresholdOf } from "./decide.js";
import { byId, h, throttle } from "./dom.js";
import { canExplain, explanationOf, nearestOf } from "./explain.js";
import { number, oneIn } from "./format.js";
import { imageExplanation, imageFired, imageNearest } from "./image.js";
import { kindOf, selectedItem, verdictOf } from "./items.js";
import { rowExplanation, rowFired, rowNearest } from "./row.js";
import { alpha, on, state } from "./state.js";
import { retry } from "./upload.js";

const REST_MS = 150; // somebody who runs through the list with the arrow keys asks for nothing on the way

let drawn = null;
let looking = new AbortController();

export function showDetail() {
  const panel = byId("detail");
  on("selected", draw);
  on("model", draw);
  on("items", throttle(() => state.model && draw(), 200));
  on("alpha", judge);
  on("opened", () => {
    panel.classList.add("open");
    if (matchMedia("(max-width: 60rem)").matches) byId("detail-back").focus();
  });
  panel.addEventListener("keydown", (event) => event.key === "Escape" && back());
}

function back() {
  byId("detail").classList.remove("open");
  byId("items").querySelector("[aria-current=true]")?.focus();
}

/** The whole panel, unless the same item is there already. */
function draw() {
  const item = selectedItem();
  const now = item ? `${item.id} ${item.state} ${item.version} ${item.error?.message}` : "";
  if (now === drawn) return;
  drawn = now;
  looking.abort();
  looking = new AbortController();
  const panel = byId("detail");
  if (!item) {
    panel.classList.remove("open");
    panel.replaceChildren(h("p", { class: "hint empty" }, "Choose an item to see why it has its verdict."));
    return;
  }
  panel.replaceChildren(
    h("button", { type: "button", class: "quiet back", id: "detail-back", on: { click: back } }, "Back to the list"),
    h("h2", { class: "detail-name" }, item.name),
    h("div", { id: "judged", "aria-live": "polite" }),
    h("div", { id: "why" }),
    h("div", { id: "nearest" }),
    item.result ? allScores(item.result) : null,
  );
  judge();
  if (item.result) setTimeout(look, REST_MS, item, looking.signal);
}

/** Only what depends on alpha. */
function judge() {
  const item = selectedItem();
  const place = document.getElementById("judged");
  if (!item || !place) return;
  const verdict = verdictOf(item);
  if (!verdict) {
    place.replaceChildren(h("p", { class: `say-${kindOf(item)}` }, item.error?.message ?? "Waits to be scored."), again(item));
    return;
  }
  place.replaceChildren(...judgement(item, verdict));
  offerNearest(item, verdict);
}

function again(item) {
  if (!item.error?.canRetry) return "";
  return h("button", { type: "button", on: { click: () => retry([item]) } }, "Try again");
}

function judgement(item, verdict) {
  const { calibration, alphaIndex } = state;
  const { median, threshold } = thresholdOf(calibration, alphaIndex, item.result.group);
  const word = verdict.isAnomaly ? "Anomaly" : "Normal";
  const group = item.result.group ? ` Judged among ${calibration.groups?.by ?? "the group"} ${item.result.group}.` : "";
  const scale = verdict.severity === null
    ? `At this alpha no threshold can be told; ${number(calibration.alphas[0])} is the smallest that can.`
    : `Severity ${number(verdict.severity)}: 0 is the median of normals, 1 the threshold.`;
  return [
    h("p", { class: `verdict ${verdict.isAnomaly ? "is-odd" : "is-normal"}` },
      h("strong", {}, word), h("span", {}, `p-value ${number(verdict.pValue)}`),
      h("span", { class: "hint" }, verdict.pValue < 0.5 ? `${oneIn(verdict.pValue)} normal items looks as odd or odder` : "as ordinary as most")),
    h("div", { class: "gauge" }, severityBar(verdict.severity, verdict.isAnomaly), h("span", { class: "gauge-one", "aria-hidden": "true" }, "1")),
    h("p", { class: "hint" }, scale + group),
    scoreChart({
      histogram: calibration.verdict.histogram,
      threshold,
      marked: { score: item.result.score, isAnomaly: verdict.isAnomaly },
      label: `Score ${number(item.result.score)}; normals have a median of ${number(median)} and the threshold is ${number(threshold)}`,
    }),
  ];
}

/** Why first, which is quick, then the nearest normal of an anomaly. */
async function look(item, signal) {
  if (!signal.aborted) await explain(item, signal);
  if (!signal.aborted && canExplain(item) && verdictOf(item)?.isAnomaly) await seek(item);
}

async function explain(item, signal) {
  const place = byId("why");
  if (!canExplain(item)) {
    place.replaceChildren(h("p", { class: "hint" }, `To see why, drop this item by itself: ${item.parent.name} is opened by the server alone.`));
    return;
  }
  await fillIn(place, "Asking why", signal, () => explain(item, signal), async () => {
    const answer = await explanationOf(item, signal);
    if (!answer.explanation) return [];
    const isImage = state.model.kind === "image";
    const fired = answer.fired_explanation;
    return [
      ...(isImage ? imageExplanation(answer.explanation) : rowExplanation(answer.explanation)),
      ...(fired ? (isImage ? imageFired : rowFired)(fired, answer.fired) : []),
    ];
  });
  if (!signal.aborted) place.querySelector("#beside")?.append(byId("nearest")); // beside the image
}

/** Moving the slider asks the server nothing: for an item that it makes an anomaly there is a button. */
function offerNearest(item, verdict) {
  const place = byId("nearest");
  if (!verdict.isAnomaly) place.replaceChildren();
  else if (canExplain(item) && !place.hasChildNodes()) {
    place.replaceChildren(
      h("h3", {}, "What would be normal"),
      h("button", { type: "button", on: { click: () => seek(item) } }, "Find the nearest normal"),
    );
  }
}

async function seek(item) {
  const { signal } = looking;
  const place = byId("nearest");
  const rate = alpha();
  await fillIn(place, "Looking for the nearest normal", signal, () => seek(item), async () => {
    const { counterfactual } = await nearestOf(item, rate, signal);
    if (!counterfactual) return [];
    return state.model.kind === "image" ? imageNearest(counterfactual) : rowNearest(counterfactual);
  });
}

/** Show that something is asked for, then what came or why it did not. */
async function fillIn(place, words, signal, retryIt, make) {
  place.replaceChildren(h("p", { class: "hint working" }, `${words} …`));
  try {
    const parts = await make();
    if (!signal.aborted) place.replaceChildren(...parts);
  } catch (error) {
    if (signal.aborted) return;
    place.replaceChildren(h("p", { class: "problem" }, `${error.message}.`), h("button", { type: "button", on: { click: retryIt } }, "Try again"));
  }
}

function allScores({ scores, fired }) {
  const rows = Object.entries(scores).map(([name, { value, p_value }]) =>
    h("tr", { class: name === fired ? "is-fired" : null },
      h("th", { scope: "row" }, name), h("td", {}, number(value)), h("td", {}, state.calibration?.scores[name]?.unit ?? ""), h("td", {}, number(p_value))));
  return h("details", {}, h("summary", {}, "Every score"), h("table", { class: "plain" },
    h("thead", {}, h("tr", {}, ...["score", "value", "unit", "p-value"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, ...rows)));
}
