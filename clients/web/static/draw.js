// A picture, its boxes, ids and trails on one canvas. It is drawn when a picture comes, and not in between.

const COLOURS = ["#8fe0c7", "#ffd27a", "#9cc3ff", "#ffab91", "#d5b3ff", "#d9e08a"];
const TRAIL_S = 6;
const JUMP = 0.2; // of the picture: not the same object

export function colour(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.charCodeAt(0)) >>> 0;
  return COLOURS[sum % COLOURS.length];
}

// Where the objects of one camera have been lately: points at their feet, 0..1 of the picture.
export class Trails {
  #tracks = new Map();
  #newest = 0;

  add(header) {
    const time = header.time_s ?? 0;
    if (time < this.#newest) this.#tracks.clear(); // the camera began anew
    this.#newest = time;
    for (const [track, , x1, , x2, y2] of header.objects) {
      if (!track) continue;
      const point = { time, x: (x1 + x2) / 2, y: y2 };
      const points = this.#tracks.get(track) ?? [];
      const last = points.at(-1);
      if (last && Math.hypot(last.x - point.x, last.y - point.y) > JUMP) points.length = 0;
      points.push(point);
      this.#tracks.set(track, points);
    }
    for (const [track, points] of this.#tracks) {
      while (points.length && time - points[0].time > TRAIL_S) points.shift();
      if (!points.length) this.#tracks.delete(track);
    }
  }

  of(track) {
    return this.#tracks.get(track) ?? [];
  }
}

// Fits the canvas to its size on the screen; a canvas as large as the screen shows needs no more memory.
export function fit(canvas, ratio) {
  const scale = Math.min(2, devicePixelRatio || 1);
  const width = Math.max(1, Math.round(canvas.clientWidth * scale));
  const height = Math.max(1, Math.round(ratio ? width / ratio : canvas.clientHeight * scale));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  return scale;
}

export function paint(canvas, bitmap, header, trails, { names = false, fitted } = {}) {
  const scale = fitted ?? fit(canvas);
  const context = canvas.getContext("2d", { alpha: false });
  const place = placed(bitmap, canvas);
  context.fillStyle = "#07090b";
  if (place.x || place.y) context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, place.x, place.y, place.width, place.height);
  context.lineJoin = context.lineCap = "round";
  for (const object of header.objects) trail(context, place, scale, trails.of(object[0]), colour(object[1]));
  for (const object of header.objects) box(context, place, scale, object);
  labels(context, place, scale, header.objects, names);
}

function placed(bitmap, canvas) {
  const factor = Math.min(canvas.width / bitmap.width, canvas.height / bitmap.height);
  const width = bitmap.width * factor, height = bitmap.height * factor;
  return { x: Math.round((canvas.width - width) / 2), y: Math.round((canvas.height - height) / 2), width, height };
}

function trail(context, place, scale, points, stroke) {
  if (points.length < 2) return;
  context.strokeStyle = stroke;
  context.lineWidth = 1.6 * scale;
  for (let i = 1; i < points.length; i++) {
    context.globalAlpha = 0.6 * (i / points.length);
    context.beginPath();
    context.moveTo(place.x + points[i - 1].x * place.width, place.y + points[i - 1].y * place.height);
    context.lineTo(place.x + points[i].x * place.width, place.y + points[i].y * place.height);
    context.stroke();
  }
  context.globalAlpha = 1;
}

function box(context, place, scale, [track, name, x1, y1, x2, y2]) {
  const x = place.x + x1 * place.width, y = place.y + y1 * place.height;
  const width = (x2 - x1) * place.width, height = (y2 - y1) * place.height;
  context.globalAlpha = track ? 0.95 : 0.45;
  context.strokeStyle = "rgb(0 0 0 / 45%)";
  context.lineWidth = 2.6 * scale;
  context.beginPath();
  context.roundRect(x, y, width, height, Math.min(3 * scale, width / 3, height / 3));
  context.stroke();
  context.strokeStyle = colour(name);
  context.lineWidth = 1.3 * scale;
  context.stroke();
  context.globalAlpha = 1;
}

// Ids, and names where there is room; the largest first, and none over another.
function labels(context, place, scale, objects, names) {
  const taken = [];
  const size = (names ? 11.5 : 9.5) * scale;
  context.font = `600 ${size}px Inter, sans-serif`;
  context.textBaseline = "middle";
  const area = ([, , x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
  for (const [track, name, x1, y1, x2] of objects.filter((one) => one[0]).sort((a, b) => area(b) - area(a))) {
    const label = names && (x2 - x1) * place.width > 26 * scale ? `${name} ${track}` : `${track}`;
    const width = context.measureText(label).width + 6 * scale, height = size + 4 * scale;
    const left = Math.min(place.x + place.width - width, place.x + x1 * place.width);
    const top = Math.max(place.y, place.y + y1 * place.height - height - scale);
    if (taken.some((one) => left < one.left + one.width && one.left < left + width && top < one.top + height && one.top < top + height)) continue;
    taken.push({ left, top, width });
    context.fillStyle = "rgb(7 9 11 / 62%)";
    context.beginPath();
    context.roundRect(left, top, width, height, 3 * scale);
    context.fill();
    context.fillStyle = colour(name);
    context.fillText(label, left + 3 * scale, top + height / 2 + 0.5 * scale);
  }
}
