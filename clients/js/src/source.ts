import type { Block } from "./block.js";

/**
 * A source of blocks: a stream, or a series of polls. It continues from the position at which it was opened, without gaps
 * and duplicates of its own.
 */
export interface Source {
  /** The topics to which it subscribes. */
  readonly topics: readonly string[];
  /** True for a stream, false for polls. */
  readonly streaming: boolean;
  /** Whether it has received more than its first blocks. */
  readonly proven: boolean;
  /** When something arrived last. */
  readonly lastSeen: number;
  /**
   * Waits until more than the first blocks has arrived, which shows that streams get through. Polls have no such method.
   *
   * @throws Failure if that takes too long, or if the connection has ended.
   */
  prove?(): Promise<void>;
  /**
   * Connects. It returns once the first blocks are there.
   *
   * @throws Failure if it can't connect.
   */
  open(): Promise<void>;
  /**
   * Returns the next blocks, at least one, or undefined if the server has closed the stream.
   *
   * @throws Failure if the connection broke or was silent for too long.
   */
  next(): Promise<Block[] | undefined>;
  /** Disconnects. A next that waits fails. It is safe to call it more than once. */
  close(): void;
}

/** What the sources know about the server's heartbeats, which outlives them. */
export interface Heartbeats {
  /** The interval between two heartbeats, in milliseconds. */
  interval: number;
  /**
   * Learns how long a stream was silent before a heartbeat.
   *
   * @param exact - whether the stream was silent since another heartbeat, so that this is the interval and not just a part
   */
  learn(silence: number, exact: boolean): void;
}
