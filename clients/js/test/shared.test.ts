import assert from "node:assert/strict";
import { test } from "node:test";
import { PealdError } from "../src/errors.js";
import { Clock } from "./clock.js";
import { Server } from "./server.js";
import { Browser } from "./tabs.js";
import type { Tab } from "./tabs.js";

async function browserWith(...topics: string[][]) {
  const clock = new Clock(), server = new Server(clock), browser = new Browser(clock, server);
  const tabs: Tab[] = [];
  for (const list of topics) {
    tabs.push(browser.open({ topics: list }));
    await clock.advance(200);
  }
  return { clock, server, browser, tabs };
}

const logs = (tabs: Tab[]) => tabs.map(({ page }) => page.log);

test("tabs share one stream, and each gets its own topics", async () => {
  const { clock, server, tabs } = await browserWith(["a"], ["b"], ["a", "b.*"]);
  assert.equal(server.open, 1);
  for (const topic of ["a", "b", "b.c", "d", undefined]) server.publish(topic, topic ?? "all");
  await clock.advance(0);
  assert.deepEqual(logs(tabs), [["a", "all"], ["b", "all"], ["a", "b.c", "all"]]);
  assert.deepEqual(tabs.map(({ page }) => page.peald.state), ["open", "open", "open"]);
  assert.deepEqual(tabs.map(({ page }) => page.peald.position), ["e1-5", "e1-5", "e1-5"]);
});

test("each tab gets an event for several topics once, with those that it wants", async () => {
  const { clock, server, tabs } = await browserWith(["a"], ["b", "c"], ["d"], ["a", "b.*"]);
  server.publish("a", "1", { also: ["b", "c"] });
  server.publish("d", "2", { also: ["c"] });
  server.publish("b.1", "3", { also: ["x", "a"] });
  server.publish("a", "4", { also: ["b.1"] });
  await clock.advance(0);
  assert.deepEqual(logs(tabs), [["1", "3", "4"], ["1", "2"], ["2"], ["1", "3", "4"]]);
  const names = (tab: Tab) => tab.page.events.map(({ topic, topics }) => (topics ?? [topic]).join(" "));
  assert.deepEqual(tabs.map(names), [["a", "a", "a"], ["b c", "c"], ["d"], ["a", "b.1 a", "a b.1"]]);
});

test("a tab that is opened later gets retained values, or what it has missed", async () => {
  const { clock, server, browser, tabs } = await browserWith(["a"]);
  server.publish("a", "value", { retain: true });
  server.publish("b", "other value", { retain: true });
  await clock.advance(0);
  for (const options of [{ topics: ["a"] }, { topics: ["a", "b"] }, { topics: ["b"], position: "e1-0" }, { topics: ["a"], since: "all" }]) {
    tabs.push(browser.open(options));
    await clock.advance(200);
  }
  server.publish("a", "new");
  await clock.advance(0);
  assert.deepEqual(logs(tabs), [["value", "new"], ["value", "new"], ["value", "other value", "new"], ["other value"], ["value", "new"]]);
  assert.equal(server.open, 1);
});

test("a tab that is opened with the current position gets each event once", async () => {
  const { clock, server, browser, tabs: [leader] } = await browserWith(["a"]);
  server.publish("a", "before");
  const tab = browser.open({ topics: ["a"], position: "e1-1" });
  await clock.advance(200);
  server.publish("a", "1");
  await clock.advance(0);
  assert.deepEqual(tab.page.events.map(({ data, retained }) => [data, retained]), [["1", false]]);
  assert.equal(tab.page.peald.position, "e1-2");
  leader!.crash();
  server.publish("a", "2");
  await clock.advance(1000);
  assert.deepEqual(tab.page.log, ["1", "2"]);
});

for (const how of ["close", "crash", "freeze"] as const) {
  test(`another tab takes over within a second if the leader's tab ${how === "freeze" ? "freezes" : how + "s"}`, async () => {
    const { clock, server, tabs } = await browserWith(["a"], ["a", "b"], ["b"]);
    server.publish("a", "1");
    await clock.advance(0);
    tabs[0]![how]();
    server.publish("a", "2");
    server.publish("b", "3");
    await clock.advance(1200);
    assert.deepEqual(logs(tabs.slice(1)), [["1", "2", "3"], ["3"]]);
    server.publish("b", "4");
    await clock.advance(0);
    assert.deepEqual(logs(tabs.slice(1)), [["1", "2", "3", "4"], ["3", "4"]]);
    if (how !== "freeze") {
      assert.equal(server.open, 1);
      return;
    }
    tabs[0]!.thaw();
    await clock.advance(2000);
    server.publish("a", "5");
    await clock.advance(0);
    assert.deepEqual(logs(tabs), [["1", "2", "5"], ["1", "2", "3", "4", "5"], ["3", "4"]]);
    assert.equal(server.open, 1);
  });
}

for (const crashes of [false, true]) {
  test(`a frozen tab that gets the lock too late${crashes ? " and crashes" : ""} doesn't stop the others`, async () => {
    // After the crash, there is only the leader, since another tab would notice the silence and take over.
    const { clock, server, tabs } = await browserWith(["a"], ["b"], ["a"], ...(crashes ? [] : [["a"]])), [leader, frozen, ...others] = tabs as [Tab, Tab, ...Tab[]];
    frozen.freeze();
    leader.close(); // the frozen tab gets the lock, and another one takes it
    await clock.advance(1200);
    frozen.thaw();
    if (crashes) frozen.crash();
    await clock.advance(2000);
    server.publish("a", "1");
    server.publish("b", "2");
    await clock.advance(0);
    assert.deepEqual(logs([...others, frozen]), crashes ? [["1"], []] : [["1"], ["1"], ["2"]]);
    assert.deepEqual(others.map(({ page }) => page.peald.state), others.map(() => "open"));
    assert.equal(server.open, 1);
  });
}

test("a tab that gets the leader's lock at the moment when it takes it leads", async () => {
  // The lock is granted to the second tab while it is frozen, which then finds that the leader is silent.
  const { clock, server, tabs } = await browserWith(["a"], ["b"], ["c"]), [leader, second, third] = tabs as [Tab, Tab, Tab];
  third.document.visibilityState = "hidden"; // so it never takes the lock
  leader.freeze();
  await clock.advance(550);
  second.freeze();
  await clock.advance(200); // its timer, which takes the lock, is due before the lock is granted
  leader.crash();
  await clock.advance(0);
  second.thaw();
  await clock.advance(200);
  server.publish("b", "1");
  server.publish("c", "2");
  await clock.advance(0);
  assert.deepEqual(logs([second, third]), [["1"], ["2"]]);
  assert.equal(server.open, 1);
});

test("a leader that the browser freezes hands over at once", async () => {
  const { clock, server, tabs } = await browserWith(["a"], ["a"]), [leader, other] = tabs as [Tab, Tab];
  leader.document.dispatchEvent(new Event("freeze"));
  await clock.advance(60);
  server.publish("a", "1");
  await clock.advance(0);
  assert.deepEqual(other.page.log, ["1"]);
  assert.equal(leader.page.peald.state, "waiting");
  leader.document.dispatchEvent(new Event("resume"));
  await clock.advance(1000);
  assert.deepEqual(leader.page.log, ["1"]);
  assert.equal(leader.page.peald.state, "open");
  assert.equal(server.open, 1);
});

test("tabs change their topics without gaps or duplicates", async () => {
  const { clock, server, tabs } = await browserWith(["a"], ["a"]);
  server.publish("b", "value", { retain: true });
  const changes = tabs.map(({ page }) => page.peald.subscribe("b"));
  server.publish("a", "1");
  await clock.advance(200);
  await Promise.all(changes);
  server.publish("b", "2");
  await clock.advance(0);
  assert.deepEqual(logs(tabs).map((log) => [...log].sort()), [["1", "2", "value"], ["1", "2", "value"]]);
  await Promise.all([tabs[0]!.page.peald.unsubscribe("b"), clock.advance(200)]);
  server.publish("b", "3");
  server.publish("a", "4");
  await clock.advance(0);
  assert.deepEqual(tabs.map(({ page }) => page.log.slice(3)), [["4"], ["3", "4"]]);
});

test("topics that are rejected affect only the tab that asked for them", async () => {
  const { clock, server, browser, tabs } = await browserWith(["a"], ["b"]);
  server.allows = (topics) => (topics.includes("secret") ? 403 : 200);
  const change = assert.rejects(tabs[1]!.page.peald.subscribe("secret"), (err) => err instanceof PealdError && err.status === 403);
  await clock.advance(1000);
  await change;
  tabs.push(browser.open({ topics: ["secret"] }));
  await clock.advance(1000);
  server.publish("a", "1");
  server.publish("b", "2");
  await clock.advance(0);
  assert.deepEqual(logs(tabs), [["1"], ["2"], []]);
  assert.deepEqual(tabs.map(({ page }) => page.peald.state), ["open", "open", "closed"]);
  assert.equal(tabs[2]!.page.closed?.reason, "forbidden");
  assert.equal(server.open, 1);
});

test("a reset reaches all tabs", async () => {
  const { clock, server, tabs } = await browserWith(["a"], ["b"]);
  server.publish("a", "1");
  server.publish("b", "2");
  await clock.advance(0);
  server.restart("e2");
  await clock.advance(1000);
  server.publish("b", "3");
  await clock.advance(0);
  assert.deepEqual(logs(tabs), [["1", "reset unknown"], ["2", "reset unknown", "3"]]);
  assert.deepEqual(tabs.map(({ page }) => page.peald.position), ["e2-1", "e2-1"]);
});

test("if all topics end, all tabs are closed", async () => {
  const { clock, server, tabs } = await browserWith(["a"], ["a"]);
  server.publish("a", "last", { final: true });
  await clock.advance(1000);
  assert.deepEqual(logs(tabs), [["last", "end a"], ["last", "end a"]]);
  assert.deepEqual(tabs.map(({ page }) => page.closed?.reason), ["ended", "ended"]);
  assert.equal(server.open, 0);
});

test("tabs that may not share any more open streams of their own", async () => {
  const { clock, server, tabs } = await browserWith(["a"], ["b"]);
  server.allows = (topics) => (topics.length > 1 ? 403 : 200);
  server.break();
  server.publish("a", "1");
  server.publish("b", "2");
  await clock.advance(5000);
  assert.deepEqual(logs(tabs), [["1"], ["2"]]);
  assert.equal(server.open, 2);
});

test("groups are separate, and other tabs have a stream of their own", async () => {
  const clock = new Clock(), server = new Server(clock), browser = new Browser(clock, server);
  for (const shared of ["alice", "alice", "bob", false]) browser.open({ topics: ["a"], shared });
  await clock.advance(1000);
  assert.equal(server.open, 3);
});

test("a leader that cannot connect isn't replaced", async () => {
  const { clock, server, tabs } = await browserWith(["a"], ["b"]);
  server.fault = () => ({ refuse: true });
  server.break();
  const before = server.requests.length;
  await clock.advance(60_000);
  assert.ok(server.requests.length - before <= 31, `${server.requests.length - before} attempts`);
  server.fault = () => undefined;
  server.publish("b", "1");
  await clock.advance(60_000);
  assert.deepEqual(logs(tabs), [[], ["1"]]);
});
