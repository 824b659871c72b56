/** From a drop, a file picker or pasted text to items. What cannot be an item says so and is listed beside the rest. */

import { breathe } from "./dom.js";
import { bytes, count } from "./format.js";
import { MAX_ITEMS, add, room } from "./items.js";
import { readRows } from "./records.js";
import { state } from "./state.js";

const IMAGES = { png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", webp: "image/webp", bmp: "image/bmp", tif: "image/tiff", tiff: "image/tiff" };
const BULK = {
  zip: "application/zip",
  parquet: "application/vnd.apache.parquet",
  arrow: "application/vnd.apache.arrow.stream",
  npy: "application/x-npy",
};
const TEXTS = ["csv", "json", "ndjson", "jsonl"];
const AT_ONCE = 200;

/**
 * The files of a drop, those in folders too, with their paths as names. The entries must be asked for at once: a drop
 * is empty as soon as its event is over.
 * @param {DataTransfer} dropped
 * @returns {AsyncGenerator<{file?: File, name: string, problem?: string}>}
 */
export function filesOfDrop(dropped) {
  const roots = [...dropped.items]
    .filter((one) => one.kind === "file")
    .map((one) => one.webkitGetAsEntry?.() ?? one.getAsFile())
    .filter(Boolean);
  return walkAll(roots);
}

/** The files of a picker. */
export async function* filesOfPicker(files) {
  for (const file of files) yield { file, name: file.webkitRelativePath || file.name };
}

/**
 * Take up files as items, in portions, until `signal`; `onItems` is called with each portion that is to be sent.
 * @param {AsyncIterable<{file?: File, name: string, problem?: string}>} files
 * @param {(items: import("./items.js").Item[]) => void} onItems
 * @param {AbortSignal} signal
 */
export async function takeFiles(files, onItems, signal) {
  let portion = [];
  let passedOver = 0;
  for await (const one of files) {
    if (signal.aborted) return;
    if (room() - portion.length <= 0) passedOver += 1;
    else portion.push(...(await itemsOfFile(one)));
    if (portion.length >= AT_ONCE) {
      takeUp(portion, onItems);
      portion = [];
      await breathe();
    }
  }
  if (passedOver) portion.push(unread("more files", `${count(passedOver)} more were left out: ${tooMany()}`));
  takeUp(portion, onItems);
}

/** Take up pasted rows. Raises Error that says what is wrong with them. */
export async function takeText(text, onItems) {
  takeUp(rowItems(await readRows(text)), onItems);
}

function takeUp(made, onItems) {
  if (made.length) onItems(add(made).filter((item) => item.kind !== "unread"));
}

async function itemsOfFile({ file, name, problem }) {
  if (problem) return [unread(name, problem)];
  const suffix = name.includes(".") ? name.split(".").pop().toLowerCase() : "";
  const largest = state.limits.max_body_bytes;
  if (!file.size) return [unread(name, "the file is empty")];
  if (file.size > largest) {
    return [unread(name, `it has ${bytes(file.size)}; the server takes at most ${bytes(largest)} in one request`)];
  }
  if (IMAGES[suffix]) return [{ kind: "image", name, file: typed(file, IMAGES[suffix]) }];
  if (BULK[suffix]) return [{ kind: "bulk", name, file, type: BULK[suffix] }];
  if (TEXTS.includes(suffix)) {
    try {
      return rowItems(await readRows(await file.text(), name));
    } catch (error) {
      return [unread(name, error.message)];
    }
  }
  return [unread(name, "not a kind of file that is read: images, CSV, JSON, Parquet, Arrow, NumPy or zip")];
}

/** The browser's own guess by its suffix differs from machine to machine. */
function typed(file, type) {
  return file.type === type ? file : new File([file], file.name, { type });
}

function rowItems({ source, rows }) {
  const taken = rows.slice(0, Math.max(0, room()));
  const made = taken.map((row, i) => ({
    kind: "row", source, row, name: source.name ? `${source.name}, row ${i + 1}` : `row ${i + 1}`,
  }));
  if (taken.length < rows.length) {
    made.push(unread(source.name || "more rows", `${count(rows.length - taken.length)} rows were left out: ${tooMany()}`));
  }
  return made;
}

function unread(name, message) {
  return { kind: "unread", name, state: "failed", error: { message, code: "not_read", canRetry: false } };
}

function tooMany() {
  return `this page holds ${count(MAX_ITEMS)} items; elbound score takes any number`;
}

async function* walkAll(roots) {
  for (const root of roots) {
    if (root instanceof File) yield { file: root, name: root.name };
    else yield* walk(root);
  }
}

/** @param {FileSystemEntry} entry */
async function* walk(entry) {
  const name = entry.fullPath.replace(/^\//, "");
  try {
    if (!entry.isDirectory) {
      yield { file: await new Promise((resolve, reject) => entry.file(resolve, reject)), name };
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
      if (!some.length) return;
      for (const one of some.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }))) yield* walk(one);
    }
  } catch (error) {
    yield { name, problem: `it cannot be read: ${error.message}` };
  }
}
