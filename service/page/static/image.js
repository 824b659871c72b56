/** An explained image: what is odd drawn over it, and what the model would have expected. */

import { h, s } from "./dom.js";
import { number } from "./format.js";

const PNG = "data:image/png;base64,";

/** @param {object} found the `explanation` of an image */
export function imageExplanation(found) {
  return [
    h("h3", {}, "Where it is odd"),
    h("div", { class: "pictures" }, h("div", { class: "side" }, stage(found), regionList(found)),
      h("div", { class: "side", id: "beside" }, found.reconstruction && picture(found.reconstruction, "as the model would draw it", found))),
  ];
}

/** @param {object} found the `fired_explanation` of an image */
export function imageFired(found, name) {
  const nearest = (found.nearest ?? []).filter((one) => one.image);
  return [
    h("h3", {}, `What decided: ${found.score ?? name}`),
    normalRange(found.normal),
    h("div", { class: "pictures small" },
      found.heatmap && picture(found.heatmap, "its own map", {}),
      ...nearest.map((one) => picture(one.image, `a normal at distance ${number(one.distance)}`, {}))),
  ];
}

/** @param {object} found the `counterfactual` of an image */
export function imageNearest(found) {
  const share = `${number(found.changed_share * 100)} % of its pixels differ`;
  return [
    h("h3", {}, "What would be normal"),
    nearestWords(found),
    picture(found.image, share, {}),
  ];
}

/** How a search for the nearest normal ended. */
export function nearestWords({ found, p_value: pValue, steps }) {
  return found
    ? h("p", { class: "hint" }, `The closest that the model finds normal: its p-value is ${number(pValue)}.`)
    : h("p", { class: "problem" }, `Nothing normal was found within ${steps} steps; the best has a p-value of ${number(pValue)}.`);
}

/** Between what values a score of normals lies. */
export function normalRange(normal) {
  return normal && h("p", { class: "hint" },
    `Nine in ten normals have ${number(normal.low)} to ${number(normal.high)}, half of them less than ${number(normal.median)}.`);
}

/** The image under its heat map, whose strength a slider sets, and boxes around its strongest regions. */
function stage(found) {
  const heat = h("img", { class: "layer heat", alt: "", src: PNG + found.heatmap });
  const boxes = s("svg", { class: "layer boxes", viewBox: `0 0 ${found.width} ${found.height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    ...found.regions.map(({ box: [x, y, width, height] }) => s("rect", { x, y, width, height, "vector-effect": "non-scaling-stroke" })));
  const strength = h("input", { type: "range", id: "heat", min: 0, max: 100, value: 70 });
  const show = () => {
    heat.style.opacity = String(Number(strength.value) / 100);
    strength.setAttribute("aria-valuetext", `${strength.value} %`);
  };
  strength.addEventListener("input", show);
  const boxed = h("input", { type: "checkbox", id: "boxed", checked: true });
  boxed.addEventListener("change", () => boxes.classList.toggle("unseen-picture", !boxed.checked));
  show();
  const layers = h("div", { class: "layers" },
    h("img", { class: "layer", alt: "The image as the model sees it", src: PNG + found.image }), heat, boxes);
  layers.style.aspectRatio = `${found.width} / ${found.height}`;
  return h("figure", { class: "stage" }, layers,
    h("figcaption", { class: "controls" },
      h("label", { for: "heat" }, "Heat map"), strength, h("label", { class: "check" }, boxed, " Boxes")));
}

function regionList({ regions, rest, latent }) {
  if (!regions.length) return h("p", { class: "hint" }, "No region stands out.");
  const top = Math.max(...regions.map((one) => one.share));
  const lines = regions.map(({ box: [x, y, width, height], share }, i) => {
    const fill = h("span", { class: "share-fill" });
    fill.style.width = `${Math.max(0, (100 * share) / top)}%`;
    return h("li", {}, h("span", { class: "share-name" }, `region ${i + 1}`), h("span", { class: "share-bar", "aria-hidden": "true" }, fill),
      h("span", { class: "share-value" }, `${number(share)} nats`),
      h("span", { class: "share-more" }, `${width} × ${height} pixels at ${x}, ${y}`));
  });
  return h("div", {}, h("ol", { class: "shares" }, ...lines),
    h("p", { class: "hint" }, `The rest of the image has ${number(rest)} nats, its code ${number(latent)}; together they are the score negative_elbo.`));
}

function picture(png, caption, { width, height }) {
  return h("figure", {}, h("img", { class: "pixels", alt: caption, src: PNG + png, width, height }), h("figcaption", {}, caption));
}
