// Holds the tabs of many browsers at a server, for a test of its load: load.ts URL BROWSERS TABS. The tabs of a browser share
// a stream. For each command, which is a line of JSON, it prints a line once it has been carried out.
import { createInterface } from "node:readline";
import type { Timing } from "./clock.js";
import { Browser } from "./tabs.js";
import type { Tab } from "./tabs.js";

/**
 * `open` opens all tabs. `receive` waits until each tab has received the data for its number, and reports what is wrong. The
 * others do that to the leaders of every tenth browser, beginning with the one that has the number.
 */
type Command = { open: true } | { receive: string[][] } | { close: number } | { crash: number } | { freeze: number } | { thaw: number };

const [address, browserCount, tabCount] = process.argv.slice(2) as [string, string, string];

const clock: Timing = {
  get now() { return Date.now(); },
  setTimeout: (callback, ms) => Number(setTimeout(callback, ms)),
  clearTimeout: (timer) => clearTimeout(timer as number),
};
// The tabs of tests use a made-up address.
const server = { fetch: (input: RequestInfo | URL, init?: RequestInit) => fetch(String(input).replace("http://peald.test", address), init) };
const browsers = Array.from({ length: Number(browserCount) }, () => new Browser(clock, server));
const numbers = new Map<Tab, number>();
const stopped = new Set<Tab>();

const sleep = (ms: number) => new Promise((resolve) => { setTimeout(resolve, ms); });

/** How long tabs may take for a command, in milliseconds. */
const patience = 300_000;

/** Waits until a condition holds for some of the tabs, unless they are frozen. It gives up after a while. */
async function all(tabs: Tab[], holds: (tab: Tab) => boolean): Promise<void> {
  const deadline = Date.now() + patience;
  for (const tab of tabs) while (!stopped.has(tab) && !holds(tab) && Date.now() < deadline) await sleep(20);
}

/** Opens the tabs of all browsers, of a few at a time. In each browser, one tab is visible. */
async function open(): Promise<string[]> {
  const left = browsers.entries();
  await Promise.all(Array.from({ length: 20 }, async () => {
    for (const [i, browser] of left) {
      for (let number = 0; number < Number(tabCount); number++) {
        const tab = browser.open({ topics: ["news", `tabs.${number}`] });
        numbers.set(tab, number);
        // In one of ten browsers, the leader isn't visible, and is asked for signs of life.
        tab.document.visibilityState = number === (i % 10 === 0 ? 1 : 0) ? "visible" : "hidden";
      }
      await all(browser.tabs, ({ page }) => page.peald.state === "open");
    }
  }));
  const missing = browsers.flatMap(({ tabs }) => tabs).filter(({ page }) => page.peald.state !== "open").length;
  return missing === 0 ? [] : [`${missing} tabs aren't open`];
}

async function receive(wanted: string[][]): Promise<string[]> {
  await all(browsers.flatMap(({ tabs }) => tabs), (tab) => tab.page.log.length >= wanted[numbers.get(tab)!]!.length);
  const faults: string[] = [];
  for (const [i, { tabs }] of browsers.entries()) {
    for (const tab of tabs) {
      const want = wanted[numbers.get(tab)!]!.join(" "), got = tab.page.log.join(" ");
      if (!stopped.has(tab) && got !== want) faults.push(`tab ${numbers.get(tab)} of browser ${i} got ${got}; want ${want}`);
      for (const err of tab.env.errors) faults.push(String(err));
    }
  }
  return faults.slice(0, 10);
}

/** Does something to the leaders of every tenth browser, and shows another tab. */
function lose(first: number, how: "close" | "crash" | "freeze"): void {
  for (let i = first; i < browsers.length; i += 10) {
    const browser = browsers[i]!, { leader } = browser;
    leader![how]();
    if (how === "freeze") stopped.add(leader!);
    const next = browser.tabs.find((tab) => tab !== leader)!;
    next.document.visibilityState = "visible";
    next.document.dispatchEvent(new Event("visibilitychange"));
  }
}

async function run(command: Command): Promise<string[]> {
  if ("open" in command) return open();
  if ("receive" in command) return receive(command.receive);
  if ("close" in command) lose(command.close, "close");
  else if ("crash" in command) lose(command.crash, "crash");
  else if ("freeze" in command) lose(command.freeze, "freeze");
  else {
    for (const tab of stopped) tab.thaw();
    stopped.clear();
  }
  return [];
}

for await (const line of createInterface({ input: process.stdin })) {
  const faults = await run(JSON.parse(line) as Command);
  const { user, system } = process.cpuUsage(), tabs = browsers.reduce((sum, browser) => sum + browser.tabs.length, 0);
  process.stdout.write(JSON.stringify({ faults, tabs, cpuSeconds: (user + system) / 1e6, bytes: process.memoryUsage().rss }) + "\n");
}
process.exit();
