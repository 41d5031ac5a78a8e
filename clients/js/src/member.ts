import type { Block } from "./block.js";
import { Cursor } from "./cursor.js";
import { Engine } from "./engine.js";
import { failureOf } from "./errors.js";
import type { PealdError } from "./errors.js";
import { Leader } from "./leader.js";
import type { Message } from "./leader.js";
import type { Link, Sink } from "./link.js";
import { readBatch } from "./poll.js";
import { comparable, isAfter } from "./position.js";
import { Room } from "./room.js";
import type { Platform } from "./room.js";
import type { SourceContext } from "./stream.js";
import { isPattern, matches, narrowed, sameTopics } from "./topics.js";
import type { PealdClose } from "./types.js";
import { readValues } from "./values.js";
import { Waiters } from "./waiters.js";

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
const pingInterval = 250, leaderTimeout = 600;

/**
 * A link that shares a stream with other tabs. One of them, the holder of a lock, is the leader and relays the blocks of
 * its stream. Each member has its own topics and its own position. If the relayed blocks begin after that position, the
 * member first reads what it has missed. If sharing fails for good, it opens a stream of its own.
 */
export class Member implements Link {
  topics: readonly string[];

  #cursor: Cursor;
  #env: Platform;
  #own: Engine | undefined; // instead of sharing
  #room: Room | undefined; // a new one whenever the member enters the group
  #number = 0; // of the join that was sent last
  #covered: readonly string[] | undefined; // the topics that have been received up to the position
  #waiters = new Waiters();

  #leader: string | undefined;
  #heard = 0; // when the leader was heard last
  #leading: Leader | undefined;

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
    const waiting = this.#waiters.add(++this.#number);
    this.#join();
    return waiting;
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
    else this.#room?.post({ kind: "check", replace });
  }

  close(close: PealdClose): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#own) return this.#own.close(close);
    this.#leave();
    this.#waiters.reject(close);
    this.sink.state("closed");
    this.sink.close(close);
  }

  #start(): void {
    if (this.#closed || this.#suspended || this.#own || this.#room) return;
    this.sink.state("connecting");
    this.#heard = this.#env.now();
    const room = this.#room = new Room(this.#env, this.options.group, {
      entered: () => {
        this.#join();
        this.#ping(room);
      },
      receive: (message) => this.#receive(message),
      lead: () => { this.#leading = this.#newLeader(room); },
      deposed: () => {
        this.#leading?.stop();
        this.#leading = undefined;
        room.post({ kind: "unlead" });
      },
    });
  }

  #newLeader(room: Room): Leader {
    const { query, probe } = this.options;
    return new Leader(this.context, {
      id: room.id, query, probe,
      position: () => this.#cursor.position,
      post: (content) => room.post(content),
      whenGone: (id, signal) => room.whenGone(id, signal),
      started: () => this.#relayed(),
    });
  }

  #join(): void {
    this.#room?.post({ kind: "join", number: this.#number, topics: this.topics });
  }

  #receive(message: Message): void {
    const room = this.#room;
    if (!room) return;
    this.#leading?.receive(message);
    const { from } = message;
    switch (message.kind) {
      case "lead":
        // A tab that was frozen may get the lock too late, after this one has taken it. If this tab has lost the lock,
        // it is about to be deposed, and joins then.
        if (this.#leading && from !== room.id) return;
        return this.#follow(from);
      case "unlead":
        if (from !== this.#leader && this.#leader) return;
        return this.#follow(undefined);
      case "cover":
      case "pong":
        if (!this.#leader) this.#follow(from);
    }
    if (from !== this.#leader) return; // a former leader may not know yet
    this.#heard = this.#env.now();
    switch (message.kind) {
      case "cover":
        if (message.members[room.id] === this.#number) void this.#catchUp(message.position, message.state);
        break;
      case "block":
        if (this.#live) this.#take(message.block);
        else if (this.#reading) this.#held.push(message.block);
        break;
      case "state":
        if (this.#live) this.sink.state(message.state);
        break;
      case "refuse":
        if (message.members.includes(room.id)) this.#refused(message.close);
        break;
      case "dissolve":
        this.#separate();
    }
  }

  /** Waits for the blocks of another leader. The number is a new one, since the leader may have covered the previous one. */
  #follow(leader: string | undefined): void {
    this.#leader = leader;
    this.#heard = this.#env.now();
    this.#stopReading();
    if (this.#live) this.sink.state("connecting");
    this.#live = false;
    this.#number++;
    this.#join();
  }

  #stopReading(): void {
    this.#reading?.abort();
    this.#reading = undefined;
    this.#held = [];
  }

  /** Prepares for the blocks of this tab's own stream, which starts at the member's position. */
  #relayed(): void {
    this.#stopReading();
    this.#covered ??= this.topics;
    this.#live = true;
    this.#cursor.begin();
  }

  /** Reads what is missing up to a position, from which on blocks are relayed, and delivers those. */
  async #catchUp(position: string, state: Parameters<Sink["state"]>[0]): Promise<void> {
    const number = this.#number, { topics } = this, before = this.#covered;
    const added = before ? topics.filter((topic) => !before.includes(topic)) : [];
    if (this.#live && added.length === 0) return this.#caughtUp(number, topics, state);

    this.#reading?.abort();
    const reading = this.#reading = new AbortController(), { signal } = reading;
    const behind = !this.#live;
    this.#live = false;
    for (let failures = 0; !signal.aborted;) {
      try {
        // The topics that are added count from the position on.
        if (behind) await this.#readMissed(before ?? topics, position, signal);
        const values = await readValues(this.context, added, signal), { position: from } = this.#cursor;
        if (signal.aborted) return;
        for (const value of values) if (this.#cursor.covers(value.id)) this.#deliverEvent(value, from);
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
    this.#covered = topics;
    this.sink.state(state);
    this.#waiters.resolve(number);
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
    const delivery = this.#cursor.take(block, Object.keys(this.options.query).length === 0 || this.#live);
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
    const wanted = narrowed(event, this.topics);
    if (wanted) void this.sink.event(wanted, before);
  }

  /** Returns to the topics that the stream had, or gives up sharing if there are none. */
  #refused(close: PealdClose): void {
    if (!this.#covered || sameTopics(this.#covered, this.topics)) return this.#separate();
    this.topics = this.#covered;
    this.#number++;
    this.#waiters.reject(close);
    this.#join();
  }

  /** Opens a stream of its own from the position on. */
  #separate(): void {
    if (this.#own || this.#closed) return;
    this.#leave();
    const { query, probe } = this.options, { position } = this.#cursor, covered = this.#covered ?? this.topics;
    this.#own = new Engine(this.context, { topics: covered, position, query, probe, values: true }, this.sink);
    this.#own.setTopics(this.topics).then(() => this.#waiters.resolve(this.#number), (err: PealdError) => this.#waiters.reject(err));
  }

  /** Leaves the group. */
  #leave(): void {
    const room = this.#room;
    if (!room) return;
    room.post({ kind: this.#leading ? "unlead" : "leave" });
    this.#room = undefined;
    this.#leading?.stop();
    this.#leading = undefined;
    this.#live = false;
    this.#follow(undefined);
    this.#env.clearTimeout(this.#timer);
    room.leave();
  }

  /** Asks whether the leader is alive, from time to time, and replaces it if it isn't. */
  #ping(room: Room): void {
    const { document } = this.#env, due = this.#env.now() + pingInterval;
    this.#timer = this.#env.setTimeout(() => {
      if (this.#room !== room) return;
      const now = this.#env.now();
      if (now - due > pingInterval) this.#heard = now; // this tab itself has been stopped
      if (!this.#leading && document?.visibilityState !== "hidden") {
        room.post({ kind: "ping" });
        if (now - this.#heard > leaderTimeout) {
          this.#heard = now;
          room.lead(true);
        }
      }
      this.#ping(room);
    }, pingInterval);
  }
}
