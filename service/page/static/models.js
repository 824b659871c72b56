/** Which models there are, which one is meant, and what its scores are measured against. */

import { getJson } from "./api.js";
import { byId, h } from "./dom.js";
import { chooseAlpha, on, state, tell } from "./state.js";

const RETRY_MS = 2_000;

let asked = "";

/** Fill the choice of models, and follow it; another key may see what the first one could not. */
export function offerModels() {
  const choice = /** @type {HTMLSelectElement} */ (byId("model-name"));
  choice.addEventListener("change", () => chooseModel(choice.value).catch(refused));
  on("key", loadModels);
  on("version", loadModels);
  on("models", () => {
    byId("model-choice").hidden = state.models.length < 2;
    choice.replaceChildren(...state.models.map(({ name }) => h("option", { value: name }, name)));
    if (state.model) choice.value = state.model.name;
  });
}

/** Ask for the models, again and again while the server is away. */
export async function loadModels() {
  try {
    const answer = await getJson("/models");
    state.models = answer.models;
    Object.assign(state.limits, answer.limits);
    tell("models");
    const still = state.models.find((one) => one.name === state.model?.name) ?? state.models[0];
    if (!still) notice("No model is served yet.");
    else await chooseModel(still.name);
  } catch (error) {
    refused(error);
  }
}

function refused(error) {
  notice(`The models cannot be shown: ${error.message}.`);
  if (error.isPassing) setTimeout(loadModels, RETRY_MS);
}

async function chooseModel(name) {
  asked = name;
  const isOther = state.model !== null && state.model.name !== name;
  const calibration = await getJson(`/models/${encodeURIComponent(name)}/calibration`);
  if (asked !== name) return; // another one was chosen meanwhile
  const before = state.calibration && !isOther ? state.calibration.alphas[state.alphaIndex] : null;
  state.model = state.models.find((one) => one.name === name);
  state.calibration = calibration;
  byId("model-name").value = name;
  chooseAlpha(before ?? calibration.alpha);
  notice("");
  tell("model", { isOther });
}

/** Say what stands in the way of everything; nothing when `text` is empty. */
function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}
