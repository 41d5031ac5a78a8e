import { createParser } from "eventsource-parser";
import type { EventSourceParser } from "eventsource-parser";
import type { Block } from "./block.js";
import type { Environment } from "./env.js";
import { Failure, failureOf } from "./errors.js";
import type { Requester, Start } from "./request.js";
import type { Pacer } from "./retry.js";
import type { Silence, Source } from "./source.js";

/** What a source needs. */
export interface SourceContext {
  env: Environment;
  requester: Requester;
  pacer: Pacer;
  silence: Silence;
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
    const { env, silence } = this.context;
    if (this.#blocks.length === 0) {
      const before = this.lastSeen;
      while (this.#blocks.length === 0) {
        if (!(await this.#within(silence.timeout, () => this.#read()))) return undefined;
      }
      this.proven = true;
      if (this.#blocks.length === 1 && this.#blocks[0]!.type === "peald.mark") silence.learn(env.now() - before);
    }
    return this.#blocks.splice(0);
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
