// One camera on the wall.

import { attribute, h, number, text } from "./dom.js";
import { Trails, paint } from "./draw.js";
import { STATES, fates, inferredOf, letter, why } from "./words.js";

const SPOKEN_MS = 5000; // a label that changes every second is never read to its end

export class Tile {
  #spokenMs = 0;
  #drawn = false;

  constructor(id) {
    this.id = id;
    this.trails = new Trails();
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.veil = h("div", { class: "veil" }, h("b", {}, "connecting"), h("small"));
    this.dot = h("i", { class: "dot" });
    this.chip = h("span", { class: "chip", hidden: true });
    this.age = h("span", { class: "age num" });
    this.mix = h("div", { class: "mix", "aria-hidden": "true" });
    this.parts = new Map();
    this.rate = h("span", { class: "num" });
    this.why = h("span", { class: "why" });
    this.link = h("a", { class: "tile", href: `#/camera/${encodeURIComponent(id)}`, "aria-label": id, "data-id": id },
      h("div", { class: "view" }, this.canvas, this.veil),
      h("div", { class: "caption" },
        h("div", { class: "row" }, this.dot, h("span", { class: "name" }, id), this.age, this.chip),
        this.mix,
        h("div", { class: "rates" }, this.rate, this.why)));
    this.element = h("li", {}, this.link);
  }

  picture(bitmap, header) {
    this.trails.add(header);
    const objects = header.objects.filter((one) => one[0]); // small: what has no id yet is left to the large picture
    paint(this.canvas, bitmap, { ...header, objects }, this.trails);
    if (!this.#drawn) this.#drawn = true;
    this.#veil();
  }

  show(camera) {
    const restarted = this.camera && this.camera.state === "paused" && camera.state !== "paused";
    if (restarted) this.#drawn = false;
    this.camera = camera;
    attribute(this.dot, "class", `dot ${camera.state}`);
    attribute(this.dot, "title", STATES[camera.state]);
    text(this.age, camera.age_ms === null || camera.state !== "live" ? "" : `${camera.age_ms} ms`);
    attribute(this.age, "title", "from the frame's arrival to its result");
    this.chip.hidden = !camera.tier;
    text(this.chip, letter(camera.tier));
    this.chip.classList.toggle("odd", Boolean(camera.wanted));
    attribute(this.chip, "title", camera.wanted ? `${camera.tier} in place of ${camera.wanted}` : `tier ${camera.tier}`);
    this.#rates(camera);
    this.#veil();
    this.#speak(camera);
  }

  #rates(camera) {
    const { rates } = camera;
    this.rate.replaceChildren(h("b", {}, number(inferredOf(rates))), ` of ${number(rates.decoded + rates.undecoded, 0)} fps`);
    text(this.why, why(camera));
    attribute(this.why, "title", why(camera));
    const all = Math.max(1e-9, rates.decoded + rates.undecoded);
    for (const fate of fates(rates)) {
      let part = this.parts.get(fate.key);
      if (!part) {
        if (fate.fps === 0) continue;
        part = h("i", { class: `c-${fate.key}` });
        this.parts.set(fate.key, part);
        this.mix.append(part);
      }
      part.style.width = `${Math.min(100, (fate.fps / all) * 100)}%`;
    }
  }

  #veil() {
    const state = this.camera?.state ?? "connecting";
    const covered = state !== "live" || !this.#drawn;
    this.veil.hidden = !covered;
    if (!covered) return;
    const waiting = state === "live" ? "waiting for the first picture" : STATES[state];
    text(this.veil.firstChild, waiting);
    text(this.veil.lastChild, this.camera?.problem ?? "");
  }

  #speak(camera) {
    const nowMs = performance.now();
    if (nowMs - this.#spokenMs < SPOKEN_MS && this.#spokenMs) return;
    this.#spokenMs = nowMs;
    const rates = `${number(inferredOf(camera.rates))} of ${number(camera.rates.decoded, 0)} frames a second inferred`;
    attribute(this.link, "aria-label", `${camera.id}, ${STATES[camera.state]}, ${rates}, ${camera.objects} objects`);
  }
}
