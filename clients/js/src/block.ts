import type { PealdEvent } from "./types.js";

/** One block of a stream, or one event of a poll. */
export interface Block {
  id: string | undefined;
  type: string;
  data: string;
  /** Whether the data may be an envelope, because a stream with envelopes was requested. */
  envelope?: boolean;
  /** The origin, if the block comes from a poll. */
  origin?: Origin;
}

/** What an envelope, or the response to a poll, contains in addition to an event. */
export interface Origin {
  topic?: string;
  /** All topics of the event that the stream subscribes to, if there are several. */
  topics?: readonly string[];
  user?: boolean;
  broadcast?: boolean;
  time?: string;
}

/** What the client does with an event, in a form that can be sent to other tabs. */
export type EventData = Omit<PealdEvent, "json">;

/** Returns the event of a block. An envelope is unpacked. */
export function eventOf(block: Block, retained: boolean): EventData {
  const { id = "", type } = block, envelope = block.envelope ? unpack(block) : undefined;
  const { topic, topics, user, broadcast, time = "" }: Origin = envelope ?? block.origin ?? {};
  const audience = topic !== undefined ? "topic" : user ? "user" : broadcast ? "broadcast" : undefined;
  return {
    id, type, retained,
    data: (envelope ?? block).data,
    ...(topic !== undefined && { topic }),
    ...(topics && { topics }),
    ...(audience && { audience }),
    ...(!Number.isNaN(Date.parse(time)) && { time: new Date(time) }),
  };
}

interface Envelope extends Origin {
  event: string;
  data: string;
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
