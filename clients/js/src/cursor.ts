import { eventOf, fields } from "./block.js";
import type { Block, EventData } from "./block.js";
import { isAfter } from "./position.js";
import type { PealdEnd, PealdReset } from "./types.js";

/** What a block means to the page. */
export type Delivery =
  | { kind: "event"; event: EventData }
  | { kind: "reset"; reset: PealdReset }
  | { kind: "end"; end: PealdEnd };

/**
 * Keeps the position in the event log, and drops what was received before.
 *
 * A stream without a position starts with retained values, whose ids can't be resumed from: the events after a value
 * aren't those that the stream would send next. So the position is only known from the first mark on.
 */
export class Cursor {
  position: string;
  /** False while the blocks of the source are retained values. */
  settled: boolean;

  #values = new Set<string>(); // ids of the retained values since the last reset
  #ended = new Set<string>();

  constructor(position: string) {
    this.position = position;
    this.settled = position !== "";
  }

  /** Prepares for the blocks of a new source, which starts at the position. */
  begin(): void {
    this.settled = this.position !== "";
  }

  /** Reports whether an event isn't after the position. */
  covers(id: string): boolean {
    return !id || !this.position || !isAfter(id, this.position);
  }

  /** Takes a block. It returns what the page should get of it; undefined for nothing. */
  take(block: Block, fresh: boolean): Delivery | undefined {
    switch (block.type) {
      case "peald.mark":
        this.#settle(block.id);
        return undefined;
      case "peald.reset": {
        const { reason = "unknown", last_event_id: lastEventId = "" } = fields(block.data);
        this.#values.clear();
        this.settled = block.id !== undefined;
        if (block.id !== undefined) this.position = block.id;
        return { kind: "reset", reset: { reason, lastEventId } };
      }
      case "peald.end": {
        const { topic = "" } = fields(block.data);
        if (this.#ended.has(topic)) return undefined; // each new stream repeats it
        this.#ended.add(topic);
        return { kind: "end", end: { topic } };
      }
    }
    if (block.type.startsWith("peald.")) return undefined; // of a later version
    return this.#event(block, fresh);
  }

  #event(block: Block, fresh: boolean): Delivery | undefined {
    const { id } = block;
    const retained = !this.settled;
    if (id !== undefined && retained) {
      if (this.#values.has(id)) return undefined;
      this.#values.add(id);
    } else if (id !== undefined) {
      if (!isAfter(id, this.position)) return undefined;
      this.position = id;
    }
    const event = eventOf(block, retained && fresh);
    for (const topic of event.topics ?? [event.topic]) this.#ended.delete(topic ?? "");
    return { kind: "event", event };
  }

  #settle(id: string | undefined): void {
    if (id !== undefined && (!this.settled || isAfter(id, this.position))) this.position = id;
    this.settled = true;
    this.#values.clear();
  }
}
