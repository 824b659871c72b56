/** All about the chosen model: what it is, how it was trained, what it promises, and whether the world has moved. */

import { getJson, request } from "./api.js";
import { pValueChart, scoreChart } from "./charts.js";
import { byId, h } from "./dom.js";
import { count, items, moment, number, oneIn, percent } from "./format.js";
import { reportFrame } from "./report.js";
import { alpha, on, state } from "./state.js";
import { openTab } from "./tabs.js";

let loading = new AbortController();

export function showModel() {
  on("tab", (name) => name === "model" && load());
  on("model", () => openTab() === "model" && load());
  on("alpha", () => document.getElementById("calibration-chart")?.replaceChildren(calibrationChart()));
}

async function load() {
  const panel = byId("model");
  if (!state.model) {
    panel.replaceChildren(h("p", { class: "hint empty" }, "No model is loaded."));
    return;
  }
  loading.abort();
  loading = new AbortController();
  const { signal } = loading;
  const path = `/models/${encodeURIComponent(state.model.name)}`;
  try {
    const [facts, drift] = await Promise.all([getJson(path, { signal }), getJson(`${path}/drift`, { signal })]);
    panel.replaceChildren(
      h("h1", {}, facts.name),
      h("p", { class: "hint" }, `version ${facts.version}, made ${moment(facts.created)}`),
      h("div", { class: "cards flowing" }, factsCard(facts), calibrationCard(facts), driftCard(drift), storeCard(facts), shadowCard(facts)),
      h("section", { class: "card", "aria-labelledby": "report-title" }, h("h2", { id: "report-title" }, "Training report"), h("div", { id: "report" })),
    );
    await showReport(path, signal);
  } catch (error) {
    if (signal.aborted) return;
    panel.replaceChildren(h("p", { class: "problem" }, `The model cannot be shown: ${error.message}.`), h("button", { type: "button", on: { click: load } }, "Try again"));
  }
}

async function showReport(path, signal) {
  const place = byId("report");
  try {
    const answer = await request(`${path}/report`, { signal });
    place.replaceChildren(reportFrame(await answer.text()));
  } catch (error) {
    if (signal.aborted) return;
    const words = error.status === 404 ? "This bundle holds no report: it was trained without one." : `${error.message}.`;
    place.replaceChildren(h("p", { class: "hint" }, words));
  }
}

function card(title, ...parts) {
  return h("section", { class: "card" }, h("h2", {}, title), ...parts);
}

function list(pairs) {
  return h("dl", { class: "facts" }, ...pairs.filter(([, value]) => value !== null && value !== "").flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function factsCard({ item, device, engine, training, detector, software }) {
  const isImage = item.kind === "image";
  const what = isImage ? `images, ${item.width} × ${item.height}, ${item.channels === 3 ? "colour" : "grey"}` : items(item.columns.length, "column");
  const views = (detector.models ?? []).map((one) => one.name).join(", ");
  return card("What it is", list([
    ["Scores", what],
    ["Models", views],
    ["Runs on", `${device}, ${engine.name}`],
    ...Object.entries(training).filter(([name, value]) => name !== "fingerprint" && ["string", "number"].includes(typeof value)).map(([name, value]) => [named(name), typeof value === "number" ? number(value) : value]),
    ["Made with", Object.entries(software).map((pair) => pair.join(" ")).join(", ")],
  ]), isImage ? "" : columnTable(item));
}

function named(name) {
  return name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
}

function columnTable({ columns }) {
  return h("details", {}, h("summary", {}, "Its columns"), h("div", { class: "sideways", tabindex: 0, role: "group", "aria-label": "Columns" },
    h("table", { class: "plain" }, h("tbody", {}, ...columns.map(({ name, kind, levels, nullable }) => h("tr", {},
      h("th", { scope: "row" }, name), h("td", {}, kind), h("td", {}, levels.length ? `${levels.slice(0, 6).join(", ")}${levels.length > 6 ? ", …" : ""}` : ""),
      h("td", {}, nullable ? "may be missing" : "")))))));
}

function calibrationCard(facts) {
  const { calibration } = state;
  const rate = facts.realised_rate;
  const rows = Object.entries(facts.scores).map(([name, { unit, threshold }]) =>
    h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, number(threshold)), h("td", {}, unit)));
  return card("What it promises", h("div", { id: "calibration-chart" }, calibrationChart()), list([
    ["Alarms", `on ${oneIn(facts.alpha)} normal items (alpha ${number(facts.alpha)})`],
    ["Realised rate", rate && `${percent(rate.low)} to ${percent(rate.high)}, with ${percent(rate.confidence)} confidence`],
    ["Guarantee", facts.guarantee === null ? null : `${percent(facts.guarantee)} confidence that the rate is not above alpha`],
    ["Ranked against", `${items(facts.n_calibration, "normal")} of the calibration`],
    ["Smallest alpha", number(facts.smallest_alpha)],
    ["Warning", facts.warning],
    ["Verdict", `${facts.verdict.rule}, threshold ${number(facts.verdict.threshold)}`],
    ["Groups", calibration.groups && `${calibration.groups.by}: ${Object.keys(calibration.groups.used).join(", ")}`],
    ["Held out", facts.rate_is_promised ? null : "no: the calibration items also trained the model, so the rate is no promise"],
  ]), h("details", {}, h("summary", {}, "Threshold of every score"), h("table", { class: "plain" }, h("tbody", {}, ...rows))));
}

function calibrationChart() {
  const { calibration, alphaIndex } = state;
  const threshold = calibration.verdict.thresholds[alphaIndex];
  return scoreChart({
    histogram: calibration.verdict.histogram, threshold,
    label: `Scores of ${calibration.n_calibration} normal items; the threshold at alpha ${number(alpha())} is ${number(threshold)}`,
  });
}

function driftCard(drift) {
  if (!drift.followed) return card("Drift", h("p", { class: "hint" }, `Not followed: ${drift.reason}.`));
  const part = Math.max(0, Math.min(1, drift.max_log_martingale / drift.log_threshold));
  const fill = h("span", { class: "share-fill" });
  fill.style.width = `${100 * part}%`;
  const words = drift.drifted ? `Scores no longer look like those of the calibration, since ${moment(drift.drifted_at)}.` : "No sign that scores have moved away from the calibration.";
  return card("Drift",
    h("p", { class: drift.drifted ? "problem" : "good" }, words),
    h("div", { class: "meter", role: "img", "aria-label": `evidence ${number(drift.max_log_martingale)} of ${number(drift.log_threshold)} nats` }, fill),
    list([
      ["Evidence", `${number(drift.log_martingale)} nats now, at most ${number(drift.max_log_martingale)}; an alarm at ${number(drift.log_threshold)}`],
      ["Seen", `${items(drift.scores, "score")} since ${moment(drift.since)}`],
      ["Kept", drift.kept ? "over restarts" : "until the server stops"],
      ["Lost", drift.lost],
    ]),
    drift.scores ? pValueChart(drift.p_values, `p-values of ${drift.scores} scores; those of normals are spread evenly`) : h("p", { class: "hint" }, "Nothing has been scored yet."));
}

function storeCard({ store }) {
  if (!store) return card("Versions", h("p", { class: "hint" }, "Served from its folder, without a store of versions."));
  const refused = new Map(store.refused.map((one) => [one.version, one.message]));
  return card("Versions",
    store.problem ? h("p", { class: "problem" }, store.problem) : "",
    h("ul", { class: "versions" }, ...store.versions.map(({ version, state: is }) => h("li", {},
      h("span", { class: `state is-${is}` }, is === "there" ? "in the store" : is), h("code", {}, version),
      version === store.pinned ? h("span", { class: "hint" }, "pinned") : null,
      refused.has(version) ? h("span", { class: "problem" }, refused.get(version)) : null))),
    h("h3", {}, "Changes"),
    h("ul", { class: "versions" }, ...store.changes.slice().reverse().map(({ version, at, how }) => h("li", {}, h("span", { class: "hint" }, moment(at)), h("code", {}, version), how.replace("_", " ")))));
}

function shadowCard({ shadow }) {
  if (!shadow) return "";
  const agreed = shadow.both_normal + shadow.both_anomaly;
  return card("Shadow", list([
    ["Version", shadow.version],
    ["Since", moment(shadow.since)],
    ["Agreed", `${count(agreed)} of ${items(shadow.items)}`],
    ["Only this version alarms", count(shadow.only_live)],
    ["Only the shadow alarms", count(shadow.only_shadow)],
    ["Passed over, failed", `${count(shadow.skipped)}, ${count(shadow.failed)}`],
  ]));
}
