// Runs the JavaScript client for a test: node client.mjs MODULE URL TOPIC... It prints a
// line of JSON for everything that the client does, and reads lines of JSON with the
// calls that it makes: {"subscribe":"a"}, {"unsubscribe":"a"}, {"token":"..."}.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [module, url, ...topics] = process.argv.slice(2);
const { Peald } = await import(pathToFileURL(module));
const print = (line) => process.stdout.write(JSON.stringify(line) + "\n");

const waiting = [];
const token = () => new Promise((resolve) => {
  waiting.push(resolve);
  print({ wants: "token" });
});

const peald = new Peald(url, { topics, token });
peald.on("peald.reset", ({ reason }) => print({ reset: reason }));
peald.on("peald.end", ({ topic }) => print({ end: topic }));
peald.on("peald.state", (state) => print({ state }));

createInterface({ input: process.stdin }).on("line", async (line) => {
  const call = JSON.parse(line);
  if (call.token) waiting.shift()(call.token);
  if (call.subscribe) print({ subscribed: await peald.subscribe(call.subscribe).then(() => call.subscribe, String) });
  if (call.unsubscribe) print({ unsubscribed: await peald.unsubscribe(call.unsubscribe).then(() => call.unsubscribe, String) });
});

for await (const event of peald) print({ event: event.data });
print({ done: true });
process.exit();
