/**
 * Requests to the server that the page came from. The key lives in this module's memory and nowhere else: it is sent
 * in a header, never in an address, and is gone with the page.
 */

import { tell } from "./state.js";

/** Where the server's routes begin: a proxy may serve the page below a path of its own, and cut that path off. */
const ROOT = new URL("..", import.meta.url);

let key = "";

/** What the server refused, in its own words. `items` where each item of an upload has an error of its own. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {{code?: string, message?: string, where?: string | null}} facts
   * @param {{items?: object[] | null, retryAfterS?: number}} [more]
   */
  constructor(status, facts, { items = null, retryAfterS = 0 } = {}) {
    super(facts.message ?? `the server answered ${status}`);
    this.status = status;
    this.code = facts.code ?? `http_${status}`;
    this.where = facts.where ?? null;
    this.items = items;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same request may go well a little later. */
  get isPassing() {
    return [429, 502, 503, 504].includes(this.status);
  }
}

/** Nothing answered: the server is down, restarting, or the connection broke. */
export class Unreachable extends Error {
  constructor() {
    super("the server does not answer");
    this.code = "unreachable";
    this.isPassing = true;
    this.retryAfterS = 0;
  }
}

/** Send `text` as the key from now on; whoever waits for one is told. */
export function setKey(text) {
  key = text.trim();
  tell("key");
}

/** Whether a key was entered. */
export function hasKey() {
  return key !== "";
}

/**
 * A response with status 2xx. Raises ApiError, Unreachable, or the abort of `signal`.
 * @param {string} path
 * @param {{method?: string, body?: BodyInit, type?: string, query?: Record<string, string | null>, signal?: AbortSignal}} [options]
 */
export async function request(path, { method = "GET", body, type, query = {}, signal } = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== null));
  const headers = { ...(key && { authorization: `Bearer ${key}` }), ...(type && { "content-type": type }) };
  const sent = key;
  let response;
  try {
    const address = new URL(`.${path}${asked.size ? `?${asked}` : ""}`, ROOT);
    response = await fetch(address, { method, body, headers, signal, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable();
  }
  if (response.ok) return response;
  const refused = await errorOf(response);
  if (response.status === 401 && sent === key) tell("locked", { message: refused.message, hadKey: key !== "" });
  throw refused;
}

/** The JSON document of a response. */
export async function getJson(path, options) {
  const response = await request(path, options);
  try {
    return await response.json();
  } catch (error) {
    if (options?.signal?.aborted) throw error;
    throw new Unreachable(); // the connection broke within the answer
  }
}

async function errorOf(response) {
  let facts = {};
  let items = null;
  try {
    const document = await response.json();
    facts = document.error ?? {};
    items = document.items ?? null;
  } catch {
    // not one of the server's own answers: a proxy's page, or a broken connection
  }
  return new ApiError(response.status, facts, { items, retryAfterS: Number(response.headers.get("retry-after")) || 0 });
}
