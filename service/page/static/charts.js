/** The drawings: plain SVG, at the width that they have on the page, coloured by the style sheet's classes. */

import { h, s } from "./dom.js";
import { number } from "./format.js";

/** @typedef {import("./state.js").Histogram} Histogram */

const WITHIN = 0.74; // part of a chart's width for the scores of normals; what lies beyond is squeezed
const watcher = new ResizeObserver((seen) => seen.forEach(({ target }) => target.redraw?.()));

/**
 * A drawing that follows the width of its place.
 * @param {string} label what a screen reader says of it
 * @param {(width: number) => {height: number, parts: (SVGElement | null)[]}} draw
 */
export function chart(label, draw) {
  const frame = h("div", { class: "chart", role: "img", "aria-label": label });
  let drawn = 0;
  frame.redraw = () => {
    const width = Math.round(frame.clientWidth);
    if (!width || width === drawn) return;
    drawn = width;
    const { height, parts } = draw(width);
    frame.replaceChildren(s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, ...parts));
  };
  watcher.observe(frame);
  return frame;
}

/**
 * Scores of normals above the line, those of the page's items below it, the threshold and one marked score.
 * @param {object} what
 * @param {Histogram} what.histogram
 * @param {number | null} what.threshold
 * @param {{score: number, isAnomaly: boolean}[]} [what.scores]
 * @param {{score: number, isAnomaly: boolean} | null} [what.marked]
 * @param {string} what.label
 */
export function scoreChart({ histogram, threshold, scores = [], marked = null, label }) {
  return chart(label, (width) => {
    const above = 92;
    const below = scores.length ? 46 : 0;
    const base = above + 14;
    const far = Math.max(marked?.score ?? 0, scores.reduce((most, one) => Math.max(most, one.score), -Infinity));
    const x = scoreScale(histogram, far, width);
    return {
      height: base + below + 22,
      parts: [
        ...bars(histogram, x, base, above - 8, "normals"),
        ...ownBars(scores, x, width, base + 3, below - 6),
        s("line", { class: "axis", x1: 0, x2: width, y1: base + 1, y2: base + 1 }),
        ...(threshold === null ? [] : thresholdMark(x(threshold), base + below, width, number(threshold))),
        marked && pin(x(marked.score), base, marked.isAnomaly),
        s("text", { class: "tick", x: 0, y: base + below + 17 }, number(histogram.edges[0])),
        s("text", { class: "tick end", x: width, y: base + below + 17 }, number(Math.max(far, histogram.edges.at(-1)))),
      ],
    };
  });
}

/** Scores of normals lie on a straight scale; far beyond them it grows by the logarithm, so that all is in view. */
export function scoreScale({ edges }, far, width) {
  const low = edges[0];
  const hasTail = edges.at(-1) - edges.at(-2) > 2 * (edges[1] - low);
  const high = edges.at(hasTail ? -2 : -1);
  const span = high - low || 1;
  const beyond = Math.log1p(Math.max(0, Math.max(far, edges.at(-1)) - high) / span);
  const straight = beyond > 0 ? WITHIN : 0.98;
  return (score) => {
    const clean = Math.max(low, score);
    const at = clean <= high ? ((clean - low) / span) * straight
      : straight + (0.99 - straight) * (beyond ? Math.min(1, Math.log1p((clean - high) / span) / beyond) : 0);
    return 4 + at * (width - 8);
  };
}

/**
 * Counts of p-values between 0 and 1 against the flat line that normals give.
 * @param {Histogram} histogram
 * @param {string} label
 */
export function pValueChart({ edges, counts }, label) {
  return chart(label, (width) => {
    const [height, base] = [150, 126];
    const total = counts.reduce((sum, n) => sum + n, 0);
    const densities = counts.map((n, i) => (total ? n / total / (edges[i + 1] - edges[i]) : 0));
    const top = Math.max(2, ...densities);
    const y = (density) => base - (density / top) * (base - 20);
    return {
      height,
      parts: [
        ...densities.map((density, i) => s("rect", {
          class: "own", x: edges[i] * width + 1, width: Math.max(1, (edges[i + 1] - edges[i]) * width - 2),
          y: y(density), height: base - y(density), rx: 2,
        })),
        s("line", { class: "axis", x1: 0, x2: width, y1: base + 0.5, y2: base + 0.5 }),
        s("line", { class: "expected", x1: 0, x2: width, y1: y(1), y2: y(1) }),
        s("text", { class: "tick mark end", x: width, y: 11 }, "line: normals"),
        s("text", { class: "tick", x: 0, y: base + 17 }, "0, odd"),
        s("text", { class: "tick end", x: width, y: base + 17 }, "p-value 1, ordinary"),
      ],
    };
  });
}

/**
 * Two stacked counts over time, the newest at the right.
 * @param {{normal: number, anomaly: number}[]} steps
 * @param {{label: string, first: string, last: string}} texts
 */
export function timeChart(steps, { label, first, last }) {
  return chart(label, (width) => {
    const [height, base] = [170, 146];
    const top = Math.max(1, ...steps.map((one) => one.normal + one.anomaly));
    const step = width / steps.length;
    const tall = (n) => (n / top) * (base - 18);
    return {
      height,
      parts: [
        ...steps.flatMap(({ normal, anomaly }, i) => [
          bar("own", i * step + 0.5, base - tall(normal), step - 1, tall(normal)),
          bar("odd", i * step + 0.5, base - tall(normal) - tall(anomaly), step - 1, tall(anomaly)),
        ]),
        s("line", { class: "axis", x1: 0, x2: width, y1: base + 0.5, y2: base + 0.5 }),
        s("text", { class: "tick", x: 0, y: 12 }, `${number(top)} a second`),
        s("text", { class: "tick", x: 0, y: base + 17 }, first),
        s("text", { class: "tick end", x: width, y: base + 17 }, last),
      ],
    };
  });
}

/** What a column's value was expected to be: the interval, the middle and the value seen, which may lie far outside. */
export function intervalMark({ seen, expected, interval }) {
  return chart(`seen ${number(seen)}, expected ${number(expected)}`, (width) => {
    const [low, high] = interval;
    const least = Math.min(low, seen);
    const most = Math.max(high, seen);
    const x = (value) => 7 + ((value - least) / (most - least || 1)) * (width - 14);
    const isOutside = seen < low || seen > high;
    return {
      height: 18,
      parts: [
        s("line", { class: "axis", x1: 2, x2: width - 2, y1: 9, y2: 9 }),
        s("rect", { class: "interval", x: x(low), width: Math.max(3, x(high) - x(low)), y: 5, height: 8, rx: 4 }),
        s("line", { class: "middle", x1: x(expected), x2: x(expected), y1: 3, y2: 15 }),
        isOutside ? diamond(x(seen), 9, 6) : s("circle", { class: "own", cx: x(seen), cy: 9, r: 5 }),
      ],
    };
  });
}

/** Show where a severity lies on a scale whose middle is the threshold, 1. */
export function severityBar(severity, isAnomaly) {
  const bar = h("span", { class: `severity ${isAnomaly ? "is-odd" : ""}`, "aria-hidden": "true" });
  const part = severity === null ? (isAnomaly ? 1 : 0) : severity <= 1 ? Math.max(0.02, severity / 2) : 1 - 0.5 / severity;
  bar.append(h("span", { class: "severity-fill" }));
  bar.firstChild.style.width = `${100 * Math.min(1, part)}%`;
  return bar;
}

/** The last bin may hold a long tail: where it is wider than the others, it is so much lower. */
function bars({ edges, counts }, x, base, tall, name) {
  const usual = edges[1] - edges[0];
  const densities = counts.map((n, i) => n / Math.max(1, (edges[i + 1] - edges[i]) / usual || 1));
  const top = Math.max(1, ...densities);
  return densities.map((density, i) => {
    const height = density && Math.max(2, (density / top) * tall);
    return bar(name, x(edges[i]), base - height, x(edges[i + 1]) - x(edges[i]) - 0.6, height);
  });
}

/** The page's items by place on the chart, anomalies nearest to the line. */
function ownBars(scores, x, width, top, tall) {
  if (!scores.length) return [];
  const columns = Math.max(20, Math.floor(width / 9));
  const counts = Array.from({ length: columns }, () => [0, 0]);
  for (const { score, isAnomaly } of scores) {
    const place = Math.min(columns - 1, Math.max(0, Math.floor((x(score) / width) * columns)));
    counts[place][isAnomaly ? 1 : 0] += 1;
  }
  const most = Math.max(...counts.map(([normal, odd]) => normal + odd));
  const size = (n) => (n ? Math.max(3, (Math.sqrt(n) / Math.sqrt(most)) * tall) : 0);
  const step = width / columns;
  return counts.flatMap(([normal, odd], i) => {
    const whole = size(normal + odd);
    const oddPart = (whole * odd) / (normal + odd || 1);
    return [
      bar("odd", i * step + 1, top, step - 2, oddPart),
      bar("own", i * step + 1, top + oddPart, step - 2, whole - oddPart),
    ];
  });
}

function bar(name, x, y, width, height) {
  const wide = Math.max(0.5, width);
  return height > 0 ? s("rect", { class: name, x, y, width: wide, height, rx: Math.min(2, wide / 3) }) : null;
}

function thresholdMark(x, bottom, width, text) {
  const atEnd = x > width * 0.7;
  return [
    s("line", { class: "threshold", x1: x, x2: x, y1: 0, y2: bottom }),
    s("text", { class: atEnd ? "mark end" : "mark", x: atEnd ? x - 6 : x + 6, y: 11 }, `threshold ${text}`),
  ];
}

function pin(x, base, isAnomaly) {
  return s("g", { class: "pin" },
    s("line", { class: isAnomaly ? "odd-line" : "own-line", x1: x, x2: x, y1: 26, y2: base }),
    isAnomaly ? diamond(x, 26, 7) : s("circle", { class: "own", cx: x, cy: 26, r: 6 }));
}

function diamond(x, y, r) {
  return s("path", { class: "odd", d: `M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}z` });
}
