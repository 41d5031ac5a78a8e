import assert from "node:assert/strict";
import { test } from "node:test";
import { PealdError } from "../src/errors.js";
import type { PealdEvent } from "../src/types.js";
import { settle } from "./clock.js";
import { connected } from "./page.js";

const minute = 60_000;

test("events arrive in order, with their envelopes", async () => {
  const { server, page, peald } = await connected({ topics: ["a", "b.*"] });
  server.publish("a", '{"n":1}');
  server.publish("b.x", "two\nlines", { type: "custom" });
  server.publish(undefined, "three");
  server.publish("other", "no");
  await settle();

  assert.deepEqual(page.log, ['{"n":1}', "two\nlines", "three"]);
  const [first, second, third] = page.events;
  assert.deepEqual(first!.json(), { n: 1 });
  assert.equal(first!.topic, "a");
  assert.equal(first!.audience, "topic");
  assert.equal(first!.time!.toISOString(), "1970-01-01T00:00:01.000Z");
  assert.equal(second!.topic, "b.x");
  assert.equal(second!.type, "custom");
  assert.equal(third!.audience, "broadcast");
  assert.equal(third!.topic, undefined);
  assert.equal(peald.position, "e1-3");
  assert.equal(peald.state, "open");
  assert.deepEqual(page.states, ["connecting", "open"]);
});

test("a server without envelopes sends the data itself", async () => {
  const { server, page } = await connected({ topics: ["a"] }, {}, (s) => { s.envelopes = false; });
  server.publish("a", '{"event":"topic","data":"mine","topic":"z"}');
  await settle();
  assert.deepEqual(page.log, ['{"event":"topic","data":"mine","topic":"z"}']);
  assert.equal(page.events[0]!.topic, undefined);
});

test("retained values come before the first mark, and once", async () => {
  const { clock, server, page } = await connected({ topics: ["a", "b"] }, {}, (s) => {
    s.publish("a", "old", { retain: true });
    s.publish("b", "old b", { retain: true });
    let requests = 0;
    s.fault = () => (++requests === 1 ? { cut: 170 } : undefined); // between the values
  });
  await clock.advance(minute);
  assert.deepEqual(page.log, ["old", "old b"]);
  assert.deepEqual(page.events.map((event) => event.retained), [true, true]);
  assert.equal(server.requests[1]!.position, "", "the position isn't known before the first mark");
  server.publish("a", "new");
  await settle();
  assert.deepEqual(page.log, ["old", "old b", "new"]);
  assert.equal(page.events[2]!.retained, false);
});

test("a lost connection is resumed from the position", async () => {
  const { clock, server, page, peald } = await connected({ topics: ["a"] });
  server.publish("a", "1");
  await settle();
  server.break();
  await settle();
  server.publish("a", "2");
  assert.deepEqual(page.log, ["1"]);
  await settle();
  assert.equal(peald.state, "waiting");
  await clock.advance(1000);
  assert.deepEqual(page.log, ["1", "2"]);
  assert.deepEqual(page.states, ["connecting", "open", "waiting", "connecting", "open"]);
  assert.equal(server.requests[1]!.position, "e1-1");
});

test("since, rewind and position are the start", async () => {
  const prepare = (s: { publish(topic: string, data: string): unknown }) => { for (const data of ["1", "2", "3"]) s.publish("a", data); };
  for (const [options, want] of [
    [{ since: "all" }, ["1", "2", "3"]],
    [{ rewind: 1 }, ["3"]],
    [{ position: "e1-1" }, ["2", "3"]],
    [{ position: "e1-2", since: "all" }, ["3"]],
    [{ position: null }, []],
  ] as const) {
    const { clock, server, page } = await connected({ topics: ["a"], ...options }, {}, prepare);
    assert.deepEqual(page.log, want);
    server.break();
    server.publish("a", "4");
    await clock.advance(1000);
    assert.deepEqual(page.log, [...want, "4"], "after a lost connection");
  }
});

test("a reset is delivered with its reason", async () => {
  const { clock, server, page, peald } = await connected({ topics: ["a"] });
  server.publish("a", "1");
  await settle();
  server.restart("e2");
  server.publish("a", "value", { retain: true });
  await clock.advance(1000);
  assert.deepEqual(page.log, ["1", "reset unknown", "value"]);
  assert.deepEqual(page.resets, [{ reason: "unknown", lastEventId: "e1-1" }]);
  assert.equal(peald.position, "e2-1");
});

test("a page that doesn't handle resets gets a warning", async () => {
  const { clock, server, env } = await connected();
  const { Page } = await import("./page.js");
  const page = new Page(env, { topics: ["a"] }, { handleResets: false });
  await settle();
  server.restart("e2");
  await clock.advance(1000);
  assert.equal(page.peald.state, "open");
  assert.equal(env.warnings.length, 1);
  assert.match(env.warnings[0]!, /unknown.*peald\.reset/);
});

test("topics are added and removed without gaps or duplicates", async () => {
  const { server, page, peald } = await connected({ topics: ["a"] }, {}, (s) => {
    s.publish("b", "value of b", { retain: true });
    s.publish(undefined, "value for everyone", { retain: true });
  });
  assert.deepEqual(page.log, ["value for everyone"]);
  server.publish("a", "1");
  const subscribed = peald.subscribe("b", "c");
  server.publish("a", "2");
  server.publish("b", "3", { retain: true });
  await subscribed;
  assert.equal(server.open, 1);
  assert.deepEqual(peald.topics, ["a", "b", "c"]);
  server.publish("b", "4");
  await settle();
  // The value that was published before the server knew of the subscription replaces the previous one.
  const order = ["value for everyone", "1", "2", "3", "4"];
  assert.deepEqual(page.log, order);

  const removed = peald.unsubscribe("b");
  server.publish("b", "not wanted");
  server.publish("a", "5");
  await removed;
  server.publish("b", "not wanted");
  await settle();
  assert.deepEqual(page.log.filter((data) => data !== "value of b"), [...order, "5"]);
});

test("a topic that is added has its retained value first", async () => {
  const { server, page, peald } = await connected({ topics: ["a"] }, {}, (s) => { s.publish("b.1", "value", { retain: true }); });
  await peald.subscribe("b.*");
  await settle();
  assert.deepEqual(page.log, ["value"]);
  assert.equal(page.events[0]!.retained, true);
  server.publish("b.1", "next");
  await settle();
  assert.deepEqual(page.log, ["value", "next"]);
});

test("a topic that is added begins at the current position", async () => {
  const { server, page, peald } = await connected({ topics: ["a"] });
  server.publish("b", "long before");
  server.publish("c", "value", { retain: true });
  server.publish("b", "just before");
  await peald.subscribe("b", "c");
  await settle();
  assert.deepEqual(page.log, ["value"]);
  assert.equal(page.events[0]!.retained, true);
  assert.equal(peald.position, "e1-3");

  // Events that the previous stream has not delivered yet aren't lost.
  server.publish("d", "before");
  server.publish("a", "1");
  const subscribed = peald.subscribe("d");
  server.publish("a", "2");
  await subscribed;
  server.publish("d", "3");
  server.publish("b", "4");
  await settle();
  assert.deepEqual(page.log, ["value", "1", "2", "3", "4"]);
});

test("topics are added without reading what is missing if that fails, or if it is a reset", async () => {
  for (const fault of [{ status: 503 }, { refuse: true }, { status: 400 }, undefined]) {
    const { server, page, peald } = await connected({ topics: ["a"] }, {}, (s) => {
      s.fault = ({ json, position }) => (json && position ? fault : undefined);
    });
    server.publish("a", "1");
    await settle();
    if (!fault) {
      server.seq++;
      server.evict(server.seq);
    }
    await peald.subscribe("b");
    server.publish("a", "2");
    server.publish("b", "3");
    await settle();
    assert.deepEqual(page.log, fault ? ["1", "2", "3"] : ["1", "reset expired", "2", "3"]);
  }
});

test("topics that are rejected change nothing", async () => {
  const { server, page, peald } = await connected({ topics: ["a"] }, {}, (s) => { s.allows = (topics) => (topics.includes("secret") ? 403 : 200); });
  await assert.rejects(peald.subscribe("secret"), (err) => err instanceof PealdError && err.reason === "forbidden" && err.status === 403 && /secret/.test(err.message));
  assert.deepEqual(peald.topics, ["a"]);
  server.publish("a", "still here");
  await settle();
  assert.deepEqual(page.log, ["still here"]);
  assert.equal(peald.state, "open");
});

test("a limit on streams closes the old one first", async () => {
  const { clock, server, page, peald } = await connected({ topics: ["a"] }, {}, (s) => {
    s.fault = () => (s.open > 0 ? { status: 429, body: "too many streams" } : undefined);
  });
  const subscribed = peald.subscribe("b");
  server.publish("a", "1");
  await clock.advance(1000);
  await subscribed;
  server.publish("b", "2");
  await settle();
  assert.deepEqual(page.log, ["1", "2"]);
});

test("the only topic's end closes the client", async () => {
  const { server, page, peald } = await connected({ topics: ["a"] });
  const loop = (async () => {
    const got: string[] = [];
    for await (const event of peald) got.push(event.data);
    return got;
  })();
  server.publish("a", "1");
  server.publish("a", "last", { final: true });
  assert.deepEqual(await loop, ["1", "last"]);
  assert.deepEqual(page.log, ["1", "last", "end a"]);
  assert.equal(page.closed?.reason, "ended");
  assert.equal(server.requests.length, 1);
});

test("the end of one of several topics is reported once", async () => {
  const { clock, server, page, peald } = await connected({ topics: ["a", "b"] });
  server.publish("a", "last", { final: true });
  await settle();
  server.break();
  await clock.advance(1000);
  server.publish("b", "1");
  await settle();
  assert.deepEqual(page.log, ["last", "end a", "1"]);
  server.publish("a", "reopened");
  server.publish("a", "last again", { final: true });
  await settle();
  assert.deepEqual(page.log.slice(3), ["reopened", "last again", "end a"]);
  assert.equal(peald.state, "open");
});

test("statuses are told apart", async () => {
  for (const [status, reason] of [[204, "ended"], [400, "rejected"], [401, "unauthorized"], [403, "forbidden"], [404, "rejected"]] as const) {
    const { clock, server, page, peald } = await connected({ topics: ["a"] }, {}, (s) => { s.fault = () => ({ status, body: "because\n" }); });
    await clock.advance(10 * minute);
    assert.equal(server.requests.length, 1, String(status));
    assert.equal(peald.state, "closed");
    assert.deepEqual({ ...page.closed }, { reason, status, message: status === 204 ? page.closed!.message : "because" });
    const loop = (async () => { for await (const _ of peald); })();
    if (status === 204) await loop;
    else await assert.rejects(loop, (err) => err instanceof PealdError && err.status === status);
    await assert.rejects(peald.subscribe("b"), PealdError);
  }
});

test("Retry-After and retry are honoured", async () => {
  const { clock, server, peald } = await connected({ topics: ["a"] }, {}, (s) => {
    s.fault = () => (s.requests.length === 1 ? { status: 503, headers: { "Retry-After": "20" } } : s.requests.length === 2 ? { later: true } : undefined);
    s.retry = 7000;
  });
  await clock.advance(19_999);
  assert.equal(server.requests.length, 1);
  await clock.advance(1200);
  assert.equal(server.requests.length, 2);
  assert.equal(peald.state, "waiting");
  await clock.advance(6_000);
  assert.equal(server.requests.length, 2);
  await clock.advance(20_000);
  assert.equal(peald.state, "open");
  assert.equal(server.requests.length, 3);
});

test("the attempts per minute are bounded", async () => {
  for (const fault of [{ refuse: true }, { status: 500 }, { later: true }, { cut: 0 }, { cut: 60 }, { cut: 1000 }]) {
    const { clock, server } = await connected({ topics: ["a"] }, { random: () => 0 }, (s) => {
      s.retry = 0;
      s.fault = () => fault;
    });
    for (let i = 0; i < 5; i++) {
      const before = server.requests.length;
      await clock.advance(minute);
      assert.ok(server.requests.length - before <= 31, `${JSON.stringify(fault)}: ${server.requests.length - before} attempts in a minute`);
    }
    assert.ok(server.requests.length > 2, "it goes on trying");
  }
});

test("a loop that is slow holds the stream back, and the position follows it", async () => {
  const { server, peald } = await connected({ topics: ["a"] });
  const loop = peald[Symbol.asyncIterator]();
  for (let i = 1; i <= 600; i++) server.publish("a", String(i));
  await settle();
  assert.equal(peald.position, "e1-0");
  for (let i = 1; i <= 600; i++) {
    const { value } = (await loop.next()) as { value: PealdEvent };
    assert.equal(value.data, String(i));
  }
  assert.equal(peald.position, "e1-600");
  await loop.return!();
  peald.close();
});

test("handlers that throw don't disturb the others", async () => {
  const { server, page, peald, env } = await connected({ topics: ["a"] });
  const remove = peald.on("topic", () => { throw new Error("mine"); });
  server.publish("a", "1");
  await settle();
  remove();
  server.publish("a", "2");
  await settle();
  assert.deepEqual(page.log, ["1", "2"]);
  assert.deepEqual(env.errors.map(String), ["Error: mine"]);
});

test("close and a signal disconnect", async () => {
  const controller = new AbortController();
  const { server, page, peald } = await connected({ topics: ["a"], signal: controller.signal });
  const loop = (async () => { for await (const _ of peald); })();
  assert.equal(server.open, 1);
  controller.abort();
  await loop;
  await settle();
  assert.equal(server.open, 0);
  assert.equal(peald.state, "closed");
  assert.equal(page.closed?.reason, "closed");
});

test("invalid options are rejected", async () => {
  const { Peald } = await import("../src/client.js");
  for (const [url, options, message] of [
    ["/events", {}, /invalid URL "\/events"; want an absolute URL/],
    ["http://p/", { since: "all", rewind: 1 }, /since and rewind/],
    ["http://p/", { rewind: 0 }, /rewind is 0; want an integer from 1 to 1000/],
    ["http://p/", { position: "a b" }, /invalid position "a b"/],
    ["http://p/", { topics: [""] }, /invalid topic ""/],
    ["http://p/", { shared: true, envelope: false }, /requires envelopes/],
    ["http://p/", { heartbeat: -1 }, /heartbeat is -1/],
    ["http://p/", { heartbeat: "x" }, /heartbeat is a string; want number/],
    ["http://p/", { topics: "orders.7" }, /topics is a string; want an array/],
    ["http://p/", { topic: ["a"] }, /unknown option topic/],
    ["http://p/", { token: 5 }, /token is a number; want string or function/],
    ["http://p/", { since: 5 }, /since is a number; want string/],
    ["http://p/", { shared: 3 }, /shared is a number; want boolean or string/],
  ] as const) {
    assert.throws(() => new Peald(url, options as object), message);
  }
});
