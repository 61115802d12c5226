// The REST API. Every error is a Problem with one line to show.

export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

const path = (id, rest = "") => `/v1/streams/${encodeURIComponent(id)}${rest}`;

async function call(method, url, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(url, options);
  } catch {
    throw new Problem(0, "the server does not answer");
  }
  if (response.status === 204) return null;
  const content = await response.json().catch(() => null);
  if (!response.ok) throw new Problem(response.status, content?.detail || response.statusText);
  return content;
}

export const streams = () => call("GET", "/v1/streams");
export const stream = (id) => call("GET", path(id));
export const history = (id) => call("GET", path(id, "/history"));
export const add = (options) => call("POST", "/v1/streams", options);
export const change = (id, options) => call("PATCH", path(id), options);
export const remove = (id) => call("DELETE", path(id));
export const pause = (id) => call("POST", path(id, "/pause"));
export const resume = (id) => call("POST", path(id, "/resume"));
export const plan = () => call("GET", "/v1/plan");
export const login = (token) => call("POST", "/v1/session", { token });
export const zones = (id) => call("GET", path(id, "/zones"));
export const putZones = (id, layout) => call("PUT", path(id, "/zones"), layout);
