/** Numbers as people read them. */

const PLAIN = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const COUNT = new Intl.NumberFormat("en");

/** @param {number | null | undefined} value */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size >= 1e7 || size < 1e-4) ? value.toExponential(2) : PLAIN.format(value).replace("-", "−");
}

/** A number at a glance. */
export function short(value) {
  return number(Number(value.toPrecision(2)));
}

/** @param {number} value */
export function count(value) {
  return COUNT.format(value);
}

/** `1 item`, `2 items`. */
export function items(n, word = "item") {
  return `${count(n)} ${word}${n === 1 ? "" : "s"}`;
}

/** A rate as a percentage, as exact as it is small. */
export function percent(rate) {
  return `${number(Number((rate * 100).toPrecision(3)))} %`;
}

/** A rate in the words of an operator: `1 in 200`. */
export function oneIn(rate) {
  return `1 in ${rate > 0.1 ? number(Number((1 / rate).toPrecision(2))) : count(Math.round(1 / rate))}`;
}

/** A value of a cell: numbers shortened, all else as it is. */
export function cell(value) {
  if (value === null || value === undefined) return "missing";
  return typeof value === "number" ? number(value) : String(value);
}

/** @param {number} size of a file in bytes */
export function bytes(size) {
  if (size < 1e3) return `${size} bytes`;
  return size < 1e6 ? `${Math.round(size / 1e3)} kB` : `${number(Math.round(size / 1e5) / 10)} MB`;
}

/** A moment in the reader's own time. */
export function moment(text) {
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? String(text) : at.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
}
