import type { Environment } from "./env.js";

/** The longest time that a timer can wait, in milliseconds. */
const maxTimer = 2 ** 31 - 1;

/** Timers with names. */
export class Timers {
  #timers = new Map<string, { timer: unknown; due: number; fire: () => void }>();

  constructor(private env: Environment) {}

  /** Sets or replaces the timer of a name. Without a time, or with Infinity, it only stops it. */
  set(name: string, ms = Infinity, callback = () => {}): void {
    this.env.clearTimeout(this.#timers.get(name)?.timer);
    this.#timers.delete(name);
    if (ms === Infinity) return;
    const wait = Math.min(Math.max(ms, 0), maxTimer);
    const fire = () => {
      this.set(name);
      callback();
    };
    this.#timers.set(name, { timer: this.env.setTimeout(fire, wait), due: this.env.now() + wait, fire });
  }

  /** Stops all timers. */
  clear(): void {
    for (const name of [...this.#timers.keys()]) this.set(name);
  }

  /** Fires the timers that are due. Browsers delay those of hidden pages by up to a minute. */
  poke(): void {
    for (const { due, fire } of [...this.#timers.values()]) if (due <= this.env.now()) fire();
  }
}
