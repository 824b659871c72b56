/** Elements without HTML text: whatever comes from a server, a file or a cell ends up as a text node. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An HTML element. `on` holds listeners, every other attribute is set as it is; null and false leave it out.
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {...(Node | string | number | null | undefined)} children
 * @returns {HTMLElement}
 */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/**
 * An SVG element, by the same rules.
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {...(Node | string | number | null | undefined)} children
 * @returns {SVGElement}
 */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** The element of the page with this id; it is a mistake of ours if there is none. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no #${id} in the page`);
  return found;
}

/** Set the text only where it differs, so that a screen reader is not told the same thing twice. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Let the browser draw and answer the user before more work is done. */
export function breathe() {
  return new Promise((resolve) => setTimeout(resolve));
}

/** `call` at once and then at most every `milliseconds`, always once more after the last request. */
export function throttle(call, milliseconds) {
  let timer = 0;
  let again = false;
  return function run() {
    if (timer) {
      again = true;
      return;
    }
    timer = setTimeout(() => {
      timer = 0;
      if (again) {
        again = false;
        run();
      }
    }, milliseconds);
    call();
  };
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(name, String(value));
    }
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
