// What happens at a camera's zones and lines, as it happens.

import { h } from "./dom.js";

const KINDS = ["enter", "leave", "dwell", "cross"];
const SHOWN = 40;

export class Events {
  constructor(id, onEvent) {
    this.list = h("ol", { class: "list events", tabindex: "0", "aria-label": "Events, newest first" });
    this.none = h("p", { class: "hint" }, "Nothing yet.");
    this.element = h("section", { class: "card", "aria-label": "Events" }, h("header", {}, h("h2", {}, "Events")), this.none, this.list);
    this.list.hidden = true;
    this.source = new EventSource(`/v1/events?newest=20&camera=${encodeURIComponent(id)}`);
    for (const kind of KINDS) {
      this.source.addEventListener(kind, ({ data }) => {
        this.#add(JSON.parse(data));
        onEvent();
      });
    }
  }

  close() {
    this.source.close();
  }

  #add(event) {
    this.none.hidden = true;
    this.list.hidden = false;
    const time = new Date(event.time).toLocaleTimeString([], { hour12: false });
    this.list.prepend(h("li", {}, h("span", { class: "grow" }, `${event.class} ${event.object} ${said(event)}`), h("small", { class: "num" }, time)));
    while (this.list.children.length > SHOWN) this.list.lastChild.remove();
  }
}

function said(event) {
  const seconds = event.inside_s === null ? "" : ` after ${event.inside_s.toFixed(1)} s`;
  if (event.kind === "enter") return `entered ${event.zone}`;
  if (event.kind === "dwell") return `stays in ${event.zone}${seconds}`;
  if (event.kind === "cross") return `crossed ${event.zone}, ${event.direction}`;
  return event.reason === "left" ? `left ${event.zone}${seconds}` : `was lost in ${event.zone}${seconds}`;
}
