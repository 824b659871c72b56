/** Sends what waits to be scored: in batches, few at a time, again where the server was away, never losing an item. */

import { getJson, hasKey } from "./api.js";
import { fail, settle, unfold } from "./items.js";
import { bodyOf } from "./records.js";
import { on, state, tell } from "./state.js";

/** @typedef {import("./items.js").Item} Item */

const LANES = 2;
const BATCH_FILES = 24;
const BATCH_BYTES = 4 * 2 ** 20;
const BATCH_ROWS = 500;
const PAUSES_S = [0.4, 0.8, 1.6, 3.2, 5];
const NEEDS_KEY = 401;

/** @type {Item[]} */
let queue = [];
/** @type {Set<Promise<void>>} */
const lanes = new Set();
let stopping = new AbortController();
let said = "";
/** Versions of models that answers came from. */
const versions = new Set();

on("model", start);
on("key", () => {
  if (hasKey()) retry(keyless());
});

/** Items that only a key keeps from being scored. */
const waitingForKey = new Set();

/** What the sending waits for, in words; empty while nothing is wrong. */
export function hindrance() {
  return said;
}

/** Whether anything is on its way. */
export function isBusy() {
  return lanes.size > 0;
}

/** @param {Item[]} items */
export function send(items) {
  for (const item of items) item.state = "waiting";
  queue = queue.concat(items);
  start();
}

/** Nothing before a model is known: what was dropped until then waits. */
function start() {
  while (state.model && lanes.size < LANES && queue.length) {
    const lane = work().finally(() => {
      lanes.delete(lane);
      start(); // others may have come since it was told to stop
      tell("items");
    });
    lanes.add(lane);
  }
}

/** Send items again that failed. */
export function retry(items) {
  for (const item of items) {
    waitingForKey.delete(item);
    item.error = undefined;
  }
  send(items);
  tell("items");
}

/** Break off; what was not scored says so and can be sent again. */
export function stop() {
  stopping.abort();
  stopping = new AbortController();
  for (const item of queue) fail(item, { message: "stopped before it was sent", canRetry: true });
  queue = [];
  waitingForKey.clear();
  tell("items");
}

function keyless() {
  return [...waitingForKey].filter((item) => item.state === "failed");
}

async function work() {
  const signal = stopping.signal;
  while (queue.length && !signal.aborted) {
    const batch = takeBatch();
    for (const item of batch) item.state = "sending";
    tell("items");
    await sendBatch(batch, signal);
    tell("items");
  }
}

/** The next items that can go in one request. */
function takeBatch() {
  const first = queue[0];
  let n = 1;
  if (first.kind === "row") {
    while (n < Math.min(BATCH_ROWS, queue.length) && queue[n].source === first.source) n += 1;
  } else if (first.kind === "image") {
    let size = first.file.size;
    while (n < Math.min(BATCH_FILES, state.limits.max_files, queue.length) && queue[n].kind === "image") {
      size += queue[n].file.size;
      if (size > Math.min(BATCH_BYTES, state.limits.max_body_bytes / 2)) break;
      n += 1;
    }
  }
  return queue.splice(0, n);
}

/** @param {Item[]} batch @param {AbortSignal} signal */
async function sendBatch(batch, signal) {
  const { body, type, readable } = await bodyOfBatch(batch);
  if (!readable.length) return;
  for (let attempt = 0; ; attempt += 1) {
    try {
      const query = { model: state.model.name };
      const answer = await getJson("/score", { method: "POST", body, type, query, signal });
      said = "";
      settleAll(readable, answer.items, answer.model.version);
      return;
    } catch (error) {
      if (signal.aborted) {
        for (const item of readable.filter((one) => one.state === "sending")) {
          fail(item, { message: "stopped while it was sent", canRetry: true });
        }
        return;
      }
      if (error.items?.length) {
        settleAll(readable, error.items);
        return;
      }
      if (error.status === 413 && readable.length > 1) {
        const half = Math.ceil(readable.length / 2); // too large together
        await sendBatch(readable.slice(0, half), signal);
        await sendBatch(readable.slice(half), signal);
        return;
      }
      if (!error.isPassing || attempt === PAUSES_S.length) {
        giveUp(readable, error);
        return;
      }
      await pause(Math.max(PAUSES_S[attempt], error.retryAfterS), error, signal);
    }
  }
}

/** Files are read here first, so that one which has gone from the disk fails alone. */
async function bodyOfBatch(batch) {
  const [first] = batch;
  if (first.source) return { ...bodyOf(first.source, batch.map((item) => item.row)), readable: batch };
  const readable = [];
  const form = new FormData();
  let content = null;
  for (const item of batch) {
    try {
      content = new Blob([await item.file.arrayBuffer()], { type: item.file.type });
      form.append("files", content, item.name);
      readable.push(item);
    } catch {
      fail(item, { message: "the file cannot be read; it may have been moved or changed", canRetry: true });
    }
  }
  return first.kind === "bulk" ? { body: content, type: first.type, readable } : { body: form, readable };
}

function settleAll(batch, results, version) {
  if (version && !versions.has(version)) {
    versions.add(version);
    if (version !== state.calibration.model.version) tell("version"); // once each: two servers may take turns
  }
  if (batch[0].kind === "bulk") {
    unfold(batch[0], results, version);
    return;
  }
  batch.forEach((item, i) => {
    if (results[i]) settle(item, results[i], version);
    else fail(item, { message: "the server's answer leaves this item out", canRetry: true });
  });
}

function giveUp(batch, error) {
  said = "";
  const canRetry = Boolean(error.isPassing) || [401, 403].includes(error.status);
  for (const item of batch) {
    fail(item, { message: error.message, code: error.code, canRetry });
    if (error.status === NEEDS_KEY) waitingForKey.add(item);
  }
}

async function pause(seconds, error, signal) {
  said = `${error.message}; trying again in ${Math.ceil(seconds)} s`;
  tell("items");
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
