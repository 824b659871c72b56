/** What the server does at this moment, from a stream that is read while this view is open. */

import { hasKey } from "./api.js";
import { pValueChart, timeChart } from "./charts.js";
import { byId, h, setText } from "./dom.js";
import { count, items, number, percent } from "./format.js";
import { add, latencyOf, pValuesOf, perStep, perMinute, reset } from "./history.js";
import { on, state, tell } from "./state.js";
import { records } from "./stream.js";

const PAUSES_S = [0.5, 1, 2, 4, 8];

let following = new AbortController();

export function showLive() {
  on("tab", (name) => {
    following.abort();
    if (name === "live") follow();
  });
  on("key", () => !byId("live").hidden && (following.abort(), follow()));
  on("model", () => !byId("live").hidden && draw());
}

/** Read the stream, again after every break, and say so. */
async function follow() {
  following = new AbortController();
  const { signal } = following;
  reset(); // what went by unseen is no part of the last minute
  lay();
  let breaks = 0;
  while (!signal.aborted) {
    try {
      for await (const record of records("/live", signal)) {
        breaks = 0;
        say("on", "Connected");
        add(record);
        draw();
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401 || error.status === 403) {
        say("off", `${error.message}.`);
        if (error.status === 401) tell("locked", { message: error.message, hadKey: hasKey() });
        return;
      }
      const seconds = PAUSES_S[Math.min(breaks, PAUSES_S.length - 1)];
      breaks += 1;
      say("off", `${error.message}; connecting again in ${number(seconds)} s`);
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
      reset();
    }
  }
}

function say(is, words) {
  const place = byId("live-state");
  place.dataset.is = is;
  setText(place, words);
}

function lay() {
  byId("live").replaceChildren(
    h("div", { class: "live-head" }, h("h1", {}, "Live"), h("p", { class: "live-state", id: "live-state", role: "status" }, "Connecting")),
    h("div", { class: "tiles", id: "live-tiles" }),
    h("div", { class: "cards" },
      h("section", { class: "card across" }, h("h2", {}, "Verdicts"), h("div", { id: "live-verdicts" }), h("p", { class: "legend", "aria-hidden": "true" }, h("span", { class: "key-own" }, "normal"), " ", h("span", { class: "key-odd" }, "anomalies"))),
      h("section", { class: "card" }, h("h2", {}, "p-values"), h("p", { class: "hint", id: "live-p-hint" }), h("div", { id: "live-p" })),
      h("section", { class: "card" }, h("h2", {}, "Server"), h("dl", { class: "facts", id: "live-facts" }))),
  );
}

function draw() {
  const now = perMinute(state.model?.name);
  if (!now) return;
  const { record, model, verdicts } = now;
  const scored = verdicts.normal + verdicts.anomaly;
  const rate = scored ? verdicts.anomaly / scored : 0;
  byId("live-tiles").replaceChildren(
    tile("scored in the last minute", count(scored), "live-scored"),
    tile("of them anomalies", scored ? percent(rate) : "–", "live-rate"),
    tile("since the server’s start", count(model.items.normal + model.items.anomaly), "live-total"),
    tile("wait in the queue", count(record.queue_depth), "live-queue"),
  );
  byId("live-verdicts").replaceChildren(timeChart(perStep(model.name), {
    label: `${scored} items scored in the last minute, ${verdicts.anomaly} of them anomalies`, first: "3 minutes ago", last: "now",
  }));
  const histogram = pValuesOf(model);
  const total = histogram.counts.reduce((sum, n) => sum + n, 0);
  setText(byId("live-p-hint"), total ? `Of ${items(total, "score")} since the start. Normals lie evenly along the line.` : "Nothing has been scored yet.");
  byId("live-p").replaceChildren(pValueChart(histogram, `p-values of ${total} scores; those of normals are spread evenly`));
  const latency = latencyOf(record);
  byId("live-facts").replaceChildren(...facts([
    ["Ready", record.ready ? "yes" : "no"],
    ["Queue", `${count(record.queue_depth)} of at most ${count(record.queue_limit)}`],
    ["Uploads open", count(record.uploads_open)],
    ["Requests", `${count(record.requests.total)}, ${count(record.requests.refused)} refused, ${count(record.requests.failed)} failed`],
    ["Latency", latency ? `half below ${latency.half}, 99 of 100 below ${latency.most}` : "no requests yet"],
    ["Alpha", number(model.alpha)],
    ["Version", model.version],
  ]));
}

function facts(pairs) {
  return pairs.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
}

function tile(words, value, id) {
  return h("p", { class: "tile" }, h("strong", { id }, value), h("span", {}, words));
}
