import type { Block, EventData } from "./block.js";
import { Cursor } from "./cursor.js";
import { Failure, failureOf } from "./errors.js";
import type { EngineOptions, Link, Sink } from "./link.js";
import { Poller, readBatch } from "./poll.js";
import { Renewal } from "./renewal.js";
import type { Source } from "./source.js";
import { Stream } from "./stream.js";
import type { SourceContext } from "./stream.js";
import { Timers } from "./timers.js";
import { isPattern, narrowed, sameTopics } from "./topics.js";
import type { PealdClose } from "./types.js";
import { readValues } from "./values.js";
import { Waiters } from "./waiters.js";

/**
 * A link with a connection of its own. One loop connects and delivers. A source that must be replaced, because its topics
 * or its token change, is closed only once its successor is open.
 */
export class Engine implements Link {
  #cursor: Cursor;
  #wanted: readonly string[];
  #accepted: readonly string[] | undefined; // the topics of the last source that was accepted
  #waiters = new Waiters();

  #current: Source | undefined;
  #opening: Source | undefined;
  #aborts = new AbortController(); // of reads besides the sources
  #streaming = true;
  #polled = false; // polls have got through since streams were given up
  #dull = false; // the last stream was silent from the first blocks on
  #asked = false; // a new token was asked for since the last source was accepted
  #finished = false; // the only topic has ended

  #updating: Promise<void> | undefined;
  #gate: Promise<void> | undefined; // holds deliveries while a source with other topics is opened
  #renew = false; // the source must be replaced though its topics are right
  #proving: Source | undefined; // a stream that must show, beside polls, that it gets through
  #backingOff = false; // a replacement has failed
  #timers: Timers;
  #renewal: Renewal;

  #delay = 0;
  #patient = true; // the server has set the time to wait
  #wake: (() => void) | undefined;
  #suspended = false;
  #closed = false;

  constructor(
    private context: SourceContext,
    private options: EngineOptions,
    private sink: Sink,
  ) {
    this.#timers = new Timers(context.env);
    this.#renewal = new Renewal(context, this.#timers, () => {
      this.#renew = true;
      this.#update();
    }, (failure) => this.close(failure.close()));
    this.#cursor = new Cursor(options.position);
    this.#wanted = options.topics;
    void this.#run();
  }

  get position(): string {
    return this.#cursor.position;
  }

  get topics(): readonly string[] {
    return this.#wanted;
  }

  /** The state of a link that is live. */
  get state(): "open" | "polling" {
    return this.#streaming ? "open" : "polling";
  }

  /** Whether a source has all events for the topics after the position. */
  get live(): boolean {
    return this.#current !== undefined && this.#cursor.settled && sameTopics(this.#current.topics, this.#wanted);
  }

  setTopics(topics: readonly string[]): Promise<void> {
    this.#wanted = topics;
    queueMicrotask(() => this.#settleTopics()); // changes that are made together lead to one new source
    return this.#waiters.add();
  }

  suspend(): void {
    this.#suspended = true;
    this.#drop();
  }

  resume(): void {
    this.#suspended = false;
    this.#wake?.();
  }

  check(replace: boolean): void {
    const { env, heartbeats } = this.context;
    if (!this.#patient) this.#wake?.();
    if (this.#current && (replace || env.now() - this.#current.lastSeen > 1.5 * heartbeats.interval)) {
      this.#renew = true;
      this.#update();
    }
  }

  /** Fires the timers that are due. */
  poke(): void {
    this.#timers.poke();
  }

  close(close: PealdClose): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#drop();
    this.#waiters.reject(close);
    this.sink.state("closed");
    this.sink.close(close);
  }

  /** Disconnects. */
  #drop(): void {
    const current = this.#current;
    this.#current = undefined;
    current?.close();
    this.#opening?.close();
    this.#aborts.abort();
    this.#aborts = new AbortController();
    this.#timers.clear();
    this.#backingOff = false;
    this.#delay = 0;
    this.#wake?.();
  }

  async #run(): Promise<void> {
    await undefined; // so that the page can add its handlers first
    while (!this.#closed) {
      const wait = this.#suspended ? Infinity : Math.max(this.#delay, this.context.pacer.allowance());
      this.#delay = 0;
      if (wait > 0) {
        this.sink.state("waiting");
        await this.#sleep(wait);
        continue;
      }
      const source = await this.#connect();
      if (source) {
        this.#adopt(source);
        await this.#pump();
      }
    }
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        this.#timers.set("sleep");
        resolve();
      };
      if (ms !== Infinity) this.#timers.set("sleep", ms, this.#wake);
    });
  }

  #create(topics: readonly string[], streaming: boolean): Source {
    const start = { position: this.#cursor.position, query: this.options.query };
    this.context.pacer.start();
    this.#opening = new (streaming ? Stream : Poller)(this.context, topics, start);
    return this.#opening;
  }

  async #connect(): Promise<Source | undefined> {
    this.sink.state("connecting");
    const source = this.#create(this.#wanted, this.#streaming);
    try {
      await source.open();
      if (this.#opening === source && !this.#closed && !this.#suspended) return source;
    } catch (err) {
      if (!this.#closed && !this.#suspended) this.#failed(failureOf(err));
    }
    source.close();
    return undefined;
  }

  #adopt(source: Source): void {
    this.#current?.close();
    this.#current = source;
    this.#opening = undefined;
    this.context.pacer.failures = 0;
    this.#asked = this.#finished = this.#backingOff = this.#renew = false;
    this.#accepted = source.topics;
    this.#streaming = source.streaming;
    this.#polled = !source.streaming;
    this.#cursor.begin();

    this.sink.state(this.state);
    this.#timers.set("probe", source.streaming ? undefined : this.#dull ? 0 : this.options.probe, () => this.check(true));
    this.#dull = false;
    if (source.streaming) this.#renewal.schedule();
    else this.#renewal.stop(); // polls ask for the token each time
    if (this.#cursor.settled) this.#cover();
    this.#settleTopics();
  }

  #cover(): void {
    if (this.#current) this.options.covered?.(this.#current.topics, this.#cursor.position);
  }

  /** Resolves the waiters if the source has the topics that are wanted, or replaces it. */
  #settleTopics(): void {
    if (this.#closed) return this.#waiters.reject({ reason: "closed", status: 0, message: "the client is closed" });
    if (this.#current && sameTopics(this.#current.topics, this.#wanted)) {
      this.#waiters.resolve();
    }
    this.#update();
  }

  /** Delivers the blocks of the current source and of those that replace it, until there is none. */
  async #pump(): Promise<void> {
    for (let source = this.#current; source; source = this.#current) {
      let blocks: Block[] | undefined, failure: Failure | undefined;
      try {
        blocks = await source.next();
      } catch (err) {
        failure = failureOf(err);
      }
      for (const block of blocks ?? []) {
        while (this.#gate) await this.#gate;
        if (source !== this.#current) break;
        await this.#deliver(block, source);
      }
      if (blocks || source !== this.#current) continue;

      this.#proving?.close();
      await this.#updating; // its successor may be about to open
      if (source !== this.#current) continue;
      this.#current = undefined;
      source.close();
      this.#lost(source, failure);
    }
  }

  async #deliver(block: Block, source: Source): Promise<void> {
    const cursor = this.#cursor, wasSettled = cursor.settled, before = cursor.position;
    const fresh = source.streaming || Object.keys(this.options.query).length === 0;
    this.options.relay?.(block);
    const delivery = cursor.take(block, fresh);
    if (cursor.settled && !wasSettled) {
      this.#cover();
      this.#update();
    }
    switch (delivery?.kind) {
      case "event":
        this.#finished = false;
        await this.#send(delivery.event, before);
        break;
      case "reset":
        this.sink.reset(delivery.reset);
        break;
      case "end":
        this.#finished = source.topics.length === 1 && source.topics[0] === delivery.end.topic && !isPattern(delivery.end.topic);
        this.sink.end(delivery.end);
        break;
    }
  }

  async #send(event: EventData, before: string): Promise<void> {
    // An event of a topic that isn't wanted any more may arrive before the source is replaced.
    const wanted = narrowed(event, this.#wanted);
    if (wanted) await this.sink.event(wanted, before);
  }

  /** Decides what to do after the current source has ended, or failed. */
  #lost(source: Source, failure: Failure | undefined): void {
    if (failure?.kind === "silent" && source.streaming) {
      // Either the server's heartbeats are rare, or something on the way holds them back. Polls bridge the time until the next
      // stream shows which.
      this.#dull = !source.proven;
      if (this.#dull) this.#streaming = false;
      return;
    }
    if (failure && failure.kind !== "network") return this.#failed(failure);
    if (!failure && this.#finished && sameTopics(source.topics, this.#wanted)) {
      return this.close({ reason: "ended", status: 204, message: "the topic has ended" });
    }
    this.#wait();
  }

  #wait(failure?: Failure): void {
    this.#patient = failure?.kind === "busy";
    this.#delay = this.context.pacer.delay(failure?.wait);
  }

  /** Decides what to do after an attempt to connect has failed. */
  #failed(failure: Failure): void {
    const { tokens } = this.context.requester;
    switch (failure.kind) {
      case "unauthorized":
        if (!tokens.renewable || this.#asked) return this.close(failure.close());
        this.#asked = true;
        tokens.invalidate();
        return;
      case "permanent":
        if (this.#revert(failure)) return;
        return this.close(failure.close());
      case "large":
        this.#streaming = true;
        break;
      case "silent":
        if (this.#streaming) {
          this.#streaming = this.#polled = false;
          return;
        }
    }
    if (!this.#polled) this.#streaming = true; // nothing gets through, neither streams nor polls
    this.context.pacer.failures++;
    this.#wait(failure);
  }

  /** Returns to the topics that were accepted last, if a change of topics explains a rejection. */
  #revert(failure: Failure): boolean {
    if (![400, 403].includes(failure.status) || !this.#accepted || sameTopics(this.#accepted, this.#wanted)) return false;
    this.#wanted = this.#accepted;
    this.#waiters.reject(failure.close());
    return true;
  }

  /** Replaces the current source if it must be, unless that is already happening. */
  #update(): void {
    const current = this.#current;
    if (!current || this.#backingOff || !this.#cursor.settled) return;
    const changed = !sameTopics(current.topics, this.#wanted);
    if (changed) this.#proving?.close(); // that would take too long
    if (this.#updating || !(changed || this.#renew)) return;
    this.#updating = this.#replace(current).finally(() => {
      this.#updating = undefined;
      this.#update();
    });
  }

  async #replace(old: Source): Promise<void> {
    const { context, context: { pacer } } = this;
    const topics = this.#wanted, changed = !sameTopics(old.topics, topics);
    const wait = pacer.allowance();
    if (wait > 0) return this.#backOff(wait);

    // With other topics, events that the old source has could overtake those of the new one.
    let release = () => {};
    if (changed) this.#gate = new Promise((resolve) => { release = resolve; });
    const probing = !old.streaming && !changed, next = this.#create(topics, this.#streaming || probing);
    this.#renew = false;
    if (probing) this.#proving = next;
    try {
      const added = topics.filter((topic) => !old.topics.includes(topic));
      const [values] = await Promise.all([
        readValues(context, this.options.values ? added : [], this.#aborts.signal),
        next.open(),
        added.length > 0 && this.#flush(old),
      ]);
      if (probing) await next.prove?.();
      if (this.#opening !== next || this.#closed || this.#suspended) return next.close();
      this.#adopt(next);
      for (const value of values) if (this.#cursor.covers(value.id)) await this.#send(value, this.#cursor.position);
    } catch (err) {
      next.close();
      if (!this.#closed && !this.#suspended) this.#notReplaced(old, changed, failureOf(err));
    } finally {
      this.#gate = this.#proving = undefined;
      release();
    }
  }

  /** Delivers what a source would still send, so that the topics of its successor that are new begin at the current position. */
  async #flush(source: Source): Promise<void> {
    const { position } = this.#cursor;
    if (!position) return;
    try {
      const { blocks } = await readBatch(this.context, source.topics, { position, query: {} }, this.#aborts.signal);
      if (blocks[0]!.type === "peald.reset") return; // the successor gets it too
      for (const block of blocks) if (this.#current === source) await this.#deliver(block, source);
    } catch {
      // The new topics begin at the position of the last event or heartbeat.
    }
  }

  #backOff(ms: number): void {
    this.#backingOff = true;
    this.#timers.set("update", ms, () => {
      this.#backingOff = false;
      this.#update();
    });
  }

  /** Decides what to do after a source could not be replaced. It still works. */
  #notReplaced(old: Source, changed: boolean, failure: Failure): void {
    const { pacer, requester: { tokens } } = this.context;
    if (!old.streaming && !changed) {
      return this.#timers.set("probe", this.options.probe, () => this.check(true)); // the stream still doesn't get through
    }
    switch (failure.kind) {
      case "unauthorized":
        if (!tokens.renewable || this.#asked) return this.close(failure.close());
        this.#asked = this.#renew = true;
        tokens.invalidate();
        return;
      case "permanent":
        if (failure.status === 204 || !this.#revert(failure)) this.close(failure.close());
        return;
      case "silent":
        this.#streaming = false;
        this.#renew ||= !changed;
        return;
      case "busy":
        if (failure.status !== 429) break;
        // The limit on streams leaves no room for two of them. The position bridges the gap.
        this.#current = undefined;
        old.close();
        return;
    }
    this.#renew ||= !changed;
    pacer.failures++;
    this.#backOff(pacer.delay(failure.wait));
  }
}
