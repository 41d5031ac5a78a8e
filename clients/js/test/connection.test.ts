import assert from "node:assert/strict";
import { test } from "node:test";
import { lifetime } from "../src/token.js";
import { Clock, environmentOf, settle } from "./clock.js";
import { pass } from "./model.js";
import { connected, Page } from "./page.js";
import { Server } from "./server.js";
import type { Fault } from "./server.js";

const minute = 60_000;

function jwt(claims: object): string {
  return ["{}", JSON.stringify(claims), "x"].map((part) => Buffer.from(part).toString("base64url")).join(".");
}

for (const fault of [{ buffered: true }, { delay: Infinity }] satisfies Fault[]) {
  test(`polls take over within 20 s where streams are held back: ${JSON.stringify(fault)}`, async () => {
    const { clock, server, page, peald } = await connected({ topics: ["a"] }, {}, (s) => {
      s.publish("a", "value", { retain: true });
      s.fault = ({ json }) => (json ? undefined : fault);
    });
    server.publish("a", "missed");
    await clock.advance(11_000);
    assert.equal(peald.state, "polling");
    assert.deepEqual(page.log, ["value"]);
    server.publish("a", "1");
    await clock.advance(1);
    server.publish(undefined, "2");
    await clock.advance(1);
    assert.deepEqual(page.log, ["value", "1", "2"]);
    assert.deepEqual(page.events.slice(1).map(({ id, json, ...event }) => event), [
      { type: "topic", data: "1", topic: "a", audience: "topic", time: new Date("1970-01-01T00:00:03.000Z"), retained: false },
      { type: "broadcast", data: "2", audience: "broadcast", time: new Date("1970-01-01T00:00:04.000Z"), retained: false },
    ]);

    const subscribed = peald.subscribe("b");
    await clock.advance(1);
    await subscribed;
    server.publish("b", "3");
    await clock.advance(1);
    assert.deepEqual(page.log, ["value", "1", "2", "3"]);

    // A stream is tried again from time to time, while polls go on.
    await clock.advance(4 * minute);
    const tried = server.requests.filter(({ json }) => !json).length;
    await clock.advance(2 * minute);
    assert.equal(server.requests.filter(({ json }) => !json).length, tried + 1);
    assert.equal(peald.state, "polling");
    server.fault = () => undefined;
    server.silence = 15_000;
    await clock.advance(6 * minute);
    assert.equal(peald.state, "open");
    server.publish("a", "4");
    await settle();
    assert.deepEqual(page.log, ["value", "1", "2", "3", "4"]);
    assert.equal(server.open, 1);
    assert.equal(server.waiting, 0);
  });
}

test("a stream that falls silent is replaced, and the interval of heartbeats is learned", async () => {
  const { clock, server, page } = await connected({ topics: ["a"] }, {}, (s) => { s.silence = 15_000; });
  await clock.advance(10 * minute);
  assert.equal(server.requests.length, 1);

  server.fault = () => (server.requests.length === 2 ? { stall: true } : undefined);
  server.break();
  await clock.advance(1000);
  server.publish("a", "not sent on the silent stream");
  await clock.advance(46_000);
  assert.deepEqual(page.log, ["not sent on the silent stream"]);

  // Heartbeats every 100 s are rarer than the client expects at first.
  const streams = () => server.requests.filter(({ json }) => !json).length, before = streams();
  server.silence = 100_000;
  server.break();
  await clock.advance(3 * minute);
  assert.equal(page.peald.state, "open");
  const learned = streams();
  assert.ok(learned - before <= 3, `${learned - before} streams`);
  await clock.advance(40 * minute);
  assert.equal(streams(), learned);
  assert.equal(page.peald.state, "open");
});

test("heartbeats that come early, because the stream wasn't silent before, don't make the client impatient", async () => {
  const { clock, server, page } = await connected({ topics: ["a"] });
  await clock.advance(4000);
  server.heartbeat(); // the server spreads the first heartbeats
  for (let i = 0; i < 8; i++) {
    await clock.advance(15_000);
    server.heartbeat();
  }
  for (let i = 0; i < 8; i++) {
    await clock.advance(14_000);
    server.publish("a", String(i));
    await clock.advance(4000);
    server.heartbeat();
    await clock.advance(18_000); // the turn after an event is skipped
    server.heartbeat();
  }
  assert.equal(server.requests.length, 1);
  assert.deepEqual(page.states, ["connecting", "open"]);
});

test("polls take over within 20 s if a stream gets nothing but its first block", async () => {
  let stalls = true;
  const { clock, server, page, peald } = await connected({ topics: ["a"] }, {}, (s) => {
    s.silence = 15_000;
    s.fault = ({ json }) => (json || !stalls ? undefined : { stall: true });
  });
  server.publish("a", "1");
  await clock.advance(18_800);
  assert.equal(peald.state, "polling");
  assert.deepEqual(page.log, ["1"]);

  // Streams that are tried beside polls don't count until they have shown that they get through.
  for (let i = 2; i <= 40; i++) {
    server.publish("a", String(i));
    await clock.advance(minute / 2);
    assert.equal(peald.state, "polling");
    assert.equal(page.log.length, i);
  }
  assert.ok(server.requests.filter(({ json }) => !json).length <= 5);

  const subscribed = peald.subscribe("b"); // even while a stream is being tried
  await clock.advance(1);
  await subscribed;
  stalls = false;
  await clock.advance(6 * minute);
  assert.equal(peald.state, "open");
  assert.equal(server.open, 1);
  server.publish("b", "41");
  await settle();
  assert.deepEqual(page.log, Array.from({ length: 41 }, (_, i) => String(i + 1)));
});

for (const later of [{ stall: true }, { buffered: true }] satisfies Fault[]) {
  test(`topics change and polls fail while a stream is being tried: ${JSON.stringify(later)}`, async () => {
    const { clock, server, page, peald } = await connected({ topics: ["a"] }, {}, (s) => {
      s.silence = 15_000;
      s.fault = ({ json }) => (json ? undefined : s.requests.length === 1 ? { stall: true } : later);
    });
    await clock.advance(20_000);
    assert.deepEqual([peald.state, server.open], ["polling", 1]);
    const subscribed = peald.subscribe("b");
    await settle();
    await subscribed;
    assert.equal(server.open, 0, "a stream with the previous topics is no longer tried");
    server.publish("b", "1");
    await settle();

    await clock.advance(5 * minute);
    assert.equal(server.open, 1);
    server.fault = () => ({ refuse: true });
    server.publish("a", "2");
    await clock.advance(1000);
    assert.equal(server.open, 0);
    assert.notEqual(peald.state, "polling");
    server.fault = () => undefined;
    await clock.advance(minute);
    assert.deepEqual(page.log, ["1", "2"]);
    await clock.advance(5 * minute);
    assert.equal(peald.state, "open");
  });
}

test("a token is renewed before it expires, without a gap", async () => {
  const clock = new Clock(), server = new Server(clock);
  let asked = 0;
  const token = async () => jwt({ sub: "alice", iat: clock.now / 1000, exp: clock.now / 1000 + 600, n: ++asked });
  const page = new Page(environmentOf(clock, server.fetch), { topics: ["a"], token });
  await settle();
  for (let i = 1; i <= 40; i++) {
    await pass(clock, server, minute);
    server.publish("a", String(i));
  }
  await settle();
  assert.deepEqual(page.log, Array.from({ length: 40 }, (_, i) => String(i + 1)));
  assert.deepEqual(page.states, ["connecting", "open"], "the state never changes");
  assert.equal(asked, 5); // every 540 s
  assert.equal(new Set(server.requests.map((request) => request.token)).size, 5);
  assert.equal(server.open, 1);
});

test("a 401 asks for a new token once", async () => {
  const clock = new Clock(), server = new Server(clock);
  let valid = "2", asked = 0;
  server.accepts = (token) => token === valid;
  const page = new Page(environmentOf(clock, server.fetch), { topics: ["a"], token: () => String(++asked) });
  await clock.advance(1000);
  assert.equal(page.peald.state, "open");
  assert.equal(asked, 2);

  valid = "3";
  server.break();
  await clock.advance(1000);
  assert.equal(page.peald.state, "open");
  valid = "none";
  server.break();
  await clock.advance(minute);
  assert.equal(asked, 4);
  assert.deepEqual({ ...page.closed }, { reason: "unauthorized", status: 401, message: "token rejected" });
});

test("a token function may fail for a while, or return no token", async () => {
  const clock = new Clock(), server = new Server(clock);
  server.silence = 15_000;
  let result: () => string | null = () => { throw new Error("offline"); };
  const page = new Page(environmentOf(clock, server.fetch), { token: () => result() });
  await clock.advance(minute);
  assert.equal(page.peald.state, "waiting");
  result = () => "token";
  await clock.advance(minute);
  assert.equal(page.peald.state, "open");
  assert.equal(server.requests[0]!.token, "token");

  server.accepts = () => false;
  result = () => null;
  server.break();
  await clock.advance(1000);
  assert.equal(page.closed?.reason, "unauthorized");
});

test("the life of a token doesn't depend on a wrong clock", () => {
  const now = 1_700_000_000_000, s = now / 1000;
  for (const [claims, want] of [
    [{ exp: s + 60 }, 60_000],
    [{ exp: s - 60 }, Infinity],
    [{ iat: s - 30, exp: s + 30 }, 30_000],
    [{ iat: s - 3600, exp: s - 3000 }, 600_000], // the clock is fast
    [{ iat: s + 3600, exp: s + 4200 }, 600_000], // the clock is slow
    [{ sub: "alice" }, Infinity],
    [{ exp: "soon" }, Infinity],
  ] as const) {
    assert.equal(lifetime(jwt(claims), now), want, JSON.stringify(claims));
  }
  for (const token of ["", "opaque", "a.b.c", `x.${Buffer.from("null").toString("base64url")}.y`]) assert.equal(lifetime(token, now), Infinity, token);
});

test("the back/forward cache, freezing, sleep and the network are followed", async () => {
  const window = new EventTarget(), document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  const { clock, server, page, peald } = await connected({ topics: ["a"] }, { window, document });
  for (const [target, suspend, resume] of [[window, "pagehide", "pageshow"], [document, "freeze", "resume"]] as const) {
    target.dispatchEvent(new Event(suspend));
    await clock.advance(10 * minute);
    assert.equal(server.open, 0, suspend);
    assert.equal(peald.state, "waiting");
    server.publish("a", suspend);
    target.dispatchEvent(new Event(resume));
    await settle();
    assert.equal(peald.state, "open");
  }
  assert.deepEqual(page.log, ["pagehide", "freeze"]);

  let before = server.requests.length;
  window.dispatchEvent(new Event("online"));
  await settle();
  assert.equal(server.requests.length, before + 1, "online replaces the stream");
  assert.equal(server.open, 1);

  before = server.requests.length;
  await pass(clock, server, minute);
  assert.equal(server.requests.length, before);
  clock.now += 10 * minute; // the computer sleeps: timers don't run
  await clock.advance(5000);
  assert.equal(server.requests.length, before + 1, "sleep replaces the stream");
  assert.deepEqual(page.states.slice(-1), ["open"]);

  // A page that waits because of the network tries again at once when it is back.
  server.fault = () => ({ refuse: true });
  server.break();
  await clock.advance(5 * minute);
  server.fault = () => undefined;
  window.dispatchEvent(new Event("online"));
  await settle();
  assert.equal(peald.state, "open");
  peald.close();
  assert.equal(server.open, 0);
});

test("a poll that isn't answered as it should be isn't repeated at once", async () => {
  const { clock, server } = await connected({ topics: ["a"] }, {}, (s) => {
    s.fault = ({ json }) => (json
      ? { status: 200, body: '{"events":[],"position":"e1-0","reset":null}', headers: { "Content-Type": "application/json" } }
      : { buffered: true });
  });
  await clock.advance(minute);
  const before = server.requests.length;
  await clock.advance(minute);
  assert.ok(server.requests.length - before <= 31, `${server.requests.length - before} requests in a minute`);
});
