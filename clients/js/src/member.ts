import type { Block } from "./block.js";
import { Cursor } from "./cursor.js";
import { Engine } from "./engine.js";
import type { Channel, Environment } from "./env.js";
import { failureOf, PealdError } from "./errors.js";
import { Leader } from "./leader.js";
import type { Content, Message } from "./leader.js";
import type { Link, Sink } from "./link.js";
import { readBatch } from "./poll.js";
import { comparable, isAfter } from "./position.js";
import type { SourceContext } from "./stream.js";
import { isPattern, matches, sameTopics } from "./topics.js";
import type { PealdClose } from "./types.js";
import { readValues } from "./values.js";

/** Configures a {@link Member}. */
export interface MemberOptions {
  /** The name of the group, of its channel and of its locks. */
  group: string;
  topics: readonly string[];
  position: string;
  query: Readonly<Record<string, string>>;
  probe: number;
}

/** How often a visible member asks whether the leader is alive, and how long that may take, in milliseconds. */
const pingInterval = 300, leaderTimeout = 800;

type Platform = Environment & { locks: LockManager; channel: (name: string) => Channel };

/**
 * A link that shares a stream with other tabs. One of them, the holder of a lock, is the leader and relays the blocks of
 * its stream. Each member has its own topics and its own position. If the relayed blocks begin after that position, the
 * member first reads what it has missed. If sharing fails for good, it opens a stream of its own.
 */
export class Member implements Link {
  topics: readonly string[];

  #cursor: Cursor;
  #env: Platform;
  #id = ""; // a new one whenever the member enters the group
  #own: Engine | undefined; // instead of sharing
  #channel: Channel | undefined;
  #number = 0; // of the topics
  #covered: { number: number; topics: readonly string[] } | undefined; // the topics that have been received up to the position
  #waiters: { number: number; resolve: () => void; reject: (err: PealdError) => void }[] = [];

  #leader: string | undefined;
  #heard = 0; // when the leader was heard last
  #leading: Leader | undefined;
  #release = () => {}; // gives up the locks
  #lock: AbortController | undefined; // stops waiting for the leader's lock

  #live = false; // relayed blocks are delivered as they arrive
  #held: Block[] = []; // while the member reads what it has missed
  #reading: AbortController | undefined;
  #timer: unknown;
  #suspended = false;
  #closed = false;

  constructor(
    private context: SourceContext,
    private options: MemberOptions,
    private sink: Sink,
  ) {
    this.#env = context.env as Platform;
    this.topics = options.topics;
    this.#cursor = new Cursor(options.position);
    queueMicrotask(() => this.#start()); // so that the page can add its handlers first
  }

  get position(): string {
    return this.#own?.position ?? this.#cursor.position;
  }

  setTopics(topics: readonly string[]): Promise<void> {
    this.topics = topics;
    if (this.#own) return this.#own.setTopics(topics);
    const number = ++this.#number;
    return new Promise((resolve, reject) => {
      this.#waiters.push({ number, resolve, reject });
      this.#join();
    });
  }

  suspend(): void {
    if (this.#own) return this.#own.suspend();
    this.#suspended = true;
    this.#leave();
    this.sink.state("waiting");
  }

  resume(): void {
    if (this.#own) return this.#own.resume();
    if (!this.#suspended) return;
    this.#suspended = false;
    this.#start();
  }

  check(replace: boolean): void {
    if (this.#own) this.#own.check(replace);
    else this.#post({ kind: "check", replace });
  }

  close(close: PealdClose): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#own) return this.#own.close(close);
    this.#leave();
    for (const { reject } of this.#waiters.splice(0)) reject(new PealdError(close));
    this.sink.state("closed");
    this.sink.close(close);
  }

  #start(): void {
    if (this.#closed || this.#suspended || this.#own || this.#channel) return;
    this.sink.state("connecting");
    this.#id = `${this.#env.now()}-${this.#env.random()}`;
    this.#heard = this.#env.now();
    const channel = this.#env.channel(this.options.group);
    this.#channel = channel;
    channel.onmessage = ({ data }: MessageEvent) => this.#receive(data as Message);
    // The lock shows the leader that this tab is alive.
    this.#hold(this.#lockOf(this.#id), () => {
      if (this.#channel !== channel) return;
      this.#join();
      this.#lead(false);
      this.#ping();
    });
  }

  #lockOf(id: string): string {
    return `${this.options.group} ${id}`;
  }

  /** Requests a lock and holds it until release is called. */
  async #hold(name: string, granted: () => void, options: LockOptions = {}): Promise<void> {
    try {
      await this.#env.locks.request(name, options, () => new Promise<void>((resolve) => {
        const release = this.#release;
        this.#release = () => {
          release();
          resolve();
        };
        granted();
      }));
    } catch {
      // It was stolen, or is no longer wanted.
    }
  }

  /** Waits for the leader's lock, or takes it from a leader that doesn't react. */
  #lead(steal: boolean): void {
    const channel = this.#channel;
    this.#lock?.abort();
    this.#lock = new AbortController();
    let leader: Leader | undefined;
    const lead = () => {
      if (this.#channel !== channel) return;
      leader = this.#leading = this.#newLeader();
    };
    void this.#hold(`${this.options.group} leader`, lead, steal ? { steal } : { signal: this.#lock.signal }).then(() => {
      leader?.stop();
      if (this.#channel !== channel || !leader || this.#leading !== leader) return;
      // Another tab has taken the lock, because this one didn't react for a while.
      this.#leading = undefined;
      this.#post({ kind: "unlead" });
      this.#lead(false);
    });
  }

  #newLeader(): Leader {
    const { query, probe } = this.options;
    return new Leader(this.context, {
      id: this.#id, query, probe,
      position: () => this.#cursor.position,
      post: (content) => this.#post(content),
      whenGone: async (id, signal) => { await this.#env.locks.request(this.#lockOf(id), { signal }, () => {}); },
      started: () => this.#relayed(),
    });
  }

  /** Sends a message to all members, including this one, and to the leader. */
  #post(content: Content): void {
    const message = { ...content, from: this.#id } as Message;
    const channel = this.#channel;
    channel?.postMessage(message);
    queueMicrotask(() => { if (this.#channel === channel && channel) this.#receive(message); });
  }

  #join(): void {
    this.#post({ kind: "join", number: this.#number, topics: this.topics });
  }

  #receive(message: Message): void {
    if (this.#closed || this.#own || !this.#channel) return;
    this.#leading?.receive(message);
    const { from } = message;
    switch (message.kind) {
      case "lead":
        this.#follow(from);
        return this.#join();
      case "unlead":
        if (from !== this.#leader && this.#leader) return;
        this.#follow(undefined);
        return this.#join();
      case "cover":
      case "pong":
        if (!this.#leader) {
          this.#follow(from);
          this.#join();
        }
    }
    if (from !== this.#leader) return; // a former leader may not know yet
    this.#heard = this.#env.now();
    switch (message.kind) {
      case "cover":
        if (message.members[this.#id] === this.#number) void this.#catchUp(message.position, message.state);
        break;
      case "block":
        if (this.#live) this.#take(message.block);
        else if (this.#reading) this.#held.push(message.block);
        break;
      case "state":
        if (this.#live) this.sink.state(message.state);
        break;
      case "refuse":
        if (message.members.includes(this.#id)) this.#refused(message.close);
        break;
      case "dissolve":
        this.#separate();
    }
  }

  /** Waits for the blocks of another leader. */
  #follow(leader: string | undefined): void {
    this.#leader = leader;
    this.#heard = this.#env.now();
    this.#stopReading();
    if (this.#live) this.sink.state("connecting");
    this.#live = false;
  }

  #stopReading(): void {
    this.#reading?.abort();
    this.#reading = undefined;
    this.#held = [];
  }

  /** Prepares for the blocks of this tab's own stream, which starts at the member's position. */
  #relayed(): void {
    this.#stopReading();
    this.#covered ??= { number: this.#number, topics: this.topics };
    this.#live = true;
    this.#cursor.begin();
  }

  /** Reads what is missing up to a position, from which on blocks are relayed, and delivers those. */
  async #catchUp(position: string, state: Parameters<Sink["state"]>[0]): Promise<void> {
    const number = this.#number, { topics } = this, before = this.#covered;
    const added = before ? topics.filter((topic) => !before.topics.includes(topic)) : [];
    if (this.#live && added.length === 0) return this.#caughtUp(number, topics, state);

    this.#reading?.abort();
    const reading = this.#reading = new AbortController(), { signal } = reading;
    const behind = !this.#live;
    this.#live = false;
    for (let failures = 0; !signal.aborted;) {
      try {
        // The topics that are added count from the position on.
        if (behind) await this.#readMissed(before?.topics ?? topics, position, signal);
        const values = await readValues(this.context, added, this.#cursor.position, signal);
        if (signal.aborted) return;
        for (const value of values) this.#deliverEvent(value, this.#cursor.position);
        const held = this.#held;
        this.#stopReading();
        this.#live = true;
        this.#caughtUp(number, topics, state);
        for (const block of held) this.#take(block);
        return;
      } catch (err) {
        if (signal.aborted) return;
        const { kind, wait } = failureOf(err), { tokens } = this.context.requester;
        if (kind === "unauthorized" && tokens.renewable && failures === 0) tokens.invalidate();
        else if (kind === "unauthorized" || kind === "permanent" || kind === "large") return this.#separate();
        this.context.pacer.failures = ++failures;
        await this.#sleep(this.context.pacer.delay(wait));
      }
    }
  }

  #caughtUp(number: number, topics: readonly string[], state: Parameters<Sink["state"]>[0]): void {
    this.#covered = { number, topics };
    this.sink.state(state);
    this.#waiters = this.#waiters.filter((waiter) => {
      if (waiter.number <= number) waiter.resolve();
      return waiter.number > number;
    });
  }

  /** Reads and delivers events until the member's position isn't before the given one. */
  async #readMissed(topics: readonly string[], position: string, signal: AbortSignal): Promise<void> {
    const cursor = this.#cursor, { query } = this.options;
    for (let reads = 0; ; reads++) {
      if (cursor.position && comparable(cursor.position, position) && !isAfter(position, cursor.position)) return;
      if (reads > 0 && !comparable(cursor.position, position)) return; // the leader will notice that the log is another one
      if (reads > 1) await this.#sleep(Math.min(reads * 50, 1000));
      if (signal.aborted) return;
      cursor.begin();
      const { blocks } = await readBatch(this.context, topics, { position: cursor.position, query }, signal);
      if (signal.aborted) return;
      for (const block of blocks) this.#take(block);
    }
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => { this.#env.setTimeout(resolve, ms); });
  }

  #take(block: Block): void {
    if (this.#closed) return;
    const before = this.#cursor.position;
    const delivery = this.#cursor.take(block, true, Object.keys(this.options.query).length === 0 || this.#live);
    switch (delivery?.kind) {
      case "event":
        this.#deliverEvent(delivery.event, before);
        break;
      case "reset":
        this.sink.reset(delivery.reset);
        break;
      case "end": {
        const { topic } = delivery.end;
        if (this.topics.some((wanted) => matches(wanted, topic))) this.sink.end(delivery.end);
        if (this.topics.length === 1 && this.topics[0] === topic && !isPattern(topic)) {
          this.close({ reason: "ended", status: 204, message: "the topic has ended" });
        }
      }
    }
  }

  #deliverEvent(event: Parameters<Sink["event"]>[0], before: string): void {
    const { topic } = event;
    if (topic === undefined || this.topics.some((wanted) => matches(wanted, topic))) void this.sink.event(event, before);
  }

  /** Returns to the topics that the stream had, or gives up sharing if there are none. */
  #refused(close: PealdClose): void {
    if (!this.#covered || sameTopics(this.#covered.topics, this.topics)) return this.#separate();
    this.topics = this.#covered.topics;
    this.#number++;
    for (const { reject } of this.#waiters.splice(0)) reject(new PealdError(close));
    this.#join();
  }

  /** Opens a stream of its own from the position on. */
  #separate(): void {
    if (this.#own || this.#closed) return;
    this.#leave();
    const { query, probe } = this.options, { position } = this.#cursor, covered = this.#covered?.topics ?? this.topics;
    this.#own = new Engine(this.context, { topics: covered, position, query, probe, values: true }, this.sink);
    const waiters = this.#waiters.splice(0);
    if (waiters.length === 0 && sameTopics(covered, this.topics)) return;
    this.#own.setTopics(this.topics).then(
      () => { for (const { resolve } of waiters) resolve(); },
      (err: PealdError) => { for (const { reject } of waiters) reject(err); },
    );
  }

  /** Leaves the group. */
  #leave(): void {
    this.#post({ kind: this.#leading ? "unlead" : "leave" });
    this.#leading?.stop();
    this.#leading = undefined;
    this.#lock?.abort();
    this.#live = false;
    this.#follow(undefined);
    this.#env.clearTimeout(this.#timer);
    const channel = this.#channel;
    this.#channel = undefined;
    if (channel) {
      channel.onmessage = null;
      channel.close();
    }
    this.#release();
    this.#release = () => {};
  }

  /** Asks whether the leader is alive, from time to time, and replaces it if it isn't. */
  #ping(): void {
    const { document } = this.#env, channel = this.#channel, due = this.#env.now() + pingInterval;
    this.#timer = this.#env.setTimeout(() => {
      if (this.#channel !== channel) return;
      const now = this.#env.now();
      if (now - due > pingInterval) this.#heard = now; // this tab itself has been stopped

      if (!this.#leading && document?.visibilityState !== "hidden") {
        this.#post({ kind: "ping" });
        if (now - this.#heard > leaderTimeout) {
          this.#heard = now;
          this.#lead(true);
        }
      }
      this.#ping();
    }, pingInterval);
  }
}
