// Elements from plain values. Text is always text: nothing here, or anywhere, parses HTML.

const SVG = "http://www.w3.org/2000/svg";

// h("p", {class: "why", onclick: f, hidden: true}, "text", element, null)
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function s(tag, properties = {}) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  return element;
}

export function icon(name) {
  const svg = s("svg", { "aria-hidden": "true" });
  svg.append(s("use", { href: `#i-${name}` }));
  return svg;
}

export const byId = (id) => document.getElementById(id);

// Writes only what has changed, so that nothing is laid out anew for the same text.
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

export function attribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function say(message) {
  byId("said").textContent = message;
}

export const number = (value, digits = 1) => (value === null || value === undefined ? "–" : value.toFixed(digits));

export const percent = (share, digits = 1) => (share === null || share === undefined ? "–" : `${(share * 100).toFixed(digits)} %`);

export function stored(key, fallback) {
  try { return localStorage.getItem(key) ?? fallback; } catch { return fallback; }
}

export function store(key, value) {
  try { localStorage.setItem(key, value); } catch { /* a browser that keeps nothing */ }
}
