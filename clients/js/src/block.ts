import type { PealdEvent } from "./types.js";

/** One block of a stream, or one event of a poll. */
export interface Block {
  id: string | undefined;
  type: string;
  data: string;
  /** The topic, and several of them, if the block comes from a poll. */
  topic?: string;
  topics?: readonly string[];
  /** Whether the data may be an envelope, because a stream with envelopes was requested. */
  envelope?: boolean;
}

/** What the client does with an event, in a form that can be sent to other tabs. */
export type EventData = Omit<PealdEvent, "json">;

/** Returns the event of a block. An envelope is unpacked. */
export function eventOf(block: Block, retained: boolean): EventData {
  const base = { id: block.id ?? "", type: block.type, retained };
  const envelope = block.envelope ? unpack(block) : undefined;
  if (!envelope) return { ...base, data: block.data, ...(block.topic !== undefined && audienceOf(block.topic, block.topics)) };

  const time = new Date(envelope.time);
  return {
    ...base,
    data: envelope.data,
    ...(envelope.topic !== undefined ? audienceOf(envelope.topic, envelope.topics)
      : envelope.user ? { audience: "user" as const } : envelope.broadcast ? { audience: "broadcast" as const } : {}),
    ...(!Number.isNaN(time.getTime()) && { time }),
  };
}

function audienceOf(topic: string, topics: readonly string[] | undefined) {
  return { topic, ...(topics && { topics }), audience: "topic" as const };
}

interface Envelope {
  topic?: string;
  topics?: string[];
  user?: boolean;
  broadcast?: boolean;
  event: string;
  data: string;
  time: string;
}

/** Returns the envelope in a block. A server without envelopes sends the data itself, which isn't one. */
function unpack(block: Block): Envelope | undefined {
  if (!block.data.startsWith("{")) return undefined;
  try {
    const value = JSON.parse(block.data) as Partial<Envelope>;
    const valid = value.event === block.type && typeof value.data === "string" && typeof value.time === "string" &&
      (typeof value.topic === "string" || value.user === true || value.broadcast === true);
    return valid ? (value as Envelope) : undefined;
  } catch {
    return undefined;
  }
}

/** Makes a page's event of the data of an event. */
export function toEvent(data: EventData): PealdEvent {
  return { ...data, json: <T>() => JSON.parse(data.data) as T };
}

/** Parses the data of one of the server's own events. Missing members are empty. */
export function fields(data: string): Record<string, string> {
  try {
    return (JSON.parse(data) as Record<string, string> | null) ?? {};
  } catch {
    return {};
  }
}
