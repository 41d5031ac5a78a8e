import type { PealdClose, PealdCloseReason } from "./types.js";

/** The error of a client that has stopped, or of topics that the server has rejected. */
export class PealdError extends Error implements PealdClose {
  /** Why the client has stopped, or why the topics were rejected. */
  readonly reason: PealdCloseReason;
  /** The HTTP status, or 0 if there was none. */
  readonly status: number;

  /** Creates an error that describes why a client has stopped. */
  constructor(close: PealdClose) {
    super(close.message || `the client is ${close.reason}`);
    this.name = "PealdError";
    this.reason = close.reason;
    this.status = close.status;
  }
}

/** What kind of failure has ended an attempt or a stream. */
export type FailureKind =
  /** The connection failed or broke, or the response wasn't peald's. */
  | "network"
  /** Nothing arrived in time. */
  | "silent"
  /** The server asked to try again later. */
  | "busy"
  /** The server rejected the token. */
  | "unauthorized"
  /** The server will reject every attempt, or wants none. */
  | "permanent"
  /** The response was too large for JSON. */
  | "large";

/** The reason why an attempt or a stream has ended. */
export class Failure extends Error {
  /**
   * @param wait - how long to wait at least, in milliseconds, if the server has set a time
   */
  constructor(
    readonly kind: FailureKind,
    message: string,
    readonly status = 0,
    readonly wait?: number,
  ) {
    super(message);
  }

  /** Describes the failure for the page. */
  close(): PealdClose {
    const reasons: Record<number, PealdCloseReason> = { 204: "ended", 401: "unauthorized", 403: "forbidden" };
    return { reason: reasons[this.status] ?? "rejected", status: this.status, message: this.message };
  }
}

/** Returns err as a failure. Anything else than a failure comes from the network. */
export function failureOf(err: unknown): Failure {
  return err instanceof Failure ? err : new Failure("network", err instanceof Error ? err.message : String(err));
}
