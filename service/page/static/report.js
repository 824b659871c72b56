/**
 * The training report of a bundle, shown without trusting it.
 *
 * A bundle's HTML is not ours. It is parsed into an inert document, whatever could load, run, submit or lead away is
 * taken out, and the rest is shown in a frame whose sandbox runs no script. The frame inherits this page's policy, by
 * which inline styles do not apply; rather than to weaken it, the text of the report's style elements is handed to the
 * frame as a constructed style sheet, which the policy leaves to scripts, and the only script here is this one.
 */

import { h } from "./dom.js";

const REMOVED = "script, style, link, meta, base, iframe, frame, object, embed, form, template, noscript, audio, video, svg, math";
const STYLES = /<style[^>]*>([\s\S]*?)<\/style\s*>/gi;
const TAGS = /<[a-z](?:[^>"']|"[^"]*"|'[^']*')*>/gi;
const INLINE = /\s(?:style|on[a-z]+)\s*=\s*(?:"[^"]*"|'[^']*'|[^\s>]*)/gi;
const HARMLESS = new Set(["alt", "class", "colspan", "dir", "height", "id", "lang", "open", "rowspan", "scope", "title", "width"]);

/**
 * A frame that shows `html`.
 * @param {string} html
 * @returns {HTMLIFrameElement}
 */
export function reportFrame(html) {
  const sheet = [...html.matchAll(STYLES)].map((found) => found[1]).join("\n");
  const inert = new DOMParser().parseFromString(quieted(html), "text/html");
  inert.querySelectorAll(REMOVED).forEach((one) => one.remove());
  inert.querySelectorAll("*").forEach(clean);
  const frame = h("iframe", { class: "report", title: "Training report", sandbox: "allow-same-origin" });
  frame.addEventListener("load", () => dress(frame, sheet));
  frame.srcdoc = `<!doctype html>${inert.documentElement.outerHTML}`;
  return frame;
}

/** Without what the policy would forbid and tell the console of, as far as that can be read from the text. */
function quieted(html) {
  return html.replace(STYLES, "").replace(TAGS, (tag) => tag.replace(INLINE, ""));
}

/** No attribute that acts or loads, but for pictures that the report itself holds and links within it. */
function clean(element) {
  for (const { name, value } of [...element.attributes]) {
    const isOwnPicture = name === "src" && element.localName === "img" && value.startsWith("data:image/");
    const isWithin = name === "href" && value.startsWith("#");
    if (!isOwnPicture && !isWithin && !HARMLESS.has(name)) element.removeAttribute(name);
  }
}

function dress(frame, sheet) {
  const styles = new frame.contentWindow.CSSStyleSheet();
  styles.replaceSync(sheet);
  frame.contentDocument.adoptedStyleSheets = [styles];
}
