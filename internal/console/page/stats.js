// The daemon's stats, requested once a second and kept for ten minutes.

import { Rejection } from "/console/control.js";

const interval = 1000; // milliseconds
const deniedInterval = 30_000; // milliseconds, while the caller lacks a valid token
export const keptSeconds = 600;

const sum = (counts) => Object.values(counts ?? {}).reduce((total, n) => total + Number(n), 0);

// bucketsOf returns a histogram's buckets as numbers.
const bucketsOf = (histogram) => (histogram?.buckets ?? []).map(({ upperBound, count }) => ({ bound: Number(upperBound), count: Number(count) }));

// quantile estimates a quantile of the values observed between two states of a
// histogram with cumulative counts. Like Prometheus, it assumes that values are
// spread evenly within a bucket. It returns null if there are no values.
export function quantile(q, before, after) {
  const old = bucketsOf(before);
  const current = bucketsOf(after);
  const total = Number(after?.count ?? 0) - Number(before?.count ?? 0);
  if (!(total > 0) || old.length !== current.length || current.length === 0) return null;
  const rank = q * total;
  let low = 0;
  let below = 0;
  for (const [i, { bound, count }] of current.entries()) {
    const upTo = count - old[i].count;
    if (upTo >= rank && upTo > below) {
      return Number.isFinite(bound) ? low + ((bound - low) * (rank - below)) / (upTo - below) : low;
    }
    if (Number.isFinite(bound)) low = bound;
    below = upTo;
  }
  return low;
}

// sampleOf returns the values of the charts, computed from two replies and the
// seconds between them. Unknown values are null.
function sampleOf(at, stats, before, passed) {
  const perSecond = (of) => (before && passed > 0 ? Math.max(0, of(stats) - of(before)) / passed : null);
  return {
    at,
    streams: stats.total.connections,
    users: stats.users,
    delivered: perSecond((s) => Number(s.total.delivered)),
    published: perSecond((s) => Number(s.published)),
    dropped: perSecond((s) => sum(s.total.dropped)),
    p50: before ? quantile(0.5, before.latency, stats.latency) : null,
    p99: before ? quantile(0.99, before.latency, stats.latency) : null,
  };
}

const gap = (at) => ({ at, streams: null, users: null, delivered: null, published: null, dropped: null, p50: null, p99: null });

// Stats dispatches "change" after each request, whether it succeeded or not. The
// state is "connecting", "open", "draining", "unreachable", "unauthorized" or
// "denied". In the last two states it rarely sends requests, to keep the daemon's
// log short.
export class Stats extends EventTarget {
  state = "connecting";
  problem = "";
  latest = null; // the newest reply
  samples = []; // oldest first
  #control;
  #timer = 0;
  #requested = 0; // performance.now() of the newest reply's request
  #turn = 0; // number of the current chain of requests

  constructor(control) {
    super();
    this.#control = control;
    document.addEventListener("visibilitychange", () => this.start());
  }

  // start sends a request immediately, and repeats it while the page is visible.
  start() {
    clearTimeout(this.#timer);
    if (!document.hidden) this.#request(++this.#turn);
  }

  async #request(turn) {
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
      if (error instanceof Rejection) state = error.status === 401 ? "unauthorized" : error.status === 403 ? "denied" : "unreachable";
      if (error.reason === "STOPPING") state = "draining";
    }
    if (turn !== this.#turn) return;
    if (stats) this.#add(stats, begun);
    this.state = state;
    this.problem = problem;
    this.dispatchEvent(new Event("change"));
    const wait = state === "unauthorized" || state === "denied" ? deniedInterval : interval;
    if (!document.hidden) this.#timer = setTimeout(() => this.#request(turn), Math.max(0, wait - (performance.now() - begun)));
  }

  #add(stats, requested) {
    const at = Date.now() / 1000;
    const passed = (requested - this.#requested) / 1000;
    // A pause or a restart of the daemon interrupts the lines of the charts.
    const continuous = this.latest?.startedAt === stats.startedAt && passed < 5;
    if (!continuous && this.samples.length > 0) this.samples.push(gap(this.samples.at(-1).at + 0.5));
    this.samples.push(sampleOf(at, stats, continuous ? this.latest : null, passed));
    while (this.samples[0].at < at - keptSeconds) this.samples.shift();
    this.latest = stats;
    this.#requested = requested;
  }
}
