import { matches } from "../src/topics.js";
import type { Clock } from "./clock.js";

/** A message in the history of the server. */
export interface Message {
  seq: number;
  /** The topic, and further ones; undefined for a broadcast. */
  topic?: string;
  also?: readonly string[];
  type: string;
  data: string;
  key?: string;
}

/** What goes wrong with a request. */
export interface Fault {
  /** The connection fails before a response. */
  refuse?: boolean;
  /** The status of the response. */
  status?: number;
  headers?: Record<string, string>;
  body?: string;
  /** How long the response takes, in milliseconds; Infinity for ever. */
  delay?: number;
  /** After how many bytes of the body the connection breaks. */
  cut?: number;
  /** How many of the last blocks before the position are sent again. */
  repeat?: number;
  /** Nothing arrives before the body is complete. */
  buffered?: boolean;
  /** A 200 that asks to try again later. */
  later?: boolean;
  /** Stops sending after the first block. */
  stall?: boolean;
}

/** A request as the server got it. */
export interface Request {
  at: number;
  url: URL;
  topics: string[];
  position: string;
  json: boolean;
  token: string | undefined;
}

interface Connection {
  topics: string[];
  envelope: boolean;
  write(text: string): void;
  end(): void;
  fail(): void;
}

interface Poll {
  topics: string[];
  after: number;
  answer(): void;
}

/**
 * A model of the server's event streams and polls, with faults.
 */
export class Server {
  epoch = "e1";
  history: Message[] = [];
  seq = 0;
  evicted = 0; // the last sequence that is gone
  retry = 100;
  requests: Request[] = [];
  /** Decides what goes wrong with a request. */
  fault: (request: Request) => Fault | undefined = () => undefined;
  /** Reports whether a token is valid. */
  accepts: (token: string | undefined) => boolean = () => true;
  /** Returns the status for topics; 200 if they are allowed. */
  allows: (topics: string[]) => number = () => 200;
  ended = new Map<string, number>();
  retained = new Map<string, Message>();
  envelopes = true;
  /** After how much silence a stream gets a heartbeat, in milliseconds; 0 for never. */
  silence = 0;

  #connections = new Set<Connection>();
  #polls = new Set<Poll>();

  constructor(private clock: Clock) {}

  /** How many streams are open. */
  get open(): number {
    return this.#connections.size;
  }

  /** How many polls wait. */
  get waiting(): number {
    return this.#polls.size;
  }

  id(seq: number): string {
    return `${this.epoch}-${seq}`;
  }

  /** Publishes to a topic, and to further ones, or to everyone. It returns the id. */
  publish(topic: string | undefined, data: string, options: Publication = {}): string {
    const { final = false, retain = false, key = "", type = topic === undefined ? "broadcast" : "topic", also = [] } = options;
    const message: Message = { seq: ++this.seq, type, data, key, ...(topic !== undefined && { topic, also }) };
    this.history.push(message);
    if (retain) for (const name of topicsOf(message) ?? [undefined]) this.retained.set(`${name} ${key}`, message);
    for (const name of topicsOf(message) ?? []) {
      this.ended.delete(name);
      if (final) this.ended.set(name, this.seq);
    }
    for (const connection of [...this.#connections]) {
      if (!wants(connection.topics, message)) continue;
      connection.write(this.#block(message, connection));
      if (final) for (const name of mine(connection.topics, message)) this.#end(connection, name);
    }
    for (const poll of [...this.#polls]) if (wants(poll.topics, message)) poll.answer();
    return this.id(this.seq);
  }

  /** Sends a heartbeat to all streams. */
  heartbeat(): void {
    for (const connection of this.#connections) connection.write(this.#mark(this.seq));
  }

  /** Closes all streams gracefully. */
  close(): void {
    for (const connection of [...this.#connections]) {
      connection.write(`retry: ${this.retry}\n\n`);
      connection.end();
    }
  }

  /** Breaks all connections. */
  break(): void {
    for (const connection of [...this.#connections]) connection.fail();
  }

  /** Starts over with an empty history. */
  restart(epoch: string): void {
    this.break();
    this.epoch = epoch;
    this.history = [];
    this.seq = this.evicted = 0;
    this.retained.clear();
  }

  /** Forgets the history up to a sequence. */
  evict(seq: number): void {
    this.history = this.history.filter((message) => message.seq > seq);
    this.evicted = seq;
  }

  fetch = async (input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> => {
    const url = new URL(String(input)), headers = new Headers(init.headers);
    const request: Request = {
      at: this.clock.now,
      url,
      topics: url.searchParams.getAll("topic"),
      position: headers.get("Last-Event-ID") ?? "",
      json: headers.get("Accept") === "application/json",
      token: headers.get("Authorization")?.replace("Bearer ", ""),
    };
    this.requests.push(request);
    const fault = this.fault(request) ?? {}, signal = init.signal!;
    if (fault.delay) await abortable(signal, this.clock.sleep(fault.delay === Infinity ? 2 ** 52 : fault.delay));
    signal.throwIfAborted();
    if (fault.refuse) throw new TypeError("connection refused");
    if (fault.status) return new Response(fault.status === 204 ? null : fault.body ?? "", { status: fault.status, ...(fault.headers && { headers: fault.headers }) });
    if (!this.accepts(request.token)) return new Response("token rejected", { status: 401 });
    const status = this.allows(request.topics);
    if (status !== 200) return new Response(`topics ${request.topics.join()} are not allowed`, { status });
    const [only] = request.topics;
    if (request.topics.length === 1 && this.ended.has(only!) && this.#after(request.position) >= this.ended.get(only!)!) {
      return new Response(null, { status: 204 });
    }
    return request.json ? this.#poll(request, fault, signal) : this.#stream(request, fault, signal);
  };

  #after(position: string): number {
    return position.startsWith(`${this.epoch}-`) ? Number(position.slice(this.epoch.length + 1)) : -1;
  }

  /** Returns what a client gets first, and the sequence up to which that goes. */
  #start(request: Request): { reset?: string; values: Message[]; from: number; missed: Message[] } {
    const { topics, position, url } = request;
    const values = [...new Set(this.retained.values())].filter((m) => wants(topics, m)).sort((a, b) => a.seq - b.seq);
    const since = url.searchParams.get("since"), rewind = Number(url.searchParams.get("rewind"));
    if (!position) {
      const mine = this.history.filter((m) => wants(topics, m));
      const missed = since ? mine : rewind ? mine.slice(-rewind) : [];
      const from = missed.length > 0 ? missed[0]!.seq - 1 : this.seq;
      return { values: values.filter((v) => !missed.includes(v)), from, missed };
    }
    const after = this.#after(position);
    if (after < 0 || after > this.seq) return { reset: "unknown", values, from: this.seq, missed: [] };
    if (after < this.evicted) return { reset: "expired", values, from: this.seq, missed: [] };
    return { values: [], from: after, missed: this.history.filter((m) => m.seq > after && wants(topics, m)) };
  }

  #stream(request: Request, fault: Fault, signal: AbortSignal): Response {
    const { topics, position } = request, envelope = this.envelopes && request.url.searchParams.has("envelope");
    const { reset, values, from, missed } = this.#start(request);
    let text = `retry: ${this.retry}\n`;
    if (fault.later) {
      text += position ? `id: ${position}\n\n` : "\n";
    } else if (reset) {
      text += `event: peald.reset\n${values.length > 0 ? "" : `id: ${this.id(from)}\n`}data: ${JSON.stringify({ reason: reset, last_event_id: position })}\n\n`;
    } else if (values.length > 0) {
      text += "\n";
    }
    if (!fault.later) {
      text += values.map((value) => this.#block(value, { topics, envelope })).join("");
      if (!reset || values.length > 0) text += this.#mark(from);
      const repeated = fault.repeat ? this.history.filter((m) => m.seq <= from && wants(topics, m)).slice(-fault.repeat) : [];
      text += [...repeated, ...missed].map((message) => this.#block(message, { topics, envelope })).join("");
    }

    const encoder = new TextEncoder();
    let left = fault.cut ?? Infinity, stalled = false, timer: number | undefined;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        const connection: Connection = {
          topics,
          envelope,
          write: (piece) => {
            this.clock.clearTimeout(timer);
            if (this.silence > 0 && this.#connections.has(connection)) {
              timer = this.clock.setTimeout(() => {
                if (this.#connections.has(connection)) connection.write(this.#mark(this.seq));
              }, this.silence);
            }
            if (stalled || fault.buffered) return;
            const bytes = encoder.encode(piece), sent = bytes.slice(0, left);
            if (sent.length > 0) controller.enqueue(sent);
            left -= sent.length;
            if (left <= 0) connection.fail();
            stalled = fault.stall ?? false;
          },
          end: () => { if (this.#connections.delete(connection)) controller.close(); },
          fail: () => { if (this.#connections.delete(connection)) controller.error(new TypeError("connection broken")); },
        };
        this.#connections.add(connection);
        signal.addEventListener("abort", () => { if (this.#connections.delete(connection)) controller.error(signal.reason); });
        connection.write(text);
        if (fault.later) connection.end();
        else for (const topic of this.ended.keys()) if (topics.includes(topic)) this.#end(connection, topic);
      },
    });
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  }

  #end(connection: Connection, topic: string): void {
    if (!this.#connections.has(connection)) return;
    connection.write(`${connection.topics.length === 1 ? `id: ${this.id(this.seq)}\n` : ""}event: peald.end\ndata: ${JSON.stringify({ topic })}\n\n`);
    if (connection.topics.length === 1) {
      connection.write(`retry: ${this.retry}\n\n`);
      connection.end();
    }
  }

  async #poll(request: Request, fault: Fault, signal: AbortSignal): Promise<Response> {
    const { topics, position } = request;
    const wait = parseFloat(request.url.searchParams.get("wait") ?? "0") * 1000;
    let start = this.#start(request);
    const empty = () => !start.reset && start.values.length === 0 && start.missed.length === 0;
    if (wait > 0 && empty()) {
      let poll: Poll | undefined;
      const answered = new Promise<void>((resolve) => {
        poll = { topics, after: start.from, answer: resolve };
        this.#polls.add(poll);
      });
      try {
        await abortable(signal, Promise.race([answered, this.clock.sleep(wait)]));
      } finally {
        this.#polls.delete(poll!);
      }
      start = this.#start(request);
    }
    if (fault.cut !== undefined) throw new TypeError("connection broken");
    const envelope = this.envelopes && request.url.searchParams.has("envelope");
    const events = [...start.values, ...start.missed].slice(0, 256).map((m) => (
      { id: this.id(m.seq), event: m.type, ...named(topics, m), data: m.data, ...(envelope && originOf(topics, m)) }));
    const last = start.missed.length > 256 ? start.missed[255]!.seq : this.seq;
    return Response.json({ events, position: this.id(last), reset: start.reset ? { reason: start.reset, last_event_id: position } : null });
  }

  #mark(seq: number): string {
    return `event: peald.mark\nid: ${this.id(seq)}\ndata:\n\n`;
  }

  #block(message: Message, { topics, envelope }: { topics: string[]; envelope: boolean }): string {
    const { seq, type, data } = message;
    const text = envelope ? JSON.stringify({ ...originOf(topics, message), event: type, data }) : data;
    return `id: ${this.id(seq)}\nevent: ${type}\ndata: ${text.split("\n").join("\ndata: ")}\n\n`;
  }
}

/** Returns what envelopes contain besides the event. */
function originOf(topics: string[], message: Message) {
  const audience = message.topic === undefined ? { broadcast: true } : named(topics, message);
  return { ...audience, time: new Date(message.seq * 1000).toISOString() };
}

/** How a message is published. */
interface Publication {
  final?: boolean;
  retain?: boolean;
  key?: string;
  type?: string;
  /** Further topics. */
  also?: readonly string[] | undefined;
}

function topicsOf({ topic, also = [] }: Message): string[] | undefined {
  return topic === undefined ? undefined : [...new Set([topic, ...also])];
}

/** Returns the topics of a message that a client subscribes to. */
function mine(topics: string[], message: Message): string[] {
  return topicsOf(message)?.filter((name) => topics.some((topic) => matches(topic, name))) ?? [];
}

function wants(topics: string[], message: Message): boolean {
  return message.topic === undefined || mine(topics, message).length > 0;
}

/** Returns the members of an envelope, or of a poll's event, that name topics. */
function named(topics: string[], message: Message): { topic?: string; topics?: string[] } {
  const names = mine(topics, message);
  return names[0] === undefined ? {} : { topic: names[0], ...(names.length > 1 && { topics: names }) };
}

function abortable<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) reject(signal.reason as Error);
    const abort = () => reject(signal.reason as Error);
    signal.addEventListener("abort", abort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
