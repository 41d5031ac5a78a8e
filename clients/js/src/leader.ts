import type { Block } from "./block.js";
import { Engine } from "./engine.js";
import type { PealdError } from "./errors.js";
import type { SourceContext } from "./stream.js";
import { maxTopics } from "./topics.js";
import type { PealdClose, PealdState } from "./types.js";

/** What tabs send to each other. All messages of a group go through one channel. */
export type Message = { from: string } & (
  /** A member's topics. A higher number replaces a lower one. */
  | { kind: "join"; number: number; topics: readonly string[] }
  | { kind: "leave" }
  /** A visible member asks whether the leader is alive. */
  | { kind: "ping" }
  /** A member suspects that the connection is broken. */
  | { kind: "check"; replace: boolean }
  /** A new leader asks for the topics of all members. */
  | { kind: "lead" }
  /** The leader stops; someone else will lead. */
  | { kind: "unlead" }
  /** The stream can't be shared. Every member opens one of its own. */
  | { kind: "dissolve" }
  | { kind: "pong" }
  /** From the position on, blocks for these members' topics are relayed. */
  | { kind: "cover"; position: string; members: Readonly<Record<string, number>>; state: PealdState }
  /** The topics of these members can't be part of the stream. */
  | { kind: "refuse"; members: readonly string[]; close: PealdClose }
  | { kind: "block"; block: Block }
  | { kind: "state"; state: PealdState }
);

/** The content of a message, without its sender. */
export type Content = Message extends infer M ? (M extends Message ? Omit<M, "from"> : never) : never;

/** How long a new leader waits for the topics of the others, in milliseconds. */
const gathering = 50;

/** What a {@link Leader} needs. */
export interface LeaderOptions {
  /** The leader's own id. */
  id: string;
  /** Returns the position from which the stream starts. */
  position: () => string;
  query: Readonly<Record<string, string>>;
  probe: number;
  /** Sends a message to all members, including this tab's. */
  post: (content: Content) => void;
  /** Waits for the end of a member's tab; the signal stops that. */
  whenGone: (id: string, signal: AbortSignal) => Promise<void>;
  /** Is called before the first block can arrive. */
  started: () => void;
}

/** Holds the stream of a group, with the topics of all members, and relays its blocks. */
export class Leader {
  #engine: Engine | undefined;
  #members = new Map<string, { number: number; topics: readonly string[]; covered: number; watch: AbortController }>();
  #timer: unknown;
  #stopped = false;

  constructor(
    private context: SourceContext,
    private options: LeaderOptions,
  ) {
    options.post({ kind: "lead" });
    this.#timer = context.env.setTimeout(() => this.#open(), gathering);
  }

  /** Handles a message from a member. */
  receive(message: Message): void {
    switch (message.kind) {
      case "join":
        this.#join(message.from, message.number, message.topics);
        break;
      case "leave":
        this.#remove(message.from);
        break;
      case "ping":
        this.#engine?.poke(); // the leader's tab may be hidden
        this.options.post({ kind: "pong" });
        break;
      case "check":
        this.#engine?.check(message.replace);
    }
  }

  /** Checks the connection. */
  check(replace: boolean): void {
    this.#engine?.check(replace);
  }

  /** Disconnects. The caller informs the members. */
  stop(): void {
    this.#stopped = true;
    this.context.env.clearTimeout(this.#timer);
    for (const { watch } of this.#members.values()) watch.abort();
    this.#members.clear();
    this.#engine?.close({ reason: "closed", status: 0, message: "" });
  }

  #open(): void {
    if (this.#stopped) return;
    const { position, query, probe, post, started } = this.options;
    started();
    this.#engine = new Engine(this.context, {
      topics: this.#union(), position: position(), query, probe,
      values: false, // each member reads those that it needs
      covered: (topics, from) => this.#cover(topics, from),
      relay: (block) => post({ kind: "block", block }),
    }, {
      event: () => undefined,
      reset: () => {},
      end: () => {},
      state: (state) => { if (!this.#stopped) post({ kind: "state", state }); },
      close: () => { if (!this.#stopped) post({ kind: "dissolve" }); },
    });
  }

  #union(): string[] {
    return [...new Set([...this.#members.values()].flatMap(({ topics }) => topics))];
  }

  #join(id: string, number: number, topics: readonly string[]): void {
    const known = this.#members.get(id);
    if (known && known.number > number) return;
    const watch = known?.watch ?? new AbortController();
    this.#members.set(id, { number, topics, covered: known?.number === number ? known.covered : -1, watch });
    if (!known && id !== this.options.id) {
      this.options.whenGone(id, watch.signal).then(() => this.#remove(id), () => {});
    }
    if (this.#union().length > maxTopics) {
      return this.#refuse([id], { reason: "rejected", status: 400, message: `the tabs together have more than ${maxTopics} topics` });
    }
    this.#change();
  }

  #remove(id: string): void {
    const member = this.#members.get(id);
    if (!member) return;
    member.watch.abort();
    this.#members.delete(id);
    this.#change();
  }

  /** Makes the stream have the topics of all members. */
  #change(): void {
    const engine = this.#engine, union = this.#union();
    if (!engine || this.#stopped) return;
    if (engine.live && union.every((topic) => engine.topics.includes(topic))) this.#cover(engine.topics, engine.position);
    if (union.length === engine.topics.length && union.every((topic) => engine.topics.includes(topic))) return;
    engine.setTopics(union).catch(({ reason, status, message }: PealdError) => {
      if (this.#stopped || reason === "closed") return;
      const uncovered = [...this.#members].filter(([, { number, covered }]) => covered !== number).map(([id]) => id);
      this.#refuse(uncovered, { reason, status, message });
    });
  }

  #refuse(members: readonly string[], close: PealdClose): void {
    for (const id of members) {
      this.#members.get(id)?.watch.abort();
      this.#members.delete(id);
    }
    this.options.post({ kind: "refuse", members, close });
  }

  /** Announces the members whose topics the stream has from a position on, if they don't know yet. */
  #cover(topics: readonly string[], position: string): void {
    const members: Record<string, number> = {};
    for (const [id, member] of this.#members) {
      if (member.covered === member.number || !member.topics.every((topic) => topics.includes(topic))) continue;
      member.covered = members[id] = member.number;
    }
    if (Object.keys(members).length > 0) {
      this.options.post({ kind: "cover", position, members, state: this.#engine?.state ?? "open" });
    }
  }
}
