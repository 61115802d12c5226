// What became of a camera's frames, second by second: a bar each, its parts by fate. The legend says the same in words.

import { attribute, h, number, text } from "./dom.js";
import { FATES, fates } from "./words.js";

const SHOWN = 120;

export class Timeline {
  #seconds = [];
  #at = null;

  constructor() {
    this.canvas = h("canvas", { class: "timeline", role: "img", "aria-label": "no figures yet" });
    this.left = h("span", {}, "2 minutes ago");
    this.right = h("span", {}, "now");
    this.legend = h("ul", { class: "legend" });
    this.rows = new Map(FATES.map(([key, label]) => [key, h("li", {}, h("i", { class: `swatch c-${key}` }), label, h("b", { class: "num" }))]));
    this.legend.append(...this.rows.values());
    this.element = h("section", { class: "card", "aria-label": "Decisions" },
      h("header", {}, h("h2", {}, "What became of its frames"), h("span", { class: "hint num" })),
      this.canvas, h("div", { class: "axis" }, this.left, this.right), this.legend);
    this.hint = this.element.querySelector(".hint");
    this.canvas.addEventListener("pointermove", (event) => this.#point(event.offsetX / this.canvas.clientWidth));
    this.canvas.addEventListener("pointerleave", () => this.#point(null));
    this.resizer = new ResizeObserver(() => this.#draw());
    this.resizer.observe(this.canvas);
  }

  close() {
    this.resizer.disconnect();
  }

  fill(seconds) {
    this.#seconds = seconds.slice(-SHOWN);
    this.#draw();
  }

  add(rates) {
    this.#seconds.push(rates);
    if (this.#seconds.length > SHOWN) this.#seconds.shift();
    this.#draw();
  }

  #point(share) {
    this.#at = share === null ? null : Math.floor(share * SHOWN) - (SHOWN - this.#seconds.length);
    this.#draw();
  }

  #draw() {
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientHeight * scale);
    if (!width || !height) return;
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const colours = { yolo12n: "--accent", yolo12m: "--accent-2", yolo12x: "--accent-3", similar: "--similar", too_soon: "--soon", superseded: "--superseded", stale: "--warn", failed: "--bad" };
    const step = width / SHOWN;
    const sums = this.#seconds.map((second) => fates(second).reduce((sum, fate) => sum + fate.fps, 0));
    const most = Math.max(1, ...sums);
    this.#seconds.forEach((second, index) => {
      let y = height;
      const x = (SHOWN - this.#seconds.length + index) * step;
      context.globalAlpha = this.#at === null || this.#at === index ? 1 : 0.55;
      for (const fate of fates(second)) {
        const part = (fate.fps / most) * (height - 4 * scale);
        if (part <= 0) continue;
        y -= part;
        context.fillStyle = style.getPropertyValue(colours[fate.key]);
        context.fillRect(x, y, Math.max(1, step - 1.2 * scale), part);
      }
    });
    this.#words();
  }

  #words() {
    const pointed = this.#at === null ? undefined : this.#seconds[this.#at];
    const second = pointed ?? this.#seconds.at(-1);
    if (!second) return;
    for (const fate of fates(second)) {
      const row = this.rows.get(fate.key);
      row.hidden = fate.fps === 0 && !["yolo12n", "similar", "too_soon"].includes(fate.key);
      text(row.lastChild, `${number(fate.fps)}/s`);
    }
    text(this.hint, pointed ? `${this.#seconds.length - this.#at} s ago` : "frames a second, now");
    const spoken = fates(second).filter((fate) => fate.fps > 0).map((fate) => `${fate.label} ${number(fate.fps)}`);
    attribute(this.canvas, "aria-label", `Frames a second by what became of them: ${spoken.join(", ") || "none"}`);
  }
}
