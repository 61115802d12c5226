// What the figures are called.

export const STATES = {
  connecting: "connecting", live: "live", stalled: "no picture comes", backing_off: "lost, tried again soon",
  ended: "ended", failed: "failed", paused: "paused",
};

// What becomes of a frame, in the order in which it is drawn.
export const FATES = [
  ["yolo12n", "inferred, n"], ["yolo12m", "inferred, m"], ["yolo12x", "inferred, x"],
  ["similar", "looks the same"], ["too_soon", "not its turn yet"], ["superseded", "a newer one came"],
  ["stale", "too old"], ["failed", "failed"],
];

export const TIERS = ["yolo12n", "yolo12m", "yolo12x"];

// A frame a second by fate, of one camera's rates.
export function fates(rates) {
  return FATES.map(([key, label]) => ({ key, label, fps: rates.inferred[key] ?? rates.skipped[key] ?? 0 }));
}

export const inferredOf = (rates) => TIERS.reduce((sum, tier) => sum + rates.inferred[tier], 0);

// Why most frames are skipped, in a few words.
export function why(camera) {
  if (!camera.rates || camera.state !== "live") return "";
  const skipped = fates(camera.rates).filter((fate) => !TIERS.includes(fate.key) && fate.fps > 0);
  if (camera.rates.undecoded > camera.rates.decoded) return "mostly left undecoded";
  if (!skipped.length) return "every frame inferred";
  return `mostly ${skipped.reduce((a, b) => (b.fps > a.fps ? b : a)).label}`;
}

export const letter = (tier) => (tier ? tier.replace("yolo12", "") : "");
