// Puts the page together: one connection, one view at a time, the keys.

import * as api from "./api.js";
import { CameraView } from "./camera.js";
import { attribute, byId, h, icon, store } from "./dom.js";
import { addCamera, askToken, showKeys } from "./forms.js";
import { Header } from "./header.js";
import { Wall } from "./socket.js";
import { WallView } from "./wall.js";

const wall = new Wall();
let view = null;
let camera = null; // the one whose page is open
const header = new Header((id) => view?.point(id));

function route() {
  const match = /^#\/camera\/(.+)$/.exec(location.hash);
  const before = camera;
  camera = match ? decodeURIComponent(match[1]) : null;
  if (view && before === camera) return;
  view?.close();
  view = camera ? new CameraView(wall, camera) : new WallView(wall, addCamera);
  byId("main").replaceChildren(view.element);
  document.title = camera ? `${camera} · Fleet` : "Fleet · live wall";
  scrollTo(0, 0);
  if (wall.now) view.show(wall.now);
  if (camera) byId("main").focus({ preventScroll: true });
  else if (before) view.focus(before);
}

wall.addEventListener("now", ({ detail }) => {
  header.show(detail);
  view.show(detail);
});
wall.addEventListener("picture", ({ detail }) => view.picture(detail));
wall.addEventListener("state", async ({ detail }) => {
  byId("lost").hidden = detail;
  document.body.classList.toggle("offline", !detail);
});

function showTheme() {
  const dark = document.documentElement.dataset.theme === "dark";
  byId("theme-button").replaceChildren(icon(dark ? "sun" : "moon"));
  attribute(byId("theme-button"), "aria-label", `Change to the ${dark ? "light" : "dark"} theme`);
}

function toggleTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  store("theme", next);
  showTheme();
}

const KEYS = {
  a: addCamera, t: toggleTheme, "?": showKeys,
  "/": () => view.filter?.focus(), "+": () => view.resize?.(1), "-": () => view.resize?.(-1), p: () => view.toggle?.(),
  Escape: () => { if (camera) location.hash = "#/"; },
  ArrowLeft: () => step(0), ArrowRight: () => step(1),
};

function step(which) {
  const next = camera && view.neighbours?.[which];
  if (next) location.hash = `#/camera/${encodeURIComponent(next)}`;
}

addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, dialog, .zones, .handle");
  if (event.key === "Escape" && event.target.matches("input[type=search]")) event.target.blur();
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  if (event.key.startsWith("Arrow") && !camera) return; // the grid's own
  event.preventDefault();
  KEYS[event.key]();
});
addEventListener("hashchange", route);
byId("add-button").addEventListener("click", addCamera);
byId("theme-button").addEventListener("click", toggleTheme);
byId("alerts").append(h("p", { class: "none" }, "Nothing is wrong."));
byId("alerts").addEventListener("click", () => byId("alerts").hidePopover());
new MutationObserver(showTheme).observe(document.documentElement, { attributeFilter: ["data-theme"] });
showTheme();
route();

async function begin() {
  try {
    await api.streams();
  } catch (problem) {
    if (problem.status === 401) {
      askToken(begin);
      return;
    }
  }
  wall.open();
}
begin();
