/** Records of a response that never ends, read as they come; the key goes in a header, as with every request. */

import { ApiError, Unreachable, request } from "./api.js";

/**
 * The objects of an NDJSON response, one after the other. Raises what `request` raises, and Unreachable at its end.
 * @param {string} path
 * @param {AbortSignal} signal
 */
export async function* records(path, signal) {
  const response = await request(path, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Unreachable();
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines.filter(Boolean)) {
        const record = JSON.parse(line);
        if (record.error) throw new ApiError(401, record.error); // the key was revoked meanwhile
        yield record;
      }
    }
  } catch (error) {
    if (signal.aborted || error instanceof Unreachable || error instanceof ApiError) throw error;
    throw new Unreachable();
  }
}
