"use strict";
// What all parts share: elements, numbers, colours, the tip beside the pointer, drawing again.

/** An element with attributes (functions are listeners) and children; strings become text, never HTML. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** A name amid other words, which does not turn them round where it is written from right to left. */
const amid = (name) => (/[\u0590-\u08ff\u202a-\u202e\u2066-\u2069\ufb1d-\ufdff\ufe70-\ufefc]/.test(name) ? `\u2068${name}\u2069` : name);

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const minus = (text) => text.replace("-", "−");
const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "–");
const clipCount = (count) => (count === 1 ? "1 clip" : `${count} clips`);

/** The least and the largest of some numbers that may be null. */
function range(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value === null) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 1];
}

/** Decimals with which numbers up to `largest` show `digits` digits. */
function decimals(largest, digits) {
  return largest ? clamp(digits - 1 - Math.floor(Math.log10(largest)), 0, 8) : 0;
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const printing = () => document.documentElement.classList.contains("printing");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Hue, strength and lightness against the middle of ten colours that are told apart, also by their lightness.
const TEN = [
  [255, 0.16, 0], [55, 0.16, 0.07], [150, 0.14, -0.02], [18, 0.18, -0.06], [300, 0.15, 0.01],
  [92, 0.14, 0.17], [342, 0.14, 0.1], [200, 0.11, 0.1], [118, 0.1, -0.14], [260, 0.02, -0.08],
];

/** Colour of class k of `count`: more than ten go round the wheel of hues in three lightnesses. */
function classColour(k, count) {
  const wheel = [15 + (360 * k) / count, [0.16, 0.13, 0.11][k % 3], [0, -0.14, 0.1][k % 3]];
  const [hue, strength, lightness] = count <= TEN.length ? TEN[k] : wheel;
  const middle = dark.matches && !printing() ? 0.74 : 0.6;
  return `oklch(${(middle + lightness).toFixed(3)} ${strength} ${hue.toFixed(1)})`;
}

const drawings = [];

/** Draws now and whenever size, colours or medium change. */
function drawn(element, draw) {
  drawings.push(draw);
  let width = 0;
  new ResizeObserver(([entry]) => {
    if (Math.abs(entry.contentRect.width - width) < 0.5) return;
    width = entry.contentRect.width;
    draw();
  }).observe(element);
}

function drawAll() {
  for (const draw of drawings) draw();
}

dark.addEventListener("change", drawAll);
addEventListener("beforeprint", () => { document.documentElement.classList.add("printing"); drawAll(); });
addEventListener("afterprint", () => { document.documentElement.classList.remove("printing"); drawAll(); });

/** Clears a canvas at the resolution of the screen; as wide as its box. Units are CSS pixels. */
function pen(canvas, height) {
  const ratio = Math.max(devicePixelRatio || 1, printing() ? 2 : 1);
  const width = canvas.clientWidth;
  const context = canvas.getContext("2d");
  const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== across || canvas.height !== down) {
    [canvas.width, canvas.height] = [across, down];
    canvas.style.aspectRatio = `${width} / ${height}`; // on paper the box is narrower than where it was drawn
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** Shows lines beside a place of the window, and says them to screen readers; without lines it goes away. */
function tip(lines, x = 0, y = 0) {
  const box = document.getElementById("tip");
  box.hidden = !lines;
  if (!lines) return;
  box.replaceChildren(...lines.map((line) => (line instanceof Node ? line : el("div", {}, line))));
  const { width, height } = box.getBoundingClientRect();
  const left = x + 16 + width > innerWidth ? x - 16 - width : x + 16;
  box.style.left = `${clamp(left, 4, Math.max(4, innerWidth - width - 4))}px`;
  box.style.top = `${clamp(y - height - 12 < 4 ? y + 18 : y - height - 12, 4, Math.max(4, innerHeight - height - 4))}px`;
}

function say(text) {
  const box = document.getElementById("said");
  if (box.textContent !== text) box.textContent = text;
}

/** A swatch that is coloured anew with the theme. */
function swatch(shade) {
  const mark = el("span", { class: "swatch", "aria-hidden": "true" });
  const paint = () => { mark.style.background = shade(); };
  drawings.push(paint);
  paint();
  return mark;
}
