// The daemon's figures, asked for once a second and kept for ten minutes.

import { Refusal } from "/console/control.js";

const every = 1000; // milliseconds
const refused = 30_000; // the same, while the daemon doesn't tell this caller
export const kept = 600; // seconds

const sum = (counts) => Object.values(counts ?? {}).reduce((total, n) => total + Number(n), 0);

// bounds are a histogram's buckets as numbers.
const bounds = (histogram) => (histogram?.buckets ?? []).map(({ upperBound, count }) => ({ bound: Number(upperBound), count: Number(count) }));

// quantile estimates one of what was observed between two states of a
// histogram whose counts are cumulative, as Prometheus does: evenly spread
// within a bucket.
export function quantile(q, before, after) {
  const was = bounds(before);
  const is = bounds(after);
  const total = Number(after?.count ?? 0) - Number(before?.count ?? 0);
  if (!(total > 0) || was.length !== is.length || is.length === 0) return null;
  const rank = q * total;
  let low = 0;
  let below = 0;
  for (const [i, { bound, count }] of is.entries()) {
    const upTo = count - was[i].count;
    if (upTo >= rank && upTo > below) {
      return Number.isFinite(bound) ? low + ((bound - low) * (rank - below)) / (upTo - below) : low;
    }
    if (Number.isFinite(bound)) low = bound;
    below = upTo;
  }
  return low;
}

// sampleOf is what the charts show, out of two replies and the seconds between
// them. What can't be told is null.
function sampleOf(at, stats, before, passed) {
  const since = (of) => (before && passed > 0 ? Math.max(0, of(stats) - of(before)) / passed : null);
  return {
    at,
    streams: stats.total.connections,
    users: stats.users,
    delivered: since((s) => Number(s.total.delivered)),
    published: since((s) => Number(s.published)),
    dropped: since((s) => sum(s.total.dropped)),
    p50: before ? quantile(0.5, before.latency, stats.latency) : null,
    p99: before ? quantile(0.99, before.latency, stats.latency) : null,
  };
}

const gap = (at) => ({ at, streams: null, users: null, delivered: null, published: null, dropped: null, p50: null, p99: null });

// Figures dispatches "change" after each answer or lack of one. Its state is
// "connecting", "open", "draining", "unreachable", "unauthorized" or "denied",
// and in the last two it asks seldom, so as not to fill the daemon's log.
export class Figures extends EventTarget {
  state = "connecting";
  problem = "";
  stats = null; // the latest
  samples = []; // oldest first
  #control;
  #timer = 0;
  #asked = 0; // performance.now() of the latest
  #turn = 0;

  constructor(control) {
    super();
    this.#control = control;
    document.addEventListener("visibilitychange", () => this.start());
  }

  // start asks at once, and from then on for as long as the page is seen.
  start() {
    clearTimeout(this.#timer);
    if (!document.hidden) this.#ask(++this.#turn);
  }

  async #ask(turn) {
    const begun = performance.now();
    let state;
    let problem = "";
    let stats = null;
    try {
      const [reply, ready] = await Promise.all([this.#control.get("/v1/stats"), this.#control.ready()]);
      stats = reply;
      state = ready ? "open" : "draining";
    } catch (error) {
      problem = error.message;
      state = "unreachable";
      if (error instanceof Refusal) state = error.status === 401 ? "unauthorized" : error.status === 403 ? "denied" : "unreachable";
      if (error.reason === "STOPPING") state = "draining";
    }
    if (turn !== this.#turn) return;
    if (stats) this.#take(stats, begun);
    this.state = state;
    this.problem = problem;
    this.dispatchEvent(new Event("change"));
    const wait = state === "unauthorized" || state === "denied" ? refused : every;
    if (!document.hidden) this.#timer = setTimeout(() => this.#ask(turn), Math.max(0, wait - (performance.now() - begun)));
  }

  #take(stats, asked) {
    const at = Date.now() / 1000;
    const passed = (asked - this.#asked) / 1000;
    // After a pause, or another daemon's start, the line is not to go on.
    const goesOn = this.stats?.startedAt === stats.startedAt && passed < 5;
    if (!goesOn && this.samples.length > 0) this.samples.push(gap(this.samples.at(-1).at + 0.5));
    this.samples.push(sampleOf(at, stats, goesOn ? this.stats : null, passed));
    while (this.samples[0].at < at - kept) this.samples.shift();
    this.stats = stats;
    this.#asked = asked;
  }
}
