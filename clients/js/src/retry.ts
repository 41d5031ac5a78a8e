import type { Environment } from "./env.js";

/** The maximum number of attempts in a minute. */
export const attemptsPerMinute = 30;

const minute = 60_000;
const maxBackoff = 30_000;

/** Decides when the client connects again. */
export class Pacer {
  /** The reconnection time that the server sent last, in milliseconds. */
  retry: number | undefined;
  /** Failed attempts since the last stream that was accepted. */
  failures = 0;

  #starts: number[] = [];

  constructor(private env: Environment) {}

  /**
   * Returns how long to wait before the next attempt: at least as long as the server wants, plus a random part of an
   * exponentially growing time (full jitter).
   */
  delay(floor = this.retry): number {
    const base = this.retry || 1000;
    const backoff = this.failures > 0 ? base * 2 ** Math.min(this.failures, 16) : floor === undefined ? base : 0;
    return (floor ?? 0) + this.env.random() * Math.min(backoff, maxBackoff);
  }

  /** Returns how long the next attempt must wait to keep to the maximum per minute. */
  allowance(): number {
    const now = this.env.now();
    this.#starts = this.#starts.filter((start) => start > now - minute && start <= now);
    return this.#starts.length < attemptsPerMinute ? 0 : this.#starts[this.#starts.length - attemptsPerMinute]! + minute - now;
  }

  /** Counts an attempt. */
  start(): void {
    this.#starts.push(this.env.now());
  }
}
