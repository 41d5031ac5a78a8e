import { toEvent } from "./block.js";
import type { EventData } from "./block.js";
import { Engine } from "./engine.js";
import { platform } from "./env.js";
import type { Environment } from "./env.js";
import { PealdError } from "./errors.js";
import { follow } from "./lifecycle.js";
import type { Link, Sink } from "./link.js";
import { Member } from "./member.js";
import { settingsOf } from "./options.js";
import type { Settings } from "./options.js";
import { Queue } from "./queue.js";
import { Requester } from "./request.js";
import { Pacer } from "./retry.js";
import { maxBeat } from "./stream.js";
import type { SourceContext } from "./stream.js";
import { Tokens } from "./token.js";
import { distinct } from "./topics.js";
import type { PealdClose, PealdEvent, PealdHandlers, PealdOptions, PealdState } from "./types.js";

/** The longest interval between heartbeats that the client learns, in milliseconds. */
const maxInterval = 200_000;

type Handler = (value: never) => void;

/**
 * A subscription to events from a peald server. It receives each event once and in order, across lost connections, new
 * tokens and changes of topics, or else a reset.
 *
 * The client connects once the page has added its first handler or begun its first loop.
 *
 * @example
 * ```js
 * const peald = new Peald("/events", { topics: ["orders.*"] });
 * peald.on("peald.reset", () => location.reload());
 * for await (const event of peald) show(event.topic, event.json());
 * ```
 */
export class Peald implements AsyncIterable<PealdEvent> {
  #env: Environment;
  #settings: Settings;
  #options: PealdOptions;
  #link: Link | undefined;
  #unfollow = () => {};
  #topics: readonly string[]; // until there is a link
  #state: PealdState | undefined;
  #closed: PealdClose | undefined;
  #handlers = new Map<string, Set<Handler>>();
  #queues = new Set<Queue>();
  #onAbort = () => this.close();

  /**
   * Creates a client for the event stream at a URL.
   *
   * @throws TypeError or RangeError if an option is invalid.
   */
  constructor(url: string | URL, options: PealdOptions = {}) {
    this.#settings = settingsOf(url, options);
    this.#options = options;
    this.#topics = this.#settings.topics;
    this.#env = environmentOf(options);
    if (options.signal?.aborted) this.close();
    else options.signal?.addEventListener("abort", this.#onAbort);
  }

  /** What the client is doing. */
  get state(): PealdState {
    return this.#state ?? "connecting";
  }

  /**
   * The position up to which the page has received everything, or an empty string before the first. Keep it across page
   * loads, and pass it as {@link PealdOptions.position}. Events that wait for a loop haven't been received.
   */
  get position(): string {
    let longest: Queue | undefined;
    for (const queue of this.#queues) if (queue.length > (longest?.length ?? 0)) longest = queue;
    return longest?.position ?? this.#link?.position ?? this.#settings.position;
  }

  /** The topics and patterns to which the client subscribes. */
  get topics(): readonly string[] {
    return this.#link?.topics ?? this.#topics;
  }

  /**
   * Calls a handler for each event of a type, or for what {@link PealdHandlers} lists. It returns a function that removes
   * the handler.
   */
  on<K extends keyof PealdHandlers>(type: K, handler: (value: PealdHandlers[K]) => void): () => void;
  on(type: string, handler: (event: PealdEvent) => void): () => void;
  on(type: string, handler: Handler): () => void {
    const handlers = this.#handlers.get(type) ?? new Set();
    this.#handlers.set(type, handlers);
    handlers.add(handler);
    this.#start();
    return () => {
      handlers.delete(handler);
    };
  }

  /**
   * Subscribes to more topics. It returns once their events arrive: first their retained values, then what is published
   * from now on, and nothing that was published before the call. No event of other topics is lost or repeated.
   *
   * @throws PealdError if the server rejects the topics, in which case the previous ones remain, or if the client closes.
   */
  subscribe(...topics: string[]): Promise<void> {
    return this.#setTopics(distinct([...this.topics, ...topics]));
  }

  /** Unsubscribes from topics. No event of other topics is lost or repeated. */
  unsubscribe(...topics: string[]): Promise<void> {
    return this.#setTopics(this.topics.filter((topic) => !topics.includes(topic)));
  }

  /** Disconnects for good. Loops end once they have received the events that wait for them. */
  close(): void {
    const close: PealdClose = { reason: "closed", status: 0, message: "the client is closed" };
    if (this.#link) this.#link.close(close);
    else this.#finish(close);
  }

  /** Receives the events in a `for await` loop, which a slow page holds back. The loop throws if the server stops the client. */
  [Symbol.asyncIterator](): AsyncIterableIterator<PealdEvent> {
    const queue = new Queue((ended) => this.#queues.delete(ended));
    if (this.#closed) queue.end(errorOf(this.#closed));
    else this.#queues.add(queue);
    this.#start();
    return queue;
  }

  #start(): void {
    if (this.#link || this.#closed) return;
    const { heartbeat, firstByte, topics: _, ...settings } = this.#settings;
    const { token, credentials, headers = {} } = this.#options;
    const env = this.#env;
    const context: SourceContext = {
      env,
      requester: new Requester(env, { ...settings, credentials, headers }, new Tokens(env, token)),
      pacer: new Pacer(env),
      heartbeats: {
        interval: heartbeat,
        learn(silence, exact) {
          if (exact || silence > maxBeat * this.interval) this.interval = Math.max(heartbeat, Math.min(silence, maxInterval));
        },
      },
      firstByte,
    };
    const { group } = settings, topics = this.#topics;
    this.#link = group !== undefined && env.locks && env.channel
      ? new Member(context, { ...settings, group, topics }, this.#sink())
      : new Engine(context, { ...settings, topics, values: true }, this.#sink());
    this.#unfollow = follow(env, this.#link);
  }

  #setTopics(topics: readonly string[]): Promise<void> {
    let changed = Promise.resolve();
    if (this.#closed) {
      changed = Promise.reject(new PealdError(this.#closed));
    } else if (this.#link) {
      changed = this.#link.setTopics(topics);
    } else {
      this.#topics = topics;
    }
    changed.catch((err: unknown) => {
      // The page may ignore the promise.
      if (err instanceof PealdError && err.reason !== "closed") this.#env.warn(`peald: topics not changed: ${err.message}`);
    });
    return changed;
  }

  #sink(): Sink {
    return {
      event: (data, before) => this.#deliver(data, before),
      reset: (reset) => {
        if (!this.#emit("peald.reset", reset)) {
          this.#env.warn(`peald: events are missing (${reset.reason}), and the page doesn't handle "peald.reset"; reload its state`);
        }
      },
      end: (end) => void this.#emit("peald.end", end),
      state: (state) => {
        if (state === this.#state) return;
        this.#state = state;
        this.#emit("peald.state", state);
      },
      close: (close) => this.#finish(close),
    };
  }

  #deliver(data: EventData, before: string): Promise<void> | undefined {
    const event = toEvent(data);
    let wait: Promise<void> | undefined;
    for (const queue of this.#queues) wait = queue.push(event, before) ?? wait;
    this.#emit("peald.event", event);
    this.#emit(event.type, event);
    return wait;
  }

  /** Calls the handlers, and reports whether there is one. */
  #emit(type: string, value: unknown): boolean {
    const handlers = [...this.#handlers.get(type) ?? []];
    for (const handler of handlers) {
      try {
        handler(value as never);
      } catch (err) {
        this.#env.report(err);
      }
    }
    return handlers.length > 0;
  }

  #finish(close: PealdClose): void {
    if (this.#closed) return;
    this.#closed = close;
    this.#state = "closed";
    this.#unfollow();
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    for (const queue of this.#queues) queue.end(errorOf(close));
    this.#queues.clear();
    this.#emit("peald.close", close);
  }
}

/** Returns the error of a loop; undefined if the page or the end of its topics has ended it. */
function errorOf(close: PealdClose): PealdError | undefined {
  return close.reason === "closed" || close.reason === "ended" ? undefined : new PealdError(close);
}

/** The key of an option with which tests replace the platform. */
export const environment = Symbol("environment");

function environmentOf(options: PealdOptions & { [environment]?: Environment }): Environment {
  return options[environment] ?? platform(options.fetch);
}
