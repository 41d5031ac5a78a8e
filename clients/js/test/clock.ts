import type { Environment } from "../src/env.js";

interface Timer {
  at: number;
  order: number;
  callback: () => void;
}

/** A source of time and timers. */
export interface Timing {
  readonly now: number;
  setTimeout(callback: () => void, ms: number): number;
  clearTimeout(timer: unknown): void;
}

/** Lets everything run that doesn't wait for time to pass. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** A clock whose time passes only in advance. */
export class Clock implements Timing {
  now = 1_700_000_000_000;
  #timers = new Map<number, Timer>();
  #order = 0;

  setTimeout = (callback: () => void, ms: number): number => {
    const order = ++this.#order;
    this.#timers.set(order, { at: this.now + ms, order, callback });
    return order;
  };

  clearTimeout = (timer: unknown): void => {
    this.#timers.delete(timer as number);
  };

  /** Calls every timer that is due in the next ms milliseconds, in order. */
  async advance(ms: number): Promise<void> {
    const end = this.now + ms;
    for (;;) {
      await settle();
      let first: Timer | undefined;
      for (const timer of this.#timers.values()) {
        if (timer.at <= end && (!first || timer.at < first.at || (timer.at === first.at && timer.order < first.order))) first = timer;
      }
      if (!first) break;
      this.now = Math.max(this.now, first.at);
      this.#timers.delete(first.order);
      first.callback();
    }
    this.now = end;
    await settle();
  }

  /** Resolves when time has passed. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => { this.setTimeout(resolve, ms); });
  }
}

/** An environment of a test, with what the client has reported. */
export interface TestEnvironment extends Environment {
  warnings: string[];
  errors: unknown[];
}

/** Returns an environment whose time is that of a clock. Random numbers are 0.5, unless random is given. */
export function environmentOf(clock: Timing, fetch: typeof globalThis.fetch, more: Partial<Environment> = {}): TestEnvironment {
  const warnings: string[] = [], errors: unknown[] = [];
  return {
    fetch,
    now: () => clock.now,
    random: () => 0.5,
    setTimeout: clock.setTimeout,
    clearTimeout: clock.clearTimeout,
    locks: undefined,
    channel: undefined,
    window: undefined,
    document: undefined,
    warn: (message) => warnings.push(message),
    report: (err) => errors.push(err),
    warnings,
    errors,
    ...more,
  };
}
