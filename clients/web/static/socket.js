// The one WebSocket: numbers once a second, pictures with their boxes of the cameras that are looked at.
// Events: "now" (detail: the numbers), "picture" (detail: {header, bitmap}), "state" (detail: whether it is connected).

const decoder = new TextDecoder();

export class Wall extends EventTarget {
  constructor() {
    super();
    this.looks = {};
    this.now = null;
    this.connected = false;
    this.pauseMs = 500;
    document.addEventListener("visibilitychange", () => this.#tell());
  }

  open() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/wall`);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.pauseMs = 500;
      this.#state(true);
      this.#tell();
    };
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.#numbers(data) : this.#picture(data));
    socket.onclose = () => {
      this.#state(false);
      setTimeout(() => this.open(), this.pauseMs);
      this.pauseMs = Math.min(8000, this.pauseMs * 2);
    };
  }

  // The cameras that are shown now, and how wide: {"cam01": 320}. Nothing is sent for what is not shown.
  look(looks) {
    if (JSON.stringify(looks) === JSON.stringify(this.looks)) return;
    this.looks = looks;
    this.#tell();
  }

  #tell() {
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    this.socket.send(JSON.stringify({ look: document.hidden ? {} : this.looks }));
  }

  #numbers(data) {
    this.now = JSON.parse(data);
    this.dispatchEvent(new CustomEvent("now", { detail: this.now }));
  }

  async #picture(data) {
    const length = new DataView(data).getUint32(0);
    const header = JSON.parse(decoder.decode(new Uint8Array(data, 4, length)));
    let bitmap;
    try {
      bitmap = await createImageBitmap(new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" }));
    } catch {
      return; // a picture that cannot be decoded is not shown
    }
    this.dispatchEvent(new CustomEvent("picture", { detail: { header, bitmap } }));
    bitmap.close();
  }

  #state(connected) {
    if (connected === this.connected) return;
    this.connected = connected;
    this.dispatchEvent(new CustomEvent("state", { detail: connected }));
  }
}
