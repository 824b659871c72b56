/**
 * Rows of tables in text, kept as the text that came: the server reads the values, and each row can be sent again by
 * itself to be explained.
 *
 * @typedef {object} Source where rows come from
 * @property {"csv" | "ndjson" | "json"} form
 * @property {string} header the first line of a CSV
 * @property {string} name of the file, or empty for rows that were pasted
 * @typedef {{source: Source, rows: string[]}} Rows
 */

import { breathe } from "./dom.js";

const SLICE = 1 << 18;
const TYPES = { csv: "text/csv", ndjson: "application/x-ndjson", json: "application/json" };

/**
 * The rows of a text: JSON where it begins like JSON, one object a line where the name says so, else CSV with a header.
 * Raises Error that says what is wrong.
 * @param {string} text
 * @param {string} name
 * @returns {Promise<Rows>}
 */
export async function readRows(text, name = "") {
  const body = text.replace(/^\uFEFF/, "").trim();
  if (!body) throw new Error("there are no rows in it");
  if (/\.(ndjson|jsonl)$/i.test(name)) return { source: { form: "ndjson", header: "", name }, rows: filled(body) };
  if (body.startsWith("[") || body.startsWith("{")) return jsonRows(body, name);
  const [header, ...rows] = await lines(body);
  if (!rows.length) throw new Error("a CSV needs a line of column names and at least one row");
  return { source: { form: "csv", header, name }, rows };
}

/**
 * Rows of one source as a body for the server.
 * @param {Source} source
 * @param {string[]} rows
 * @returns {{body: string, type: string}}
 */
export function bodyOf(source, rows) {
  const body = { csv: [source.header, ...rows].join("\n"), ndjson: rows.join("\n"), json: `[${rows.join(",")}]` };
  return { body: body[source.form], type: TYPES[source.form] };
}

function jsonRows(body, name) {
  let document;
  try {
    document = JSON.parse(body);
  } catch (error) {
    const parts = filled(body);
    if (parts.length > 1 && body.startsWith("{")) return { source: { form: "ndjson", header: "", name }, rows: parts };
    throw new Error(`it is no JSON: ${error.message}`);
  }
  const found = Array.isArray(document) ? document : Array.isArray(document.rows) ? document.rows : [document];
  if (!found.length) throw new Error("there are no rows in it");
  return { source: { form: "json", header: "", name }, rows: found.map((row) => JSON.stringify(row)) };
}

/** Lines outside of quotes; the page stays responsive while a long text is cut. */
async function lines(text) {
  const found = [];
  let start = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === 34) quoted = !quoted;
    else if (code === 10 && !quoted) {
      keep(text.slice(start, at));
      start = at + 1;
    }
    if (at % SLICE === SLICE - 1) await breathe();
  }
  if (quoted) throw new Error("a quote is opened and never closed");
  keep(text.slice(start));
  return found;

  function keep(line) {
    const row = line.endsWith("\r") ? line.slice(0, -1) : line;
    if (row) found.push(row);
  }
}

function filled(body) {
  return body.split(/\r?\n/).filter((line) => line.trim());
}
