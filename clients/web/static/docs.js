// The API's own description, shown: what may be asked, with which parameters, and a try of what changes nothing.

import { h } from "./dom.js";

const followed = (all, schema) => {
  const name = schema?.$ref?.split("/").at(-1);
  return name ? all.components.schemas[name] : schema ?? {};
};

function kind(all, schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map((one) => kind(all, one)).filter((one) => one !== "null").join(" or ");
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array") return `list of ${schema.items ? kind(all, schema.items) : "values"}`;
  return schema.format ? `${schema.type}, ${schema.format}` : schema.type ?? "any";
}

function fields(all, schema) {
  const { properties = {}, required = [] } = followed(all, schema);
  return table(Object.entries(properties).map(([name, one]) => [required.includes(name) ? `${name} *` : name, kind(all, one), one.description ?? ""]));
}

const table = (rows) => h("table", {}, h("tbody", {}, ...rows.map((row) => h("tr", {}, ...row.map((cell) => h("td", {}, cell))))));

function attempt(path, parameters) {
  if (/jpg|mjpg|events/.test(path)) return null;
  const inputs = parameters.filter((one) => one.in !== "header").map((one) => h("input", { name: one.name, placeholder: one.name, "aria-label": one.name, required: one.required }));
  const out = h("pre", { hidden: true, tabindex: "0" });
  const form = h("form", { class: "buttons" }, ...inputs, h("button", { class: "small" }, "Try it"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const query = new URLSearchParams();
    let url = path;
    for (const input of inputs) {
      if (url.includes(`{${input.name}}`)) url = url.replace(`{${input.name}}`, encodeURIComponent(input.value));
      else if (input.value) query.set(input.name, input.value);
    }
    const response = await fetch(query.size ? `${url}?${query}` : url);
    const text = await response.text();
    out.hidden = false;
    try {
      out.textContent = `${response.status}\n${JSON.stringify(JSON.parse(text), null, 1)}`;
    } catch {
      out.textContent = `${response.status}\n${text}`;
    }
  });
  return h("div", {}, form, out);
}

function operation(all, path, method, one) {
  const parameters = one.parameters ?? [];
  const body = one.requestBody?.content?.["application/json"]?.schema;
  const answers = Object.entries(one.responses).map(([status, answer]) => {
    const [type, content] = Object.entries(answer.content ?? {})[0] ?? ["", {}];
    return [status, answer.description ?? "", content.schema ? `${kind(all, content.schema)} · ${type}` : type];
  });
  return h("details", {},
    h("summary", {}, h("b", { class: `method ${method}` }, method.toUpperCase()), h("code", {}, path), h("span", {}, one.description ?? one.summary ?? "")),
    h("div", { class: "inside" },
      parameters.length ? table(parameters.map((each) => [each.required ? `${each.name} *` : each.name, each.in, `${kind(all, each.schema)}. ${each.description ?? ""}`])) : null,
      body ? h("div", {}, h("p", { class: "hint" }, "Body"), fields(all, body)) : null,
      h("p", { class: "hint" }, "Answers"), table(answers),
      method === "get" ? attempt(path, parameters) : null));
}

const response = await fetch("/openapi.json");
const main = document.getElementById("main");
if (!response.ok) {
  main.replaceChildren(h("p", {}, "The description needs the token: open the wall, show it once, and come back."));
} else {
  const all = await response.json();
  const groups = new Map();
  for (const [path, methods] of Object.entries(all.paths)) {
    for (const [method, one] of Object.entries(methods)) {
      const tag = one.tags?.[0] ?? "other";
      groups.set(tag, [...(groups.get(tag) ?? []), operation(all, path, method, one)]);
    }
  }
  main.replaceChildren(h("h1", {}, all.info.title), h("p", {}, all.info.description), ...[...groups].flatMap(([tag, list]) => [h("h2", {}, tag), ...list]));
}
