/** The three views. Left and Right, Home and End move between their tabs; the address remembers which one is open. */

import { byId } from "./dom.js";
import { tell } from "./state.js";

const NAMES = ["analyse", "model", "live"];
const STEPS = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };

let open = "analyse";

export function openTab() {
  return open;
}

export function showTabs() {
  for (const name of NAMES) {
    const tab = byId(`tab-${name}`);
    tab.addEventListener("click", () => show(name));
    tab.addEventListener("keydown", (event) => move(event, name));
  }
  addEventListener("hashchange", fromAddress);
  fromAddress();
}

function fromAddress() {
  const name = location.hash.slice(1);
  if (NAMES.includes(name)) show(name);
}

function move(event, name) {
  const step = STEPS[event.key];
  if (step === undefined) return;
  event.preventDefault();
  const last = NAMES.length - 1;
  const wanted = NAMES.indexOf(name) + step;
  const place = Number.isFinite(step) ? (wanted + NAMES.length) % NAMES.length : Math.min(last, Math.max(0, wanted));
  show(NAMES[place]);
  byId(`tab-${NAMES[place]}`).focus();
}

function show(wanted) {
  open = wanted;
  for (const name of NAMES) {
    const isOpen = name === wanted;
    byId(`tab-${name}`).setAttribute("aria-selected", String(isOpen));
    byId(`tab-${name}`).tabIndex = isOpen ? 0 : -1;
    byId(name).hidden = !isOpen;
  }
  history.replaceState(null, "", `#${wanted}`);
  tell("tab", wanted);
}
