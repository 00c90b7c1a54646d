// Numbers and times as people read them.

export function duration(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "–";
  const s = Math.round(seconds);
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${String(s % 60).padStart(2, "0")}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${String(Math.floor(s / 60) % 60).padStart(2, "0")}m`;
  return `${Math.floor(s / 86400)}d ${Math.floor(s / 3600) % 24}h`;
}

export function ago(unixMs, now = Date.now()) {
  return unixMs ? duration(Math.max(0, (now - unixMs) / 1000)) : "–";
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0, value = count || 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function number(value, digits = 3) {
  return typeof value === "number" && Number.isFinite(value)
    ? value.toLocaleString("en", {minimumFractionDigits: digits, maximumFractionDigits: digits}) : "–";
}

export const whole = (value) => number(value ?? 0, 0);
export const count = (n, one, many = `${one}s`) => `${whole(n)} ${n === 1 ? one : many}`;
export const percent = (share) => `${number(100 * (share || 0), 0)}%`;
export const amount = (value) => number(value || 0, Number.isInteger(value) ? 0 : 1);

const pad = (n) => String(n).padStart(2, "0");
export function clock(unixMs, seconds = true) {
  if (!unixMs) return "–";
  const d = new Date(unixMs);
  return `${pad(d.getHours())}:${pad(d.getMinutes())}${seconds ? `:${pad(d.getSeconds())}` : ""}`;
}
export function moment(unixMs) {
  if (!unixMs) return "–";
  const d = new Date(unixMs), today = new Date().toDateString() === d.toDateString();
  return today ? clock(unixMs) : `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${clock(unixMs, false)}`;
}

export const words = (name) => name.replaceAll("_", " ");
export const lossOf = (loss) => (loss.tokens > 0 ? loss.loss_sum / loss.tokens : NaN);
export const isOver = (job) => ["stopped", "succeeded", "failed", "cancelled"].includes(job.state);
