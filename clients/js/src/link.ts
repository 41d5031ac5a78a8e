import type { Block, EventData } from "./block.js";
import type { PealdClose, PealdEnd, PealdReset, PealdState } from "./types.js";

/** Receives what a link delivers. */
export interface Sink {
  /**
   * Takes an event. The link waits for the promise, if there is one, before it reads on.
   *
   * @param before - the position before the event
   */
  event(event: EventData, before: string): Promise<void> | undefined;
  reset(reset: PealdReset): void;
  end(end: PealdEnd): void;
  state(state: PealdState): void;
  /** Is called once; nothing follows. */
  close(close: PealdClose): void;
}

/** A way of receiving events: a stream of its own, or one that is shared with other tabs. */
export interface Link {
  /** The position up to which everything has been delivered. */
  readonly position: string;
  /** The topics that were asked for last. */
  readonly topics: readonly string[];
  /**
   * Replaces the topics. It returns once events for all of them arrive.
   *
   * @throws PealdError if the server rejects them, in which case the previous topics remain, or if the link closes.
   */
  setTopics(topics: readonly string[]): Promise<void>;
  /** Disconnects until resume is called, because the page is about to be frozen. */
  suspend(): void;
  resume(): void;
  /**
   * Checks the connection, because it may have broken unnoticed.
   *
   * @param replace - whether to replace it in any case
   */
  check(replace: boolean): void;
  /** Disconnects for good. */
  close(close: PealdClose): void;
}

/** Configures a link with a connection of its own. */
export interface EngineOptions {
  topics: readonly string[];
  position: string;
  /** The query parameters since and rewind. */
  query: Readonly<Record<string, string>>;
  /** How long to poll before a stream is tried again, in milliseconds. */
  probe: number;
  /** Whether to deliver the retained values of topics that are added later. */
  values: boolean;
  /** Is called when a source has been adopted that has all events for its topics after the position. */
  covered?: (topics: readonly string[], position: string) => void;
  /** Gets each block before it is delivered. */
  relay?: (block: Block) => void;
}
