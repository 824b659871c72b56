/** What is on the page as a file: every item with the decision at the alpha of the slider. */

import { byId } from "./dom.js";
import { all, kindOf, verdictOf } from "./items.js";
import { alpha, state } from "./state.js";

const COLUMNS = ["name", "verdict", "p_value", "severity", "score", "fired", "group", "error"];

export function offerExports() {
  byId("export-csv").addEventListener("click", () => save(csv(), "text/csv", "csv"));
  byId("export-json").addEventListener("click", () => save(json(), "application/json", "json"));
}

function record(item) {
  const verdict = verdictOf(item);
  return {
    name: item.name,
    verdict: kindOf(item),
    p_value: verdict?.pValue ?? null,
    severity: verdict?.severity ?? null,
    score: item.result?.score ?? null,
    fired: item.result?.fired ?? null,
    group: item.result?.group ?? null,
    error: item.error?.message ?? null,
  };
}

function json() {
  const { model, guarantee } = state.calibration;
  return JSON.stringify({ model, alpha: alpha(), guarantee, items: all().map(record) }, null, 2);
}

function csv() {
  const lines = all().map((item) => {
    const facts = record(item);
    return COLUMNS.map((name) => quoted(facts[name])).join(",");
  });
  return `${[COLUMNS.join(","), ...lines].join("\r\n")}\r\n`;
}

/** Quoted where CSV needs it; a leading apostrophe keeps spreadsheets from running a name as a formula. */
function quoted(value) {
  if (value === null) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function save(content, type, suffix) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = `${state.model.name}-${state.model.version}.${suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
