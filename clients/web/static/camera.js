// One camera: its picture, large; what is decided about it; its zones and events.

import * as api from "./api.js";
import { attribute, h, icon, number, text } from "./dom.js";
import { Trails, fit, paint } from "./draw.js";
import { Events } from "./events.js";
import { changeCamera, removeCamera } from "./forms.js";
import { Timeline } from "./timeline.js";
import { STATES, inferredOf } from "./words.js";
import { Zones } from "./zones.js";

export class CameraView {
  #picture = false;
  #stream = null;

  constructor(wall, id) {
    this.wall = wall;
    this.id = id;
    this.trails = new Trails();
    this.canvas = h("canvas", { role: "img", "aria-label": `picture of ${id}` });
    this.veil = h("div", { class: "veil" }, h("b", {}, "waiting for the first picture"), h("small"));
    this.stage = h("div", { class: "stage" }, h("div", { class: "view" }, this.canvas, this.veil));
    this.dot = h("i", { class: "dot" });
    this.source = h("p");
    this.pause = h("button", { onclick: () => this.toggle(), "aria-keyshortcuts": "p" });
    this.timeline = new Timeline();
    this.facts = new Map();
    this.factList = h("dl", { class: "facts" });
    this.problem = h("p", { class: "card problem", role: "alert", hidden: true });
    this.zones = new Zones(id, this.stage);
    this.events = new Events(id, () => this.#happened());
    this.side = h("div", { class: "stack" }, this.problem, this.zones.element, this.events.element, h("section", { class: "card", "aria-label": "Now" }, h("header", {}, h("h2", {}, "Now")), this.factList));
    this.element = h("article", { class: "page", "aria-label": `Camera ${id}` },
      h("div", { class: "page-top" },
        h("a", { class: "button", href: "#/", "aria-label": "Back to the wall" }, icon("back")),
        h("div", { class: "grow" }, h("h1", {}, this.dot, id), this.source),
        h("div", { class: "buttons" },
          this.pause,
          h("button", { onclick: () => this.change() }, icon("edit"), "Change"),
          h("button", { class: "danger", onclick: () => removeCamera(id, () => { location.hash = "#/"; }) }, icon("bin"), "Remove"))),
      h("div", { class: "stack" }, this.stage, this.timeline.element),
      this.side);
    this.resizer = new ResizeObserver(() => this.#look());
    this.resizer.observe(this.stage);
    this.#load();
  }

  close() {
    this.resizer.disconnect();
    this.timeline.close();
    this.zones.close();
    this.events.close();
    clearTimeout(this.counting);
  }

  async change() {
    const stream = await api.stream(this.id).catch(() => null);
    if (stream) changeCamera(stream);
  }

  async toggle() {
    this.pause.disabled = true;
    const call = this.camera?.state === "paused" ? api.resume : api.pause;
    await call(this.id).catch((problem) => this.#trouble(problem.message));
    this.pause.disabled = false;
  }

  show(now) {
    const index = now.cameras.findIndex((camera) => camera.id === this.id);
    const camera = now.cameras[index];
    if (!camera) {
      if (this.camera) location.hash = "#/"; // somebody has removed it
      return;
    }
    if (this.camera?.state === "paused" && camera.state !== "paused") this.#picture = false;
    this.camera = camera;
    this.neighbours = [now.cameras.at(index - 1)?.id, now.cameras[(index + 1) % now.cameras.length]?.id];
    attribute(this.dot, "class", `dot ${camera.state}`);
    const paused = camera.state === "paused";
    attribute(this.pause, "data-paused", String(paused));
    if (this.pause.dataset.shown !== String(paused)) {
      this.pause.dataset.shown = String(paused);
      this.pause.replaceChildren(icon(paused ? "play" : "pause"), paused ? "Resume" : "Pause");
    }
    this.#trouble(camera.problem);
    this.#facts(camera);
    if (!paused) this.timeline.add(camera.rates);
    this.#veil();
  }

  picture({ header, bitmap }) {
    if (header.id !== this.id) return;
    this.#picture = true;
    this.trails.add(header);
    const fitted = fit(this.canvas, bitmap.width / bitmap.height);
    paint(this.canvas, bitmap, header, this.trails, { names: true, fitted });
    attribute(this.canvas, "aria-label", `picture of ${this.id} with ${header.objects.length} objects`);
    this.size = header.size;
    this.#veil();
  }

  point() { /* the budget bar marks tiles of the wall only */ }

  // Counts are asked for a moment after an event, once for many.
  #happened() {
    this.counting ??= setTimeout(() => {
      this.counting = undefined;
      if (!this.zones.drawing) this.zones.refresh();
    }, 500);
  }

  async #load() {
    const [stream, past] = await Promise.all([api.stream(this.id), api.history(this.id)]).catch((problem) => {
      this.#trouble(problem.message);
      return [null, null];
    });
    if (past) this.timeline.fill(past.seconds);
    if (stream) {
      this.#stream = stream;
      text(this.source, stream.source);
    }
  }

  #facts(camera) {
    const { rates } = camera;
    const rows = {
      State: STATES[camera.state],
      "Inferred": `${number(inferredOf(rates))} a second`,
      "Decoded": `${number(rates.decoded)} a second${rates.undecoded ? `, ${number(rates.undecoded)} left undecoded` : ""}`,
      "May have": camera.pace_fps === null ? "–" : `${number(camera.pace_fps)} a second`,
      Tier: camera.wanted ? `${camera.tier}, in place of ${camera.wanted}` : camera.tier ?? "–",
      "Age of a result": camera.age_ms === null ? "–" : `${camera.age_ms} ms`,
      "Last inferred": camera.seen_s === null ? "–" : `${number(camera.seen_s)} s ago`,
      Objects: String(camera.objects),
      "Spends": `${number(camera.spends_ms_per_s, 0)} ms/s`,
      "Decoded on": camera.decoder ?? "–",
    };
    for (const [name, value] of Object.entries(rows)) {
      if (!this.facts.has(name)) {
        const cell = h("dd", { class: "num" });
        this.facts.set(name, cell);
        this.factList.append(h("dt", {}, name), cell);
      }
      text(this.facts.get(name), value);
    }
  }

  #trouble(line) {
    this.problem.hidden = !line;
    text(this.problem, line ?? "");
  }

  #veil() {
    const state = this.camera?.state ?? "connecting";
    this.veil.hidden = state === "live" && this.#picture;
    text(this.veil.firstChild, state === "live" ? "waiting for the first picture" : STATES[state]);
    if (!this.#picture && !this.size) fit(this.canvas, 16 / 9);
  }

  #look() {
    const width = Math.round(this.stage.clientWidth * Math.min(1.5, devicePixelRatio || 1));
    this.wall.look({ [this.id]: Math.max(160, Math.min(1280, width)) });
  }
}
