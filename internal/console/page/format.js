// Formats numbers and times for people.

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
  return Number.isInteger(n) || n >= 10 ? count(n) : n.toFixed(1);
}

export function seconds(s) {
  if (!known(s)) return none;
  if (s === 0) return "0 s";
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

// duration formats a time span in its two largest units, such as "2 d 4 h". Below
// an hour, it uses one unit.
export function duration(milliseconds) {
  const s = Math.max(0, Math.floor(milliseconds / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  const [unit, size, less, part] = s < 86400 ? ["h", 3600, "min", 60] : ["d", 86400, "h", 3600];
  const rest = Math.floor((s % size) / part);
  return `${Math.floor(s / size)} ${unit}${rest > 0 ? ` ${rest} ${less}` : ""}`;
}

export const clock = (date) => date.toLocaleTimeString("en-GB");

export const streams = (n) => `${count(n)} ${n === 1 ? "stream" : "streams"}`;
