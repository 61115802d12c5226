// Zones and lines of one camera: drawn on its picture, kept by the API. Points are 0..1 of the picture.

import * as api from "./api.js";
import { h, icon, s, say, text } from "./dom.js";

const NEAR = 0.02; // of the picture: a click so near the first corner closes the polygon
const START = { zone: [[0.3, 0.35], [0.7, 0.35], [0.7, 0.75], [0.3, 0.75]], line: [[0.25, 0.6], [0.75, 0.6]] };
const point = ([x, y]) => `${(x * 100).toFixed(3)},${(y * 100).toFixed(3)}`;
const within = (value) => Math.min(1, Math.max(0, Math.round(value * 10000) / 10000));

export class Zones {
  #layout = { zones: [], lines: [], counts: {} };
  #draft = null; // {kind, points, closed, name: the one that is changed}

  constructor(id, stage) {
    this.id = id;
    this.stage = stage;
    this.svg = s("svg", { class: "zones", viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.marks = h("div");
    stage.append(this.svg, this.marks);
    this.list = h("ul", { class: "list" });
    this.hint = h("p", { class: "hint" });
    this.form = h("form", { class: "stack zone-form", hidden: true });
    this.wrong = h("p", { class: "wrong", role: "alert", hidden: true });
    this.tools = [h("button", { type: "button", onclick: () => this.start("zone") }, icon("area"), "Zone"), h("button", { type: "button", onclick: () => this.start("line") }, icon("line"), "Line")];
    this.element = h("section", { class: "card", "aria-label": "Zones and lines" }, h("header", {}, h("h2", {}, "Zones and lines"), ...this.tools), this.hint, this.wrong, this.form, this.list);
    this.svg.addEventListener("pointerdown", (event) => this.#click(event));
    this.keys = (event) => this.#key(event);
    addEventListener("keydown", this.keys, true);
    this.refresh();
  }

  close() {
    removeEventListener("keydown", this.keys, true);
  }

  get drawing() {
    return this.#draft !== null;
  }

  async refresh() {
    try {
      this.#layout = await api.zones(this.id);
    } catch {
      return; // the page says that the camera is gone
    }
    this.#show();
  }

  start(kind, existing = null) {
    this.#draft = { kind, points: existing ? existing.points.map((one) => [...one]) : [], closed: Boolean(existing), before: existing };
    this.wrong.hidden = true;
    this.#show();
    if (existing) this.#details();
  }

  stop() {
    this.#draft = null;
    this.form.hidden = true;
    this.#show();
  }

  #click(event) {
    const draft = this.#draft;
    if (!draft || draft.closed) return;
    event.preventDefault();
    const box = this.svg.getBoundingClientRect();
    const x = within((event.clientX - box.left) / box.width), y = within((event.clientY - box.top) / box.height);
    const first = draft.points[0];
    if (draft.kind === "zone" && draft.points.length >= 3 && Math.hypot(first[0] - x, first[1] - y) < NEAR) {
      this.#finish();
      return;
    }
    draft.points.push([x, y]);
    if (draft.kind === "line" && draft.points.length === 2) this.#finish();
    else this.#show();
  }

  #key(event) {
    const draft = this.#draft;
    if (!draft || event.target.closest("dialog")) return;
    if (event.key === "Escape") this.stop();
    else if (draft.closed || event.target.closest("input, button")) return;
    else if (event.key === "Enter" && draft.points.length >= 3) this.#finish();
    else if (event.key === "Backspace") draft.points.pop();
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.#show();
  }

  #finish() {
    this.#draft.closed = true;
    this.#show();
    this.#details();
  }

  // The name and what counts, once the shape is there.
  #details() {
    const { kind, before } = this.#draft;
    const known = new Set([...this.#layout.zones, ...this.#layout.lines].map((one) => one.name));
    let number = 1;
    while (known.has(`${kind} ${number}`)) number += 1;
    const input = (label, name, options, value) => {
      const field = h("input", { name, autocomplete: "off", ...options });
      field.value = value ?? "";
      return h("label", { class: "field" }, label, field);
    };
    const classes = input("Counts these classes", "classes", { placeholder: "all; such as person, car" }, before?.classes.join(", "));
    const last = kind === "zone"
      ? input("Tells of who stays longer than, s", "dwell_s", { type: "number", min: "0.1", step: "any", placeholder: "never" }, before?.dwell_s)
      : null;
    this.form.replaceChildren(input("Name", "name", { required: true, maxlength: "64" }, before?.name ?? `${kind} ${number}`), classes, ...(last ? [last] : []),
      h("div", { class: "buttons" }, h("button", { class: "primary small", type: "submit" }, "Save"), h("button", { class: "small", type: "button", onclick: () => this.stop() }, "Cancel")));
    this.form.onsubmit = (event) => {
      event.preventDefault();
      this.#save(new FormData(this.form));
    };
    this.form.hidden = false;
    this.form.querySelector("input").focus();
    this.form.querySelector("input").select();
  }

  async #save(data) {
    const { kind, points, before } = this.#draft;
    const shape = { ...before, name: data.get("name").trim(), points, classes: data.get("classes").split(",").map((one) => one.trim()).filter(Boolean) };
    if (kind === "zone") shape.dwell_s = data.get("dwell_s") ? Number(data.get("dwell_s")) : null;
    const list = kind === "zone" ? "zones" : "lines";
    const rest = this.#layout[list].filter((one) => one.name !== before?.name);
    if (await this.#put({ [list]: [...rest, shape] })) {
      say(`${kind} ${shape.name} was saved`);
      this.stop();
    }
  }

  async #put(change) {
    const { zones, lines } = { ...this.#layout, ...change };
    this.wrong.hidden = true;
    try {
      this.#layout = await api.putZones(this.id, { zones, lines });
      return true;
    } catch (problem) {
      text(this.wrong, problem.message);
      this.wrong.hidden = false;
      return false;
    }
  }

  async #remove(list, name) {
    if (await this.#put({ [list]: this.#layout[list].filter((one) => one.name !== name) })) this.stop();
  }

  #show() {
    const draft = this.#draft;
    const shapes = [], tags = [];
    for (const [list, kind] of [["zones", "zone"], ["lines", "line"]]) {
      for (const one of this.#layout[list]) {
        if (draft?.before?.name === one.name) continue;
        shapes.push(shape(kind, one.points, kind === "zone" ? "shape" : "line"));
        const tag = h("span", { class: "tag" }, one.name);
        const middle = centre(one.points);
        tag.style.left = `${middle[0] * 100}%`;
        tag.style.top = `${middle[1] * 100}%`;
        tags.push(tag);
      }
    }
    if (draft) shapes.push(shape(draft.closed ? draft.kind : "line", draft.points, "draft"));
    this.svg.replaceChildren(...shapes);
    this.svg.classList.toggle("editing", Boolean(draft && !draft.closed));
    this.marks.replaceChildren(...tags, ...(draft ? draft.points.map((_, index) => this.#handle(index)) : []));
    this.#words();
  }

  #words() {
    const draft = this.#draft;
    const { zones, lines, counts } = this.#layout;
    for (const tool of this.tools) tool.hidden = Boolean(draft);
    const place = h("button", { class: "small", type: "button", onclick: () => { draft.points = START[draft.kind].map((one) => [...one]); this.#finish(); } }, "place one in the middle");
    const cancel = h("button", { class: "small", type: "button", onclick: () => this.stop() }, "Cancel");
    if (draft && !draft.closed) {
      const how = draft.kind === "zone" ? "Click its corners in the picture; click the first one again, or press Enter, to close it. " : "Click its two ends in the picture. ";
      this.hint.replaceChildren(how, h("span", { class: "buttons" }, place, cancel));
    } else if (draft) {
      text(this.hint, "Drag the points, or move them with the arrow keys.");
    } else {
      text(this.hint, zones.length + lines.length ? "" : "Draw a zone, or a line to be crossed: who enters, leaves and crosses is told and counted.");
    }
    const row = (kind, list, one) => {
      const count = counts[one.name];
      const said = count ? (kind === "zone" ? `${count.inside} inside · ${count.in} in · ${count.out} out` : `${count.in} in · ${count.out} out`) : "";
      return h("li", {}, icon(kind === "zone" ? "area" : "line"), h("span", { class: "grow" }, one.name, h("small", { class: "num" }, said)),
        h("button", { class: "icon", type: "button", "aria-label": `Change ${one.name}`, onclick: () => this.start(kind, one) }, icon("edit")),
        h("button", { class: "icon", type: "button", "aria-label": `Remove ${one.name}`, onclick: () => this.#remove(list, one.name) }, icon("bin")));
    };
    this.list.hidden = Boolean(draft);
    this.list.replaceChildren(...zones.map((one) => row("zone", "zones", one)), ...lines.map((one) => row("line", "lines", one)));
  }

  #handle(index) {
    const draft = this.#draft;
    const handle = h("button", { class: "handle", type: "button", "aria-label": `Point ${index + 1} of ${draft.points.length}` });
    const place = () => {
      handle.style.left = `${draft.points[index][0] * 100}%`;
      handle.style.top = `${draft.points[index][1] * 100}%`;
    };
    const move = (x, y) => {
      draft.points[index] = [within(x), within(y)];
      place();
      this.svg.lastChild.setAttribute("points", outline(draft));
    };
    handle.addEventListener("pointerdown", (event) => {
      if (!draft.closed && index === 0 && draft.points.length >= 3) {
        this.#finish();
        return;
      }
      handle.setPointerCapture(event.pointerId);
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = this.svg.getBoundingClientRect();
      move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    });
    handle.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 0.05 : 0.01;
      const [x, y] = draft.points[index];
      const moved = { ArrowLeft: [x - step, y], ArrowRight: [x + step, y], ArrowUp: [x, y - step], ArrowDown: [x, y + step] }[event.key];
      if (!moved) return;
      event.preventDefault();
      event.stopPropagation();
      move(...moved);
    });
    place();
    return handle;
  }
}

const outline = (draft) => draft.points.map(point).join(" ");

function shape(kind, points, name) {
  return s(kind === "zone" ? "polygon" : "polyline", { class: kind === "zone" ? name : `line ${name}`, points: points.map(point).join(" ") });
}

function centre(points) {
  return [0, 1].map((axis) => points.reduce((sum, one) => sum + one[axis], 0) / points.length);
}
