/** The slider of the false-alarm rate. Moving it asks the server nothing. */

import { byId, setText } from "./dom.js";
import { number, oneIn, percent } from "./format.js";
import { alpha, chooseAlpha, on, state, tell } from "./state.js";

export function showAlpha() {
  const slider = /** @type {HTMLInputElement} */ (byId("alpha"));
  let asked = 0;
  slider.addEventListener("input", () => {
    state.alphaIndex = Number(slider.value);
    say(slider);
    cancelAnimationFrame(asked);
    asked = requestAnimationFrame(() => tell("alpha"));
  });
  byId("alpha-reset").addEventListener("click", () => {
    chooseAlpha(state.calibration.alpha);
    slider.value = String(state.alphaIndex);
    say(slider);
    tell("alpha");
  });
  on("model", () => {
    slider.max = String(state.calibration.alphas.length - 1);
    slider.value = String(state.alphaIndex);
    say(slider);
    setText(byId("alpha-warning"), warning());
  });
}

/** Of a model that can never alarm at its own alpha: the slider begins at the smallest alpha that decides. */
function warning() {
  const { calibration } = state;
  if (!calibration.warning) return "";
  return `The model itself never alarms: ${calibration.warning}. Here you see the rate that is chosen above.`;
}

function say(slider) {
  const rate = alpha();
  const words = oneIn(rate);
  const sure = state.calibration.guarantee;
  const promise = sure === null ? "" : `, with ${percent(sure)} confidence`;
  setText(byId("alpha-words"), `${words} (${percent(rate)})`);
  slider.setAttribute("aria-valuetext", `${percent(rate)}, ${words} of normal items raises an alarm${promise}`);
  slider.title = `alpha ${number(rate)}${promise}`;
}
