import type { Environment } from "./env.js";
import { Failure } from "./errors.js";
import type { PealdTokenSource } from "./types.js";

/** The longest time before the end of a token's life at which it is renewed. */
const maxLead = 60_000;
/** The shortest time between two tokens that are about to expire. */
const minInterval = 5000;

/** Keeps the current token, and knows when it must be renewed. */
export class Tokens {
  #token: string | undefined;
  #expires = Infinity; // by the local clock
  #renews = Infinity;
  #asking: Promise<string> | undefined;

  constructor(
    private env: Environment,
    private source: string | PealdTokenSource | undefined,
  ) {}

  /** Reports whether a new token can be had. */
  get renewable(): boolean {
    return typeof this.source === "function";
  }

  /** When the current token should be renewed; Infinity for never. */
  get renews(): number {
    return this.#renews;
  }

  /** Makes the next call of get ask for a new token. */
  invalidate(): void {
    this.#token = undefined;
  }

  /** Asks for a new token. It reports whether it differs from the current one. */
  async renew(): Promise<boolean> {
    const before = this.#token;
    if (typeof this.source === "function") await this.#shared(this.source);
    return this.#token !== before;
  }

  /** Returns the token to send; undefined for none. */
  async get(): Promise<string | undefined> {
    if (typeof this.source !== "function") return this.source;
    if (this.#token !== undefined && this.env.now() < this.#expires) return this.#token;
    return this.#shared(this.source);
  }

  // Requests that are made at the same time share one call.
  #shared(source: PealdTokenSource): Promise<string> {
    this.#asking ??= this.#ask(source).finally(() => { this.#asking = undefined; });
    return this.#asking;
  }

  async #ask(source: PealdTokenSource): Promise<string> {
    let token: string | null;
    try {
      token = await source();
    } catch (err) {
      throw new Failure("network", `the token function failed: ${String(err)}`);
    }
    if (!token) throw new Failure("permanent", "there is no token", 401);

    const now = this.env.now(), life = lifetime(token, now);
    const again = token === this.#token; // the source still hands out the same token
    this.#token = token;
    this.#expires = now + life;
    this.#renews = now + Math.max(life - Math.min(maxLead, life / 5), again ? minInterval : 0);
    return token;
  }
}

/**
 * Returns how long a token that was just received remains valid, in milliseconds. A local clock that is wrong is detected
 * if the token names its time of issue. It returns Infinity for a token that isn't a JWT or doesn't expire, and if nothing
 * can be known.
 */
export function lifetime(token: string, now: number): number {
  const { exp, iat } = claims(token);
  if (typeof exp !== "number") return Infinity;
  const left = exp * 1000 - now, whole = typeof iat === "number" ? (exp - iat) * 1000 : Infinity;
  return left > 0 && left <= whole ? left : whole > 0 ? whole : Infinity;
}

function claims(token: string): { exp?: unknown; iat?: unknown } {
  try {
    const text = atob(token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/"));
    const parsed: unknown = JSON.parse(text);
    return typeof parsed === "object" && parsed !== null ? parsed : {};
  } catch {
    return {};
  }
}
