import type { EventData } from "./block.js";

/** The maximum number of topics of a stream. */
export const maxTopics = 100;

/** Reports whether a topic or pattern covers a topic, with the server's rules for patterns. */
export function matches(pattern: string, topic: string): boolean {
  if (pattern === topic) return true;
  if (!isPattern(pattern)) return false;

  const wanted = pattern.split("."), tokens = topic.split(".");
  if (tokens.includes("")) return false; // no pattern matches an empty token
  const open = wanted.at(-1) === ">";
  if (open ? tokens.length < wanted.length : tokens.length !== wanted.length) return false;
  return wanted.every((token, i) => token === "*" || token === tokens[i] || (open && i === wanted.length - 1));
}

/** Returns the event with only those of its topics that are wanted; undefined if it is for topics and none of them is. */
export function narrowed(event: EventData, wanted: readonly string[]): EventData | undefined {
  const { topics, ...rest } = event;
  if (rest.topic === undefined) return event;
  const mine = (topics ?? [rest.topic]).filter((topic) => wanted.some((pattern) => matches(pattern, topic)));
  return mine[0] === undefined ? undefined : { ...rest, topic: mine[0], ...(mine.length > 1 && { topics: mine }) };
}

/** Reports whether a name is a pattern. */
export function isPattern(name: string): boolean {
  const tokens = name.split(".");
  return tokens.includes("*") || tokens.at(-1) === ">";
}

/** Returns the valid and distinct topics of a list. */
export function distinct(topics: Iterable<string>): string[] {
  const found = new Set<string>();
  for (const topic of topics) {
    if (typeof topic !== "string" || topic === "") {
      throw new TypeError(`peald: invalid topic ${JSON.stringify(topic)}; want a string that isn't empty`);
    }
    found.add(topic);
  }
  return [...found];
}

/** Reports whether both lists have the same topics; neither may have duplicates. */
export function sameTopics(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((topic) => b.includes(topic));
}
