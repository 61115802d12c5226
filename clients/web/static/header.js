// The top: who spends the inference budget, what runs it, what was saved, what is wrong.

import { attribute, byId, h, number, percent, say, text } from "./dom.js";
import { STATES } from "./words.js";

export class Header {
  #told = "";
  #segments = new Map();
  #now = null;
  #pointed = null;

  // `onPoint` hears of the camera whose part of the budget is pointed at, or null.
  constructor(onPoint) {
    this.bar = byId("budget-bar");
    const point = (id) => {
      this.#pointed = id;
      onPoint(id);
      if (this.#now) this.#budget(this.#now);
    };
    this.bar.addEventListener("pointerover", (event) => point(event.target.dataset?.id ?? null));
    this.bar.addEventListener("pointerleave", () => point(null));
    this.bar.addEventListener("click", (event) => {
      if (event.target.dataset?.id) location.hash = `#/camera/${encodeURIComponent(event.target.dataset.id)}`;
    });
  }

  show(now) {
    this.#now = now;
    this.#budget(now);
    const precision = now.precision === "unknown" ? "" : now.precision;
    const busy = now.busy_percent === null ? "" : `, ${now.busy_percent} % busy`;
    byId("f-device").replaceChildren(now.device, h("small", {}, ` ${precision}${busy}`));
    text(byId("f-batch"), number(now.mean_batch, 2));
    text(byId("f-saved"), percent(now.saved));
    const range = now.audit.interval_95;
    byId("f-missed").replaceChildren(percent(now.audit.miss_rate), h("small", {}, range ? ` of ${now.audit.frames}` : ""));
    if (range) attribute(byId("f-missed"), "title", `${percent(range[0])} to ${percent(range[1])} with 95 % confidence, ${now.audit.frames} frames audited`);
    this.#alerts(now.alerts);
  }

  #budget({ budget, cameras }) {
    const all = budget.ms_per_s ?? Math.max(1, budget.spent_ms_per_s);
    const spenders = cameras.filter((camera) => camera.spends_ms_per_s > 0);
    const whole = Math.max(all, budget.spent_ms_per_s, 1);
    const pointed = cameras.find((camera) => camera.id === this.#pointed);
    const shown = pointed ? `${pointed.id}: ${number(pointed.spends_ms_per_s, 0)} ms/s` : `${number(budget.spent_ms_per_s, 0)} of ${number(budget.ms_per_s, 0)} ms/s`;
    text(byId("budget-text"), shown);
    for (const [id, segment] of this.#segments) {
      if (!spenders.some((camera) => camera.id === id)) {
        segment.remove();
        this.#segments.delete(id);
      }
    }
    for (const camera of spenders) {
      if (!this.#segments.has(camera.id)) {
        const segment = h("i", { "data-id": camera.id });
        this.#segments.set(camera.id, segment);
        this.bar.append(segment);
      }
      const segment = this.#segments.get(camera.id);
      segment.style.width = `${(camera.spends_ms_per_s / whole) * 100}%`;
      segment.classList.toggle("on", camera.id === this.#pointed);
      attribute(segment, "title", `${camera.id}: ${number(camera.spends_ms_per_s, 0)} ms/s`);
    }
    this.bar.classList.toggle("over", budget.spent_ms_per_s > all * 1.02);
    const top = [...spenders].sort((a, b) => b.spends_ms_per_s - a.spends_ms_per_s).slice(0, 3);
    const who = top.map((camera) => `${camera.id} ${number(camera.spends_ms_per_s, 0)}`).join(", ");
    attribute(this.bar, "aria-label", `${number(budget.spent_ms_per_s, 0)} of ${number(budget.ms_per_s, 0)} GPU-milliseconds a second are spent${who ? `, most by ${who}` : ""}`);
  }

  #alerts(alerts) {
    const key = JSON.stringify(alerts);
    if (key === this.#told) return;
    const first = this.#told === "";
    const before = new Set(first ? [] : JSON.parse(this.#told).map((alert) => alert.camera + alert.text));
    this.#told = key;
    const badge = byId("alerts-count");
    badge.hidden = !alerts.length;
    text(badge, String(alerts.length));
    badge.classList.toggle("bad", alerts.some((alert) => alert.level === "bad"));
    attribute(byId("alerts-button"), "aria-label", alerts.length ? `${alerts.length} ${alerts.length === 1 ? "alert" : "alerts"}` : "No alerts");
    byId("alerts").replaceChildren(...(alerts.length ? alerts.map(row) : [h("p", { class: "none" }, "Nothing is wrong.")]));
    const fresh = alerts.filter((alert) => !before.has(alert.camera + alert.text));
    if (fresh.length) say(fresh.map((alert) => `${alert.camera ?? ""} ${alert.text}`).join(". "));
  }
}

function row(alert) {
  const content = [h("i", { class: `dot ${alert.level}` }), h("span", {}, alert.camera ? h("b", {}, `${alert.camera} `) : null, alert.text)];
  if (!alert.camera) return h("p", { class: "alert" }, ...content);
  return h("a", { class: "alert", href: `#/camera/${encodeURIComponent(alert.camera)}` }, ...content);
}

// "8 cameras, all live" or what is not.
export function stateLine(cameras) {
  const others = cameras.filter((camera) => camera.state !== "live");
  if (!others.length) return ", all live";
  const counts = new Map();
  for (const camera of others) counts.set(camera.state, (counts.get(camera.state) ?? 0) + 1);
  return ` · ${cameras.length - others.length} live, ${[...counts].map(([state, count]) => `${count} ${STATES[state].split(",")[0]}`).join(", ")}`;
}
