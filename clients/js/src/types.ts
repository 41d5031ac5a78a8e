/** An event that a backend published. */
export interface PealdEvent {
  /** The event's id, unique within the daemon or cluster. It is a valid {@link PealdOptions.position}. */
  readonly id: string;
  /** The event's type: the publisher's, or else `topic`, `individual` or `broadcast`. */
  readonly type: string;
  /** The event's data, as published. */
  readonly data: string;
  /** The topic that the event was published to. It is undefined for other audiences, and in streams without envelopes. */
  readonly topic?: string;
  /** All topics that the event was published to and the client subscribes to, if there are several. The first is `topic`. */
  readonly topics?: readonly string[];
  /** Whom the event was published to. It is undefined without envelopes. */
  readonly audience?: "topic" | "user" | "broadcast";
  /** When the event was published. It is undefined without envelopes. */
  readonly time?: Date;
  /** True for the retained value of an audience, which was published before the client subscribed. */
  readonly retained: boolean;
  /**
   * Parses {@link PealdEvent.data} as JSON. Nothing checks that the value has the type `T`.
   *
   * @throws SyntaxError if the data isn't JSON.
   */
  json<T = unknown>(): T;
}

/** Reports that events are missing and can't be sent again, so that the page must reload its state. */
export interface PealdReset {
  /**
   * What happened. `expired`: the history no longer holds all events since the position. `unknown`: the position belongs
   * to another event log. `overflow`: the client read too slowly. Later servers may add reasons.
   */
  readonly reason: "expired" | "unknown" | "overflow" | (string & {});
  /** The position from which the client wanted to resume. */
  readonly lastEventId: string;
}

/** Reports that a topic has ended. */
export interface PealdEnd {
  /** The topic, from which no more events will come unless a publisher reopens it. */
  readonly topic: string;
}

/**
 * What the client is doing. `connecting`: it opens a stream. `open`: it receives a stream. `polling`: it receives events
 * by long polling, because something on the way holds streams back. `waiting`: it waits before it connects again.
 * `closed`: it has stopped for good.
 */
export type PealdState = "connecting" | "open" | "polling" | "waiting" | "closed";

/**
 * Why a client has stopped. `closed`: the page closed it. `ended`: its topics have ended, or its user was banned.
 * `unauthorized`: its token was rejected. `forbidden`: it may not subscribe to its topics, or not from this origin.
 * `rejected`: the server rejected its request as invalid.
 */
export type PealdCloseReason = "closed" | "ended" | "unauthorized" | "forbidden" | "rejected";

/** Describes why a client has stopped. */
export interface PealdClose {
  /** Why the client has stopped. */
  readonly reason: PealdCloseReason;
  /** The HTTP status that stopped it, or 0 if there was none. */
  readonly status: number;
  /** The server's explanation, or an empty string. */
  readonly message: string;
}

/** The handlers that {@link Peald.on} accepts for names that no event can have. */
export interface PealdHandlers {
  /** Receives every event. */
  "peald.event": PealdEvent;
  /** Receives a notice that events are missing. */
  "peald.reset": PealdReset;
  /** Receives the topics that end. */
  "peald.end": PealdEnd;
  /** Receives each state, beginning with `connecting`. */
  "peald.state": PealdState;
  /** Receives the reason why the client has stopped, once. */
  "peald.close": PealdClose;
}

/** Returns a token, or null if there is none, for example because the user has logged out. */
export type PealdTokenSource = () => string | null | Promise<string | null>;

/** Configures a {@link Peald}. */
export interface PealdOptions {
  /** Topics and patterns to subscribe to, such as `orders.*`. The default is none: broadcasts and the user's events. */
  topics?: readonly string[];
  /**
   * A function that returns a token, or a token that never changes. The function is called again before the token
   * expires and when the server rejects it. If it throws, the client tries again later. If it returns null, the client
   * stops.
   */
  token?: string | PealdTokenSource;
  /**
   * Where to start: the {@link Peald.position} or the id of an event that the page has kept. It takes precedence over
   * `since` and `rewind`. Null and an empty string stand for no position.
   */
  position?: string | null;
  /** Starts without a position with the events since then: `all`, a duration such as `10m`, or an RFC 3339 time. */
  since?: string;
  /** Starts without a position with that many of the last events, from 1 to 1000. */
  rewind?: number;
  /**
   * Shares one stream among all tabs and workers of this origin that use the same URL. A string divides them into
   * groups: use the user's id if several users may be logged in in the same browser. Where the browser lacks Web Locks
   * or BroadcastChannel, the client opens a stream of its own. The default is false.
   */
  shared?: boolean | string;
  /**
   * Whether events carry their topic, audience and time, which costs about 80 bytes for each. The default is true.
   * Shared streams require it.
   */
  envelope?: boolean;
  /** Stops the client when it is aborted. */
  signal?: AbortSignal;
  /** Whether to send cookies to other origins; the default is `same-origin`. */
  credentials?: RequestCredentials;
  /** Request headers to add. Pages of other origins may only add those that the server allows. */
  headers?: Readonly<Record<string, string>>;
  /**
   * How often the server sends heartbeats, in milliseconds. A stream that is silent for three times as long is replaced. If
   * nothing but the first block has arrived for 1.25 times as long, the client polls until a stream gets through. The default
   * is 15000. The client learns longer intervals from the heartbeats that it gets.
   */
  heartbeat?: number;
  /** How long the first bytes of a stream may take before the client tries long polling, in milliseconds; the default is 10000. */
  firstByte?: number;
  /** How long the client polls before it tries to open a stream again, in milliseconds; the default is 300000. */
  probe?: number;
  /** The function that sends requests; the default is the global `fetch`. */
  fetch?: typeof globalThis.fetch;
}
