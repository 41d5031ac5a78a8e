import type { Environment } from "./env.js";
import { Failure, failureOf } from "./errors.js";
import type { Tokens } from "./token.js";
import type { PealdOptions } from "./types.js";

/** From where a stream or a poll starts. */
export interface Start {
  /** The position to resume from; empty for none. */
  position: string;
  /** The query parameters since and rewind, which count without a position. */
  query: Readonly<Record<string, string>>;
}

/** What to request. */
export interface Wanted {
  topics: readonly string[];
  start: Start;
  json: boolean;
  /** How long a poll waits for its first event, such as `20s`. */
  wait?: string;
  signal: AbortSignal;
}

/** The options of requests, after their checks. */
export interface RequestOptions {
  url: URL;
  envelope: boolean;
  credentials: PealdOptions["credentials"];
  headers: Readonly<Record<string, string>>;
}

/** Sends requests and sorts the responses. */
export class Requester {
  constructor(
    private env: Environment,
    private options: RequestOptions,
    readonly tokens: Tokens,
  ) {}

  /** Whether events come in envelopes. */
  get envelope(): boolean {
    return this.options.envelope;
  }

  /**
   * Sends a request and returns the response, which is a stream or JSON, as wanted.
   *
   * @throws Failure for every other response, and for none.
   */
  async send(wanted: Wanted): Promise<Response> {
    const { topics, start, json, wait, signal } = wanted;
    const url = new URL(this.options.url);
    for (const topic of topics) url.searchParams.append("topic", topic);
    if (this.options.envelope) url.searchParams.set("envelope", "1");
    if (wait) url.searchParams.set("wait", wait);
    const headers: Record<string, string> = { ...this.options.headers, Accept: json ? "application/json" : "text/event-stream" };
    if (start.position) headers["Last-Event-ID"] = start.position;
    else for (const [name, value] of Object.entries(start.query)) url.searchParams.set(name, value);

    const token = await this.tokens.get();
    if (token !== undefined) headers["Authorization"] = `Bearer ${token}`;

    const init: RequestInit = { headers, cache: "no-store", signal };
    if (this.options.credentials) init.credentials = this.options.credentials;
    let response: Response;
    try {
      response = await this.env.fetch(url.href, init);
    } catch (err) {
      throw failureOf(err);
    }
    await this.#check(response, json ? "application/json" : "text/event-stream");
    return response;
  }

  async #check(response: Response, type: string): Promise<void> {
    const { status } = response;
    const given = response.headers.get("Content-Type") ?? "";
    if (status === 200 && given.split(";")[0]!.trim().toLowerCase() === type) return;

    const text = status === 204 ? "" : (await response.text().catch(() => "")).trim().slice(0, 500);
    const message = text || `the server has answered with the status ${status}`;
    if (status === 200) {
      // Networks that want their users to log in answer like this, so it may pass.
      throw new Failure("network", `the response has the type ${JSON.stringify(given)}; want ${type}`, 200);
    }
    if (status === 401) throw new Failure("unauthorized", message, status);
    if (status === 413) throw new Failure("large", message, status);
    if (status === 204 || (status >= 400 && status < 500 && ![408, 421, 425, 429].includes(status))) {
      throw new Failure("permanent", message, status);
    }
    throw new Failure("busy", message, status, retryAfter(response.headers.get("Retry-After"), this.env.now()));
  }
}

/** The longest time that a Retry-After is believed. */
const maxRetryAfter = 600_000;

/** Returns the time in a Retry-After header in milliseconds, which is a number of seconds or a date. */
export function retryAfter(value: string | null, now: number): number | undefined {
  if (!value) return undefined;
  const wait = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return wait >= 0 ? Math.min(wait, maxRetryAfter) : undefined;
}
