/** An explained row: which columns are odd, what was expected of them, and what would have been normal. */

import { intervalMark } from "./charts.js";
import { h } from "./dom.js";
import { cell, number, percent } from "./format.js";
import { nearestWords, normalRange } from "./image.js";

/** @param {object} found the `explanation` of a row */
export function rowExplanation(found) {
  return [
    h("h3", {}, "Which columns are odd"),
    shareList(found.features),
    h("p", { class: "hint" },
      `In nats. ${found.rest ? `The other columns add ${number(found.rest)}, the ` : "The "}code of the row adds ${number(found.latent)}; together they are the score negative_elbo.`),
  ];
}

/** @param {object} found the `fired_explanation` of a row */
export function rowFired(found, name) {
  const nearest = (found.nearest ?? []).filter((one) => one.row);
  return [
    h("h3", {}, `What decided: ${found.score ?? name}`),
    normalRange(found.normal),
    found.features ? shareList(weighty(found.features)) : "",
    nearest.length ? nearestRows(nearest) : "",
  ].filter(Boolean);
}

/** Those that count: at least a hundredth of the largest. */
function weighty(features) {
  return features.filter((one) => one.share >= features[0].share / 100);
}

/** @param {object} found the `counterfactual` of a row */
export function rowNearest(found) {
  const lines = found.changes.map(({ name, seen, nearest }) => h("tr", {},
    h("th", { scope: "row" }, name), h("td", { class: "was" }, cell(seen)), h("td", { class: "arrow", "aria-hidden": "true" }, "→"), h("td", { class: "now" }, cell(nearest))));
  return [
    h("h3", {}, "What would be normal"),
    nearestWords(found),
    h("table", { class: "plain changes" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "column"), h("th", { scope: "col" }, "seen"), h("td", {}), h("th", { scope: "col" }, "normal"))),
      h("tbody", {}, ...lines)),
  ];
}

function shareList(features) {
  const top = Math.max(1e-9, ...features.map((one) => one.share));
  return h("ol", { class: "shares" }, ...features.map((one) => {
    const fill = h("span", { class: "share-fill" });
    fill.style.width = `${Math.max(0, (100 * one.share) / top)}%`;
    return h("li", {},
      h("span", { class: "share-name" }, one.name), h("span", { class: "share-bar", "aria-hidden": "true" }, fill),
      h("span", { class: "share-value" }, number(one.share)),
      h("span", { class: "share-more" }, expectation(one), mark(one)));
  }));
}

function expectation({ seen, expected, interval, probability }) {
  const words = `saw ${cell(seen)}`;
  if (seen === null || expected === null || expected === undefined) return words;
  if (interval) return `${words}, expected ${cell(expected)} (${cell(interval[0])} to ${cell(interval[1])})`;
  if (probability !== null && probability !== undefined) return `${words}, which has a chance of ${percent(probability)}; expected ${cell(expected)}`;
  return `${words}, expected ${cell(expected)}`;
}

/** Times are shown by their place in their interval too. */
function mark({ seen, expected, interval }) {
  if (!interval || seen === null) return null;
  const [at, middle, low, high] = [seen, expected, ...interval].map(placeOf);
  return [at, middle, low, high].every(Number.isFinite) ? intervalMark({ seen: at, expected: middle, interval: [low, high] }) : null;
}

function placeOf(value) {
  return typeof value === "string" ? Date.parse(value) : Number(value);
}

function nearestRows(nearest) {
  const names = Object.keys(nearest[0].row);
  return h("div", { class: "sideways", tabindex: 0, role: "group", "aria-label": "The nearest normals" }, h("table", { class: "plain" },
    h("caption", {}, "The nearest normals"),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "distance"), ...names.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...nearest.map(({ distance, row }) => h("tr", {}, h("th", { scope: "row" }, number(distance)), ...names.map((name) => h("td", {}, cell(row[name]))))))));
}
