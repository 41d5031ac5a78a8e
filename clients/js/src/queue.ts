import type { PealdError } from "./errors.js";
import type { PealdEvent } from "./types.js";

/** How many events may wait for a slow loop before the client stops reading. */
const high = 256;

interface Entry {
  event: PealdEvent;
  before: string; // the position before the event
}

/** The events that wait for a `for await` loop. */
export class Queue implements AsyncIterableIterator<PealdEvent> {
  #entries: Entry[] = [];
  #waiting: ((result: IteratorResult<PealdEvent>) => void)[] = [];
  #failing: ((err: PealdError) => void)[] = [];
  #ended: { error: PealdError | undefined } | undefined;
  #full: { wait: Promise<void>; release: () => void } | undefined;

  /** @param remove - is called when the loop ends */
  constructor(private remove: (queue: Queue) => void) {}

  /** How many events wait. */
  get length(): number {
    return this.#entries.length;
  }

  /** The position before the first event that waits. */
  get position(): string | undefined {
    return this.#entries[0]?.before;
  }

  /** Adds an event. The caller should wait for the promise, if there is one. */
  push(event: PealdEvent, before: string): Promise<void> | undefined {
    const waiting = this.#waiting.shift();
    if (waiting) {
      this.#failing.shift();
      waiting({ value: event, done: false });
      return undefined;
    }
    this.#entries.push({ event, before });
    if (this.#entries.length >= high && !this.#full) {
      let release = () => {};
      const wait = new Promise<void>((resolve) => { release = resolve; });
      this.#full = { wait, release };
    }
    return this.#full?.wait;
  }

  /** Ends the loop after the events that wait, with an error if there is one. */
  end(error?: PealdError): void {
    this.#ended ??= { error };
    for (const waiting of this.#waiting.splice(0)) {
      const failing = this.#failing.shift();
      if (error) failing?.(error);
      else waiting({ value: undefined, done: true });
    }
  }

  next(): Promise<IteratorResult<PealdEvent>> {
    const entry = this.#entries.shift();
    if (this.#entries.length < high / 2) this.#release();
    if (entry) return Promise.resolve({ value: entry.event, done: false });
    if (this.#ended) {
      const { error } = this.#ended;
      this.#ended = { error: undefined };
      return error ? Promise.reject(error) : Promise.resolve({ value: undefined, done: true });
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push(resolve);
      this.#failing.push(reject);
    });
  }

  return(): Promise<IteratorResult<PealdEvent>> {
    this.#entries = [];
    this.#release();
    this.remove(this);
    this.end();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #release(): void {
    this.#full?.release();
    this.#full = undefined;
  }
}
