/** Asks for a key when the server wants one, once for however many requests wanted it. */

import { setKey } from "./api.js";
import { byId } from "./dom.js";
import { on } from "./state.js";

export function askForKeys() {
  const dialog = /** @type {HTMLDialogElement} */ (byId("key-dialog"));
  const field = /** @type {HTMLInputElement} */ (byId("key"));
  let declined = false;

  function ask(reason) {
    byId("key-reason").textContent = reason;
    if (!dialog.open) dialog.showModal();
    field.focus();
  }

  on("locked", ({ message, hadKey }) => {
    byId("open-key").classList.add("wanted");
    if (!declined) ask(hadKey ? `The key is not accepted any more: ${message}.` : "This server answers only those who have a key.");
  });
  byId("open-key").addEventListener("click", () => ask("It is sent with every request from here on."));
  byId("key-cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    declined = !field.value;
    field.value = "";
  });
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const entered = field.value;
    byId("open-key").classList.remove("wanted");
    dialog.close();
    declined = false;
    setKey(entered);
  });
}
