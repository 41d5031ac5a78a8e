import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Clock, environmentOf, settle } from "./clock.js";
import { checkConnections, checkRate, Expectation, pass } from "./model.js";
import { Page } from "./page.js";
import { Server } from "./server.js";
import type { Fault } from "./server.js";
import { Browser } from "./tabs.js";
import type { Tab } from "./tabs.js";

const topics = ["a", "b", "c"];
const topic = fc.constantFrom(...topics);

const fault: fc.Arbitrary<Fault> = fc.oneof(
  { weight: 4, arbitrary: fc.constant({}) },
  { weight: 6, arbitrary: fc.record({ cut: fc.integer({ min: 0, max: 900 }), repeat: fc.integer({ min: 0, max: 3 }) }) },
  fc.record({ repeat: fc.integer({ min: 1, max: 5 }) }),
  fc.constant({ refuse: true }),
  fc.constant({ later: true }),
  fc.constant({ stall: true }),
  fc.constant({ buffered: true }),
  fc.record({ status: fc.constantFrom(408, 429, 500, 502, 503, 504), headers: fc.constantFrom({}, { "Retry-After": "3" }) }),
  fc.constant({ status: 200, body: "<html>log in</html>", headers: { "Content-Type": "text/html" } }),
  fc.record({ delay: fc.constantFrom(50, 3000, 12_000, Infinity) }),
);

const published = fc.record({ kind: fc.constant("publish" as const), topic: fc.oneof(topic, fc.constant(undefined)), also: fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, fc.subarray([...topics])), retain: fc.boolean(), size: fc.constantFrom(1, 1, 1, 300) });
const passed = fc.record({ kind: fc.constant("pass" as const), ms: fc.constantFrom(1, 20, 200, 2000, 20_000, 70_000) });
const ofServer = [
  { weight: 8, arbitrary: published },
  { weight: 5, arbitrary: passed },
  { weight: 1, arbitrary: fc.constant({ kind: "break" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "close" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "heartbeat" as const }) },
];
const broken = [
  { weight: 1, arbitrary: fc.constant({ kind: "restart" as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: "evict" as const }) },
];
const ofTab = fc.record({ tab: fc.nat(5), topic });
const changes = [
  { weight: 2, arbitrary: ofTab.map((at) => ({ kind: "subscribe" as const, ...at })) },
  { weight: 2, arbitrary: ofTab.map((at) => ({ kind: "unsubscribe" as const, ...at })) },
];
const ofTabs = [
  { weight: 1, arbitrary: ofTab.map((at) => ({ kind: "open" as const, ...at })) },
  ...(["crash", "shut", "freeze", "thaw", "hide", "show", "online"] as const).map((kind) => ({ weight: 1, arbitrary: ofTab.map((at) => ({ kind, ...at })) })),
];

// RUNS is set by make soak. SEED and AT, the path of a counterexample, are set by hand.
const { RUNS, SEED, AT } = process.env;
const parameters = { numRuns: Number(RUNS ?? 8), includeErrorInReport: true, ...(SEED && { seed: Number(SEED) }), ...(AT && { path: AT }) };

/** How long a smaller counterexample is looked for, in milliseconds. It can't change whether the test passes. */
const shrinking = 15_000;

/** Returns a predicate that skips all values once it has failed and the time for shrinking is over. */
function shrinkable<T extends unknown[]>(predicate: (...values: T) => Promise<void>): (...values: T) => Promise<void> {
  let deadline = Infinity;
  return async (...values) => {
    fc.pre(Date.now() < deadline);
    try {
      await predicate(...values);
    } catch (err) {
      deadline = Math.min(deadline, Date.now() + shrinking);
      throw err;
    }
  };
}

/** A simulated world that runs commands. */
class World {
  clock = new Clock();
  server = new Server(this.clock);
  browser = new Browser(this.clock, this.server);
  expectations: Expectation[] = [];
  opened = 0;
  #count = 0;
  #epoch = 1;

  constructor(faults: Fault[]) {
    let requests = 0;
    this.server.fault = () => faults[requests++ % faults.length];
  }

  add(page: Page, list: string[]): void {
    this.opened++;
    this.expectations.push(new Expectation(page, list));
  }

  publish(name: string | undefined, options: { also?: readonly string[] | undefined; retain?: boolean; size?: number } = {}): void {
    const { also = [], retain = false, size = 1 } = options;
    const id = this.server.publish(name, String(++this.#count).padEnd(size, "."), { also, retain });
    for (const expectation of this.expectations) expectation.published(id, name === undefined ? undefined : [name, ...also]);
  }

  async run(command: { kind: string; topic?: string | undefined; also?: readonly string[] | undefined; retain?: boolean; size?: number; ms?: number; tab?: number }): Promise<void> {
    const { server, clock, browser } = this;
    const tab = browser.tabs[(command.tab ?? 0) % (browser.tabs.length || 1)] as Tab | undefined;
    const expectation = this.expectations.find(({ page }) => page === tab?.page) ?? this.expectations[0]!;
    switch (command.kind) {
      case "publish": return this.publish(command.topic, command);
      case "pass": return pass(clock, server, command.ms!);
      case "break": return server.break();
      case "close": return server.close();
      case "heartbeat": return server.heartbeat();
      case "restart": return server.restart(`e${++this.#epoch}`);
      case "evict": return server.evict(server.seq);
      case "subscribe": return expectation.subscribe(command.topic!);
      case "unsubscribe": return expectation.unsubscribe(command.topic!);
      case "open": {
        const next = browser.open({ topics: [command.topic!] });
        return this.add(next.page, [command.topic!]);
      }
      case "crash": return tab?.crash();
      case "shut": return tab?.close();
      case "freeze": return tab?.freeze();
      case "thaw": return tab?.thaw();
      case "hide": return tab?.notify("pagehide");
      case "show": return tab?.notify("pageshow");
      case "online": return tab?.notify("online");
    }
  }

  /** Lets everything recover, and checks that all pages are up to date. */
  async finish(pages: () => Page[]): Promise<void> {
    this.server.fault = () => undefined;
    await pass(this.clock, this.server, 150_000);
    for (const name of topics) this.publish(name);
    await pass(this.clock, this.server, 30_000);
    for (const page of pages()) assert.ok(["open", "polling"].includes(page.peald.state), page.peald.state);
    for (const expectation of this.expectations) if (pages().includes(expectation.page)) expectation.check();
    for (const { page } of this.expectations) assert.deepEqual((page.env).errors, []);
  }
}

for (const [name, more] of [["nothing is lost, repeated or reordered by a faulty network", []], ["or there is a reset", broken]] as const) {
  test(name, async () => {
    await fc.assert(fc.asyncProperty(
      fc.array(fault, { minLength: 1, maxLength: 12 }),
      fc.array(fc.oneof(...ofServer, ...changes, ...more), { minLength: 5, maxLength: 60 }),
      fc.constantFrom({}, { since: "all" }, { rewind: 2 }),
      shrinkable(async (faults, commands, options) => {
        const world = new World(faults), { server, clock } = world;
        for (const name of topics) server.publish(name, "before", { retain: name === "a" });
        const page = new Page(environmentOf(clock, server.fetch), { topics: ["a"], probe: 60_000, ...options });
        world.add(page, ["a"]);
        await settle();
        for (const command of commands) {
          await world.run(command);
          await settle();
        }
        await world.finish(() => [page]);
        checkRate(server);
        checkConnections(server, [page]);
      }),
    ), parameters);
  });

  test(`${name}, in tabs that share a stream`, async () => {
    await fc.assert(fc.asyncProperty(
      fc.array(fault, { minLength: 1, maxLength: 12 }),
      fc.array(fc.oneof(...ofServer, ...changes, ...ofTabs, ...more), { minLength: 5, maxLength: 60 }),
      shrinkable(async (faults, commands) => {
        const world = new World(faults), { browser, server } = world;
        for (const command of [{ kind: "open", topic: "a" }, { kind: "open", topic: "b" }, ...commands]) {
          await world.run(command);
          await settle();
        }
        for (const tab of browser.tabs) {
          tab.thaw();
          tab.notify("pageshow");
        }
        await world.finish(() => browser.tabs.map(({ page }) => page));
        checkConnections(server, browser.tabs.map((tab) => tab.page));
        checkRate(server, world.opened);
      }),
    ), parameters);
  });
}
