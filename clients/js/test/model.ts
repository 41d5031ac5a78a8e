import assert from "node:assert/strict";
import type { Clock } from "./clock.js";
import type { PealdEvent } from "../src/types.js";
import type { Page } from "./page.js";
import type { Server } from "./server.js";

/** What one page must receive. */
export class Expectation {
  #required: { id: string; topics: readonly string[] | undefined }[] = [];
  #active: Set<string>;
  #resets: number[] = []; // the numbers of events before each reset
  #pending = 0; // how many changes of topics there were

  constructor(readonly page: Page, topics: readonly string[]) {
    this.#active = new Set(topics);
    page.peald.on("peald.reset", () => {
      this.#required = []; // whatever is missing is explained
      this.#resets.push(page.events.length);
    });
  }

  /** Notes an event that was just published. */
  published(id: string, topics: readonly string[] | undefined): void {
    if (!this.page.peald.position || this.page.peald.state === "closed") return; // the page is only about to start
    if (this.#isActive(topics)) this.#required.push({ id, topics });
  }

  #isActive(topics: readonly string[] | undefined): boolean {
    return topics === undefined || topics.some((topic) => this.#active.has(topic));
  }

  subscribe(topic: string): void {
    const change = ++this.#pending;
    this.page.peald.subscribe(topic).then(() => {
      if (change === this.#pending && this.page.peald.topics.includes(topic)) this.#active.add(topic);
    }, () => {});
  }

  unsubscribe(topic: string): void {
    this.#pending++;
    this.#active.delete(topic);
    this.#required = this.#required.filter(({ topics }) => this.#isActive(topics)); // the others may or may not arrive
    this.page.peald.unsubscribe(topic).catch(() => {});
  }

  /** Checks that every event arrived once and in order, or that a reset explains why not. */
  check(): void {
    const { page } = this, got = page.events.map(({ id }) => id);
    const missing = this.#required.filter(({ id }) => !got.includes(id));
    assert.deepEqual(missing, [], `lost; received ${page.log.join(" ")}`);

    let from = 0;
    for (const to of [...this.#resets, page.events.length]) {
      this.#checkOrder(page.events.slice(from, to));
      from = to;
    }
  }

  // After a reset, retained values are sent again, and polls don't show which events are such values.
  #checkOrder(events: PealdEvent[]): void {
    const got = events.map(({ id }) => id), live = events.filter(({ retained }) => !retained).map(({ id }) => id);
    assert.equal(new Set(live).size, live.length, `repeated: ${got.join(" ")}`);
    if (this.#pending === 0) assert.equal(new Set(got).size, got.length, `repeated a value: ${got.join(" ")}`);
    for (let i = 1; i < live.length; i++) {
      const [epoch, seq] = live[i]!.split("-"), [epochBefore, seqBefore] = live[i - 1]!.split("-");
      if (epoch === epochBefore) assert.ok(Number(seq) > Number(seqBefore), `out of order: ${live.join(" ")}`);
      else assert.ok(epoch! > epochBefore!, `of an older log: ${live.join(" ")}`);
    }
  }
}

/** Checks that no minute has more requests for streams than allowed. */
export function checkRate(server: Server, clients = 1): void {
  const starts = server.requests.filter(({ json }) => !json).map(({ at }) => at);
  for (let i = 30 * clients; i < starts.length; i++) {
    assert.ok(starts[i]! - starts[i - 30 * clients]! >= 60_000, `${30 * clients + 1} streams within ${starts[i]! - starts[i - 30 * clients]!} ms`);
  }
}

/** Checks that pages have one stream or poll together, or both while a stream is tried beside polls. */
export function checkConnections(server: Server, pages: Page[]): void {
  const { open, waiting } = server, tried = pages.some(({ peald }) => peald.state === "polling") ? 1 : 0;
  assert.ok(open <= 1 && waiting <= 1 && open + waiting <= 1 + tried, `${open} streams and ${waiting} polls for ${pages.length} pages`);
}

/** Lets time pass on a server that sends heartbeats. */
export async function pass(clock: Clock, server: Server, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 15_000) {
    await clock.advance(Math.min(left, 15_000));
    server.heartbeat();
  }
}
