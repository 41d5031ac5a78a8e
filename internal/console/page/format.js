// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const none = "–";

const known = (n) => n !== null && n !== undefined && Number.isFinite(n);

export function count(n) {
  if (!known(n)) return none;
  return n < 1e6 ? whole.format(n) : short.format(n);
}

export function rate(n) {
  if (!known(n)) return none;
  return n === 0 || n >= 10 ? count(n) : n.toFixed(1);
}

export function seconds(s) {
  if (!known(s)) return none;
  const fit = (n) => n.toFixed(n < 9.95 ? 1 : 0);
  if (s < 1e-3) return `${fit(s * 1e6)} µs`;
  if (s < 1) return `${fit(s * 1e3)} ms`;
  return `${fit(s)} s`;
}

export function bytes(n) {
  if (!known(n)) return none;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
}

// lasting is a time span in its two largest units.
export function lasting(milliseconds) {
  let s = Math.max(0, Math.floor(milliseconds / 1000));
  const parts = [];
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const n = Math.floor(s / size);
    s -= n * size;
    if (n > 0) parts.push(`${n} ${unit}`);
    if (parts.length > 0 && unit === "min" && s > 0 && parts.length < 2 && n >= 5) break;
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}

export const clock = (date) => date.toLocaleTimeString("en-GB");

export const streams = (n) => `${count(n)} ${n === 1 ? "stream" : "streams"}`;
