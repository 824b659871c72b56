/** The view in which items are dropped, judged and looked at. */

import { showAlpha } from "./alpha.js";
import { showDetail } from "./detail.js";
import { byId, h, setText, throttle } from "./dom.js";
import { offerExports } from "./export.js";
import { count, items as counted } from "./format.js";
import { filesOfDrop, filesOfPicker, takeFiles, takeText } from "./intake.js";
import { all, clear, tally, unscored } from "./items.js";
import { showLandscape } from "./landscape.js";
import { showList } from "./list.js";
import { on, state } from "./state.js";
import { hindrance, isBusy, retry, send, stop } from "./upload.js";

const REDRAW_MS = 150;
const SAY_MS = 1_500; // a screen reader needs time to say how far it is

/** Folders that are still being read. */
let taking = new AbortController();

export function showAnalyse() {
  offerFiles();
  offerPasting();
  showAlpha();
  showLandscape();
  showList();
  showDetail();
  offerExports();
  byId("stop").addEventListener("click", breakOff);
  byId("clear").addEventListener("click", () => {
    breakOff();
    clear();
    byId("pick-files").focus();
  });
  byId("retry-all").addEventListener("click", () => retry(all().filter((item) => item.error?.canRetry)));
  on("items", throttle(showProgress, REDRAW_MS));
  on("model", ({ isOther }) => {
    hint();
    if (isOther && all().length) {
      stop();
      send(unscored());
    }
    const { version } = state.calibration.model;
    retry(all().filter((item) => item.version && item.version !== version && !item.parent));
  });
}

function breakOff() {
  taking.abort();
  taking = new AbortController();
  stop();
}

function offerFiles() {
  const place = byId("intake");
  byId("pick-files").addEventListener("click", () => byId("files").click());
  byId("pick-folder").addEventListener("click", () => byId("folder").click());
  for (const id of ["files", "folder"]) {
    byId(id).addEventListener("change", ({ target }) => {
      takeFiles(filesOfPicker([...target.files]), send, taking.signal);
      target.value = "";
    });
  }
  addEventListener("dragover", (event) => {
    event.preventDefault();
    place.classList.add("over");
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) place.classList.remove("over");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    place.classList.remove("over");
    byId("tab-analyse").click();
    takeFiles(filesOfDrop(event.dataTransfer), send, taking.signal);
  });
}

function offerPasting() {
  const dialog = /** @type {HTMLDialogElement} */ (byId("paste-dialog"));
  const text = /** @type {HTMLTextAreaElement} */ (byId("paste"));
  byId("open-paste").addEventListener("click", () => {
    setText(byId("paste-problem"), "");
    dialog.showModal();
    text.focus();
  });
  byId("paste-cancel").addEventListener("click", () => dialog.close());
  byId("paste-example").addEventListener("click", () => {
    text.value = 'temperature,pressure,line\n20.1,3.2,north\n19.8,3.1,south';
  });
  byId("paste-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await takeText(text.value, send);
      dialog.close();
    } catch (error) {
      setText(byId("paste-problem"), `These rows cannot be read: ${error.message}.`);
    }
  });
}

function hint() {
  const what = state.model.kind === "image" ? "Images, or a folder of them" : "A table as CSV, JSON or Parquet, or rows pasted";
  setText(byId("intake-hint"), `${what}, for the model ${state.model.name}. Everything stays between this page and its server.`);
}

function showProgress() {
  const n = tally();
  const isSome = n.all > 0;
  byId("results").hidden = !isSome;
  byId("intake").classList.toggle("slim", isSome);
  const bar = /** @type {HTMLProgressElement} */ (byId("progress"));
  bar.max = Math.max(1, n.all);
  bar.value = n.all - n.waiting;
  bar.hidden = !n.waiting;
  byId("stop").hidden = !isBusy();
  byId("retry-all").hidden = isBusy() || !all().some((item) => item.error?.canRetry);
  setText(byId("hindrance"), hindrance());
  setText(byId("progress-text"), sentence(n));
  sayProgress();
}

const sayProgress = throttle(() => setText(byId("progress-said"), sentence(tally())), SAY_MS);

function sentence(n) {
  const found = n.anomaly ? counted(n.anomaly, "anomal").replace(/anomals?$/, n.anomaly === 1 ? "anomaly" : "anomalies") : "no anomaly";
  const failed = n.failed ? `, ${count(n.failed)} could not be scored` : "";
  const how = n.waiting ? `${count(n.all - n.waiting)} of ${counted(n.all)}` : counted(n.all);
  return `${how}: ${found}${failed}`;
}
