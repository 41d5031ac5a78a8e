import { createParser } from "eventsource-parser";
import type { EventSourceParser } from "eventsource-parser";
import type { Block } from "./block.js";
import type { Environment } from "./env.js";
import { Failure, failureOf } from "./errors.js";
import type { Requester, Start } from "./request.js";
import type { Pacer } from "./retry.js";
import type { Heartbeats, Source } from "./source.js";

/** How many intervals the server lets pass until a heartbeat, since it leaves out those that soon follow an event. */
export const maxBeat = 1.25;
/**
 * How many intervals a stream may be silent: usually, and while there are polls. After nothing but its first blocks, the
 * limit is {@link maxBeat}.
 */
const usually = 3, besidePolls = 12;

/** What a source needs. */
export interface SourceContext {
  env: Environment;
  requester: Requester;
  pacer: Pacer;
  heartbeats: Heartbeats;
  /** How long the first bytes may take, in milliseconds. */
  firstByte: number;
}

/** The source that reads an event stream. */
export class Stream implements Source {
  readonly streaming = true;
  proven = false;
  lastSeen: number;

  #abort = new AbortController();
  #reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  #decoder = new TextDecoder();
  #parser: EventSourceParser;
  #blocks: Block[] = [];
  #beaten = false; // a heartbeat was the last to arrive
  #cut: Failure | undefined; // why the connection was aborted

  constructor(
    private context: SourceContext,
    readonly topics: readonly string[],
    private start: Start,
  ) {
    this.lastSeen = context.env.now();
    this.#parser = createParser({
      onEvent: ({ id, event, data }) => this.#blocks.push({ id, type: event ?? "message", data, envelope: context.requester.envelope }),
      onRetry: (ms) => { context.pacer.retry = ms; },
    });
  }

  async open(): Promise<void> {
    const { context: { requester, firstByte }, topics, start } = this;
    await requester.tokens.get(); // takes as long as the page needs
    await this.#within(firstByte, async () => {
      const response = await requester.send({ topics, start, json: false, signal: this.#abort.signal });
      this.#reader = response.body!.getReader();
      while (this.#blocks.length === 0) {
        if (!(await this.#read())) throw new Failure("busy", "the server asked to try again later", 200, this.context.pacer.retry);
      }
    });
  }

  async next(): Promise<Block[] | undefined> {
    if (this.#blocks.length === 0 && !(await this.#more(this.proven ? usually : maxBeat))) return undefined;
    return this.#blocks.splice(0);
  }

  async prove(): Promise<void> {
    if (!(await this.#more(besidePolls))) throw new Failure("network", "the stream was closed");
  }

  /** Reads until there are more blocks, for as many intervals between heartbeats. It returns false at the end. */
  async #more(intervals: number): Promise<boolean> {
    const { env, heartbeats } = this.context, { length } = this.#blocks, before = this.lastSeen;
    while (this.#blocks.length === length) {
      if (!(await this.#within(intervals * heartbeats.interval, () => this.#read()))) return false;
    }
    this.proven = true;
    const beat = this.#blocks.length === length + 1 && this.#blocks[length]!.type === "peald.mark";
    if (beat) heartbeats.learn(env.now() - before, this.#beaten);
    this.#beaten = beat;
    return true;
  }

  close(): void {
    this.#stop(new Failure("network", "the stream was closed"));
  }

  #stop(why: Failure): void {
    if (this.#cut) return;
    this.#cut = why;
    this.#abort.abort();
    this.#reader?.cancel().catch(() => {});
  }

  /** Reads a piece of the body. It returns false at the end. */
  async #read(): Promise<boolean> {
    const { value, done } = await this.#reader!.read();
    if (this.#cut) throw this.#cut;
    if (done) return false;
    this.lastSeen = this.context.env.now();
    this.#parser.feed(this.#decoder.decode(value, { stream: true }));
    return true;
  }

  /** Aborts the connection if an operation takes too long. */
  async #within<T>(ms: number, operation: () => Promise<T>): Promise<T> {
    const { env } = this.context;
    if (this.#cut) throw this.#cut;
    const timer = env.setTimeout(() => this.#stop(new Failure("silent", `nothing has arrived for ${ms} ms`)), ms);
    try {
      return await operation();
    } catch (err) {
      throw this.#cut ?? failureOf(err);
    } finally {
      env.clearTimeout(timer);
    }
  }
}
