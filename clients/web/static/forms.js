// The dialogs: add and change a camera, remove it, the token, the keys.

import * as api from "./api.js";
import { h, say, text } from "./dom.js";

// Opens a dialog; `submit` gets the form's data and may throw a Problem, whose line is shown.
export function ask({ title, lead, fields = [], action, danger = false, submit }) {
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  const go = h("button", { class: danger ? "danger" : "primary", type: "submit" }, action);
  const form = h("form", { method: "dialog" }, h("h1", {}, title), lead ? h("p", {}, lead) : null, ...fields, wrong,
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go));
  const dialog = h("dialog", { "aria-label": title }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    wrong.hidden = true;
    try {
      await submit(new FormData(form));
      dialog.close();
    } catch (problem) {
      text(wrong, problem.message);
      wrong.hidden = false;
    } finally {
      go.disabled = false;
    }
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

function field(label, name, options = {}, value = "") {
  const input = h("input", { name, autocomplete: "off", spellcheck: "false", ...options });
  input.value = value ?? "";
  return h("label", { class: "field" }, label, input);
}

function tierField(value) {
  const select = h("select", { name: "model" }, ...["", "yolo12n", "yolo12m", "yolo12x"].map((tier) => h("option", { value: tier }, tier || "the fleet's default")));
  select.value = value ?? "";
  return h("label", { class: "field" }, "Tier", select);
}

function optionFields(options = {}) {
  return [
    h("div", { class: "pair" },
      field("Inferences a second at most", "max_fps", { type: "number", min: "0.1", max: "240", step: "any", placeholder: "default" }, options.max_fps),
      tierField(options.model)),
    h("div", { class: "pair" },
      field("Weight", "weight", { type: "number", min: "0.01", max: "100", step: "any", placeholder: "1" }, options.weight),
      field("Least score", "confidence", { type: "number", min: "0", max: "1", step: "any", placeholder: "default" }, options.confidence)),
    h("label", { class: "check" }, h("input", { type: "checkbox", name: "loop", checked: options.loop ? true : null }), "Start a file again when it ends"),
  ];
}

// What the form says of the options; an empty field takes the default, and is named only where it must be forgotten.
function optionsOf(data, before) {
  const options = {};
  for (const name of ["max_fps", "weight", "confidence", "model"]) {
    const value = data.get(name);
    if (value !== "") options[name] = name === "model" ? value : Number(value);
    else if (before && name in before) options[name] = name === "weight" ? 1 : null;
  }
  options.loop = data.get("loop") === "on";
  return options;
}

export async function addCamera() {
  const lead = h("span", {}, "It runs at once, and is kept over a restart.");
  ask({
    title: "Add camera",
    lead,
    fields: [
      field("Name", "id", { required: true, maxlength: "64", pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", placeholder: "yard", title: "letters, digits, . _ -" }),
      field("Source", "source", { required: true, maxlength: "2048", placeholder: "rtsp://viewer:${CAM_PASSWORD}@192.168.1.20/stream1" }),
      ...optionFields(),
    ],
    action: "Add camera",
    submit: async (data) => {
      const id = data.get("id");
      await api.add({ id, source: data.get("source"), ...optionsOf(data) });
      say(`camera ${id} was added`);
      return id;
    },
  });
  const plan = await api.plan().catch(() => null);
  if (plan && plan.reason) text(lead, `${plan.fits ? "There is room, but not for all at their full rates" : "There is no room"}: ${plan.reason}.`);
}

export function changeCamera(stream) {
  ask({
    title: `Change ${stream.id}`,
    lead: "The camera begins anew with these; the others are not disturbed.",
    fields: [field("Source", "source", { maxlength: "2048", placeholder: `${stream.source} (stays if left empty)` }), ...optionFields(stream.options)],
    action: "Change",
    submit: async (data) => {
      const options = optionsOf(data, stream.options);
      if (data.get("source")) options.source = data.get("source");
      await api.change(stream.id, options);
      say(`camera ${stream.id} was changed`);
    },
  });
}

export function removeCamera(id, then) {
  ask({
    title: `Remove ${id}?`,
    lead: "Its picture and its numbers go. The camera itself is not touched.",
    action: "Remove",
    danger: true,
    submit: async () => {
      await api.remove(id);
      say(`camera ${id} was removed`);
      then();
    },
  });
}

export function askToken(then) {
  if (document.querySelector("dialog[data-token]")) return;
  const dialog = ask({
    title: "Who is there?",
    lead: "This wall asks for its token once.",
    fields: [field("Token", "token", { type: "password", required: true, autocomplete: "current-password" })],
    action: "Continue",
    submit: async (data) => {
      await api.login(data.get("token"));
      then();
    },
  });
  dialog.dataset.token = "";
}

export function showKeys() {
  const keys = [["← ↑ → ↓", "from camera to camera"], ["Enter", "open the camera"], ["Esc", "back to the wall"], ["← →", "on a camera's page: the one before, the next"], ["a", "add a camera"], ["p", "on a camera's page: pause or resume"], ["+ −", "larger, smaller tiles"], ["/", "filter by name"], ["t", "dark or light"]];
  const dialog = h("dialog", { "aria-label": "Keys" }, h("form", { method: "dialog" }, h("h1", {}, "Keys"),
    h("dl", { class: "keys" }, ...keys.flatMap(([key, meaning]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, meaning)])),
    h("div", { class: "buttons" }, h("button", { class: "primary" }, "Close"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
