// The grid of all cameras. Only the tiles in sight are asked for.

import { h, store, stored, text } from "./dom.js";
import { stateLine } from "./header.js";
import { Tile } from "./tile.js";

const SIZES = { S: 168, M: 290, L: 430 };
const GAP = 14, NARROW = 235, LEAST = 118; // pixels, as in style.css

export class WallView {
  #tiles = new Map();
  #inSight = new Set();
  #size = stored("size", "auto");

  constructor(wall, onAdd) {
    this.wall = wall;
    this.count = h("p", {}, "Starting: the models are being loaded…");
    this.filter = h("input", { type: "search", placeholder: "Filter by name", "aria-label": "Filter cameras by name", "aria-keyshortcuts": "/", oninput: () => this.#arrange() });
    this.sizes = h("div", { class: "segments", role: "group", "aria-label": "Size of the tiles" },
      ...Object.keys(SIZES).map((name) => h("button", { type: "button", "data-size": name, "aria-label": { S: "Small", M: "Medium", L: "Large" }[name], onclick: () => this.resize(name) }, name)));
    this.grid = h("ul", { class: "grid", "aria-label": "Cameras" });
    this.empty = h("div", { class: "empty", hidden: true },
      h("h1", {}, "No camera yet"),
      h("p", {}, "Add one: a file, or the address of a camera in your network. It is kept over a restart."),
      h("button", { class: "primary", onclick: onAdd }, "Add camera"));
    this.element = h("section", { "aria-label": "Live wall" }, h("div", { class: "wall-bar" }, this.count, this.filter, this.sizes), this.grid, this.empty);
    this.observer = new IntersectionObserver((entries) => this.#seen(entries), { rootMargin: "120px" });
    this.resizer = new ResizeObserver(() => this.#arrange());
    this.resizer.observe(this.grid);
    this.resized = () => this.#arrange();
    addEventListener("resize", this.resized);
    this.grid.addEventListener("keydown", (event) => this.#step(event));
  }

  close() {
    this.observer.disconnect();
    this.resizer.disconnect();
    removeEventListener("resize", this.resized);
  }

  show(now) {
    const known = new Set(now.cameras.map((camera) => camera.id));
    let fresh = false;
    for (const [id, tile] of this.#tiles) {
      if (known.has(id)) continue;
      this.observer.unobserve(tile.element);
      this.#inSight.delete(id);
      tile.element.remove();
      this.#tiles.delete(id);
      fresh = true;
    }
    for (const camera of now.cameras) {
      let tile = this.#tiles.get(camera.id);
      if (!tile) {
        tile = new Tile(camera.id);
        this.#tiles.set(camera.id, tile);
        this.grid.append(tile.element);
        this.observer.observe(tile.element);
        fresh = true;
      }
      tile.show(camera);
    }
    const some = now.cameras.length;
    this.count.replaceChildren(h("b", {}, `${some} ${some === 1 ? "camera" : "cameras"}`), some ? stateLine(now.cameras) : "");
    this.empty.hidden = some > 0;
    this.grid.hidden = some === 0;
    if (fresh) this.#arrange();
  }

  picture({ header, bitmap }) {
    this.#tiles.get(header.id)?.picture(bitmap, header);
  }

  point(id) {
    for (const [name, tile] of this.#tiles) tile.link.classList.toggle("on", name === id);
  }

  // "S", "M", "L", or +1 and -1.
  resize(size) {
    const names = Object.keys(SIZES);
    const here = this.#size in SIZES ? names.indexOf(this.#size) : 1;
    const next = typeof size === "string" ? size : names[Math.max(0, Math.min(2, here + size))];
    this.#size = next === this.#size && typeof size === "string" ? "auto" : next; // pressed once more: fit the window
    store("size", this.#size);
    this.#arrange();
  }

  focus(id) {
    (this.#tiles.get(id) ?? [...this.#tiles.values()][0])?.link.focus();
  }

  // The largest tiles with which all are in sight; where they would be too small, one scrolls.
  #fitting() {
    const width = this.grid.clientWidth, height = innerHeight - this.grid.getBoundingClientRect().top - scrollY - GAP;
    const count = [...this.#tiles.values()].filter((tile) => !tile.element.hidden).length;
    for (let columns = width < 700 ? 1 : 2; columns <= 16; columns += 1) {
      const tile = Math.floor((width - GAP * (columns - 1)) / columns);
      if (tile < LEAST) break;
      const caption = tile <= NARROW ? 42 : 84;
      if (Math.ceil(count / columns) * ((tile * 9) / 16 + caption + GAP) <= height) return tile;
    }
    return width < 700 ? SIZES.M : SIZES.S;
  }

  #arrange() {
    const wanted = this.filter.value.trim().toLowerCase();
    for (const [id, tile] of this.#tiles) tile.element.hidden = !id.toLowerCase().includes(wanted);
    const current = this.#size in SIZES ? this.#size : null;
    this.grid.style.setProperty("--tile", `${current ? SIZES[current] : this.#fitting()}px`);
    for (const button of this.sizes.children) button.setAttribute("aria-pressed", String(button.dataset.size === current));
    this.#look();
  }

  #seen(entries) {
    for (const entry of entries) {
      const id = entry.target.firstChild.dataset.id;
      if (entry.isIntersecting) this.#inSight.add(id);
      else this.#inSight.delete(id);
    }
    this.#look();
  }

  #look() {
    const looks = {};
    const density = Math.min(1.5, devicePixelRatio || 1);
    for (const id of this.#inSight) {
      const tile = this.#tiles.get(id);
      if (tile && !tile.element.hidden) looks[id] = Math.max(32, Math.min(1280, Math.round(tile.canvas.clientWidth * density)));
    }
    this.wall.look(looks);
  }

  #step(event) {
    const links = [...this.#tiles.values()].filter((tile) => !tile.element.hidden).map((tile) => tile.link);
    const here = links.indexOf(document.activeElement);
    if (here < 0) return;
    const top = links[here].getBoundingClientRect().top;
    const columns = links.filter((link) => Math.abs(link.getBoundingClientRect().top - links[0].getBoundingClientRect().top) < 2).length;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -here, End: links.length - 1 - here };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = links[here + steps[event.key]];
    if (next) next.focus();
    else if (top === undefined) links[0].focus();
  }
}
