import { eventOf } from "./block.js";
import type { Block, EventData } from "./block.js";
import { failureOf } from "./errors.js";
import { readBatch } from "./poll.js";
import { Stream } from "./stream.js";
import type { SourceContext } from "./stream.js";
import { matches } from "./topics.js";

/**
 * Reads the retained values of topics that are added to a stream. Only those that aren't after the stream's position must be
 * delivered, since the stream has the others.
 */
export async function readValues(context: SourceContext, topics: readonly string[], signal: AbortSignal): Promise<EventData[]> {
  if (topics.length === 0) return [];
  const { requester } = context;
  let blocks: Block[], unknown = false; // whether events with topics lack them
  try {
    ({ blocks } = await readBatch(context, topics, { position: "", query: {} }, signal));
  } catch (err) {
    if (failureOf(err).kind !== "large") throw err;
    blocks = await readStream(context, topics, signal);
    unknown = !requester.envelope;
  }

  // The response includes the values of broadcasts and of the user, which aren't new.
  return blocks
    .filter(({ type }) => !type.startsWith("peald."))
    .map((block) => eventOf(block, true))
    .filter(({ topic }) => topic === undefined ? unknown : topics.some((wanted) => matches(wanted, topic)));
}

/** Reads the retained values at the start of a stream, which may have any size. */
async function readStream(context: SourceContext, topics: readonly string[], signal: AbortSignal): Promise<Block[]> {
  const stream = new Stream(context, topics, { position: "", query: {} });
  const stop = () => stream.close();
  signal.addEventListener("abort", stop);
  try {
    await stream.open();
    const values: Block[] = [];
    for (;;) {
      const blocks = await stream.next() ?? [];
      values.push(...blocks);
      if (blocks.length === 0 || blocks.some(({ type }) => type === "peald.mark")) return values;
    }
  } finally {
    signal.removeEventListener("abort", stop);
    stream.close();
  }
}
