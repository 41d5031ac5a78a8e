import { PealdError } from "./errors.js";
import type { PealdClose } from "./types.js";

/** Callers that wait for numbered changes of topics. */
export class Waiters {
  #waiting: { number: number; resolve: () => void; reject: (err: PealdError) => void }[] = [];

  /** Waits for a change. */
  add(number = 0): Promise<void> {
    return new Promise((resolve, reject) => { this.#waiting.push({ number, resolve, reject }); });
  }

  /** Resolves the changes up to a number. */
  resolve(number = 0): void {
    const done = this.#waiting.filter((waiter) => waiter.number <= number);
    this.#waiting = this.#waiting.filter((waiter) => waiter.number > number);
    for (const { resolve } of done) resolve();
  }

  /** Rejects all changes. */
  reject(close: PealdClose): void {
    for (const { reject } of this.#waiting.splice(0)) reject(new PealdError(close));
  }
}
