import { distinct } from "./topics.js";
import type { PealdOptions } from "./types.js";

/** The options of a client, after their checks. */
export interface Settings {
  /** Without the query parameters that the client sets itself. */
  url: URL;
  topics: string[];
  position: string;
  query: Readonly<Record<string, string>>;
  /** The group of clients that share a stream; undefined for a stream of its own. */
  group: string | undefined;
  envelope: boolean;
  heartbeat: number;
  firstByte: number;
  probe: number;
}

/** The types that the options may have. */
const types: Readonly<Record<keyof PealdOptions, readonly string[]>> = {
  topics: ["object"], token: ["string", "function"], position: ["string"], since: ["string"], rewind: ["number"],
  shared: ["boolean", "string"], envelope: ["boolean"], signal: ["object"], credentials: ["string"], headers: ["object"],
  heartbeat: ["number"], firstByte: ["number"], probe: ["number"], fetch: ["function"],
};

/** Checks the options and fills in the defaults. */
export function settingsOf(address: string | URL, options: PealdOptions): Settings {
  const base = (globalThis as { location?: { href: string } }).location?.href;
  let url: URL;
  try {
    url = new URL(address, base);
  } catch {
    throw new TypeError(`peald: invalid URL ${JSON.stringify(String(address))}; want ${base ? "a URL" : "an absolute URL"}`);
  }
  for (const [name, value] of Object.entries(options)) {
    const want = types[name as keyof PealdOptions];
    if (!want) throw new TypeError(`peald: unknown option ${name}`);
    if (value != null && !want.includes(typeof value)) {
      throw new TypeError(`peald: ${name} is a ${typeof value}; want ${name === "topics" ? "an array" : want.join(" or ")}`);
    }
  }
  const topics = distinct([...url.searchParams.getAll("topic"), ...(options.topics ?? [])]);
  for (const name of ["topic", "envelope", "wait", "last_event_id", "since", "rewind"]) url.searchParams.delete(name);
  url.hash = "";

  const { since, rewind, shared = false, envelope = true } = options;
  const position = options.position ?? "";
  if (!/^[\x21-\x7e]*$/.test(position)) {
    throw new TypeError(`peald: invalid position ${JSON.stringify(position)}; want the position of a client or the id of an event`);
  }
  if (since !== undefined && rewind !== undefined) throw new TypeError("peald: since and rewind exclude each other; want one of them");
  if (rewind !== undefined && !(Number.isInteger(rewind) && rewind >= 1 && rewind <= 1000)) {
    throw new RangeError(`peald: rewind is ${rewind}; want an integer from 1 to 1000`);
  }
  if (shared !== false && !envelope) throw new TypeError("peald: a shared stream requires envelopes; omit envelope, or set it to true");

  return {
    url,
    topics,
    position,
    query: { ...(since !== undefined && { since }), ...(rewind !== undefined && { rewind: String(rewind) }) },
    group: shared === false ? undefined : `peald ${shared === true ? "" : shared} ${url.href}`,
    envelope,
    heartbeat: duration("heartbeat", options.heartbeat, 15_000),
    firstByte: duration("firstByte", options.firstByte, 10_000),
    probe: duration("probe", options.probe, 300_000),
  };
}

function duration(name: string, value: number | undefined, standard: number): number {
  if (value === undefined) return standard;
  if (!(value > 0)) throw new RangeError(`peald: ${name} is ${value}; want a number of milliseconds above 0`);
  return value;
}
