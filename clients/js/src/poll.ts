import type { Block } from "./block.js";
import { Failure, failureOf } from "./errors.js";
import type { Start } from "./request.js";
import type { Source } from "./source.js";
import type { SourceContext } from "./stream.js";

/** How long a poll waits for its first event, in seconds. */
const wait = 20;
/** How long a response may take besides that, in milliseconds. */
const patience = 10_000;

/** The body of the response to a poll. */
interface Batch {
  events: { id?: string; event: string; topic?: string; topics?: string[]; data: string }[];
  position: string;
  reset: { reason: string; last_event_id: string } | null;
}

/** The source that polls. */
export class Poller implements Source {
  readonly streaming = false;
  readonly proven = true;
  lastSeen: number;

  #abort = new AbortController();
  #blocks: Block[] | undefined;
  #start: Start;

  constructor(
    private context: SourceContext,
    readonly topics: readonly string[],
    start: Start,
  ) {
    this.lastSeen = context.env.now();
    this.#start = start;
  }

  // The first poll returns at once: it shows that polls get through, and fetches a position.
  async open(): Promise<void> {
    this.#blocks = await this.#poll();
  }

  async next(): Promise<Block[] | undefined> {
    const first = this.#blocks;
    this.#blocks = undefined;
    if (first) return first;

    const { env, pacer } = this.context;
    const before = env.now();
    const blocks = await this.#poll(this.#start.position ? wait : undefined);
    // A server that doesn't wait must not be asked again and again.
    if (blocks.length === 1 && env.now() - before < 1000) {
      pacer.start();
      await this.#sleep(Math.max(1000, pacer.allowance()));
    }
    return blocks;
  }

  close(): void {
    this.#abort.abort();
  }

  async #poll(seconds?: number): Promise<Block[]> {
    const batch = await readBatch(this.context, this.topics, this.#start, this.#abort.signal, seconds);
    this.lastSeen = this.context.env.now();
    this.#start = { position: batch.position, query: batch.position ? {} : this.#start.query };
    return batch.blocks;
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const { env } = this.context, { signal } = this.#abort;
      const done = () => {
        env.clearTimeout(timer);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = env.setTimeout(done, ms);
      signal.addEventListener("abort", done);
    });
  }
}

/**
 * Reads the events after a start in one response, for which it waits the given number of seconds. The blocks are those that
 * a stream would get: a reset if events are missing, the events, and a position mark.
 *
 * @throws Failure if there is no such response.
 */
export async function readBatch(
  { env, requester }: SourceContext, topics: readonly string[], start: Start, signal: AbortSignal, seconds?: number,
): Promise<{ blocks: Block[]; position: string }> {
  await requester.tokens.get(); // takes as long as the page needs
  const controller = new AbortController(), stop = () => controller.abort();
  if (signal.aborted) stop();
  signal.addEventListener("abort", stop);
  let late = false;
  const timer = env.setTimeout(() => { late = true; stop(); }, (seconds ?? 0) * 1000 + patience);
  try {
    const wanted = { topics, start, json: true, signal: controller.signal };
    const response = await requester.send(seconds === undefined ? wanted : { ...wanted, wait: `${seconds}s` });
    return blocksOf((await response.json()) as Batch);
  } catch (err) {
    throw late ? new Failure("silent", "the server didn't answer a poll") : failureOf(err);
  } finally {
    env.clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}

function blocksOf(batch: Batch): { blocks: Block[]; position: string } {
  if (!Array.isArray(batch?.events) || typeof batch.position !== "string") {
    throw new Failure("network", "the response to a poll isn't a batch of events", 200);
  }
  const blocks: Block[] = [];
  if (batch.reset) blocks.push({ id: undefined, type: "peald.reset", data: JSON.stringify(batch.reset) });
  for (const { id, event, topic, topics, data } of batch.events) {
    blocks.push({ id, type: event, data, ...(topic !== undefined && { topic }), ...(topics && { topics }) });
  }
  blocks.push({ id: batch.position || undefined, type: "peald.mark", data: "" });
  return { blocks, position: batch.position };
}
