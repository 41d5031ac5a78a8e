// Connects the parts of the page: stats and charts, lists, forms and the tail.

import * as format from "/console/format.js";
import { isPattern } from "/console/audiences.js";
import { Charts } from "/console/charts.js";
import { Clear } from "/console/clear.js";
import { Control } from "/console/control.js";
import { Disconnect } from "/console/disconnect.js";
import { History } from "/console/history.js";
import { List } from "/console/list.js";
import { Publisher } from "/console/publish.js";
import { Session } from "/console/session.js";
import { inShell, showCommands } from "/console/shell.js";
import { Stats } from "/console/stats.js";
import { Subscribers } from "/console/subscribers.js";
import { Tail } from "/console/tail.js";
import { showTotals } from "/console/totals.js";

const element = (id) => document.getElementById(id);

const control = new Control();
const session = new Session(control);
const stats = new Stats(control);
const charts = new Charts(stats);
const publisher = new Publisher(control);
const tail = new Tail(control);
const history = new History(control, new Clear(control));
const subscribers = new Subscribers(control);
const announce = (text) => (element("announce").textContent = text);

const users = new List(control, element("users"), element("user-template"), {
  path: () => "/v1/users",
  rows: "users",
  key: ({ userId }) => userId,
  fill: (row, { connections, connectedSince }) => {
    row.querySelector(".number").textContent = format.count(connections);
    row.querySelector(".since").textContent = format.duration(Date.now() - Date.parse(connectedSince));
    row.querySelector(".since").title = new Date(connectedSince).toLocaleString("en-GB");
  },
  act: (act, user) => ({ send: () => publisher.to("user", user), tail: () => tail.of("user", user), history: () => history.of("user", user), disconnect: () => disconnect.ask(user) })[act](),
  none: "No users are connected.",
});

const topics = new List(control, element("topics"), element("topic-template"), {
  path: () => "/v1/topics",
  rows: "topics",
  key: ({ topic }) => topic,
  fill: (row, { topic, subscribers }) => {
    row.querySelector(".number").textContent = format.count(subscribers);
    for (const act of ["send", "history"]) row.querySelector(`[data-act=${act}]`).hidden = isPattern(topic);
  },
  act: (act, topic) => ({ send: () => publisher.to("topic", topic), tail: () => tail.of("topic", topic), history: () => history.of("topic", topic), subscribers: () => subscribers.of(topic) })[act](),
  none: "No stream subscribes to a topic.",
});

const disconnect = new Disconnect(control, (sentence) => {
  announce(sentence);
  users.refresh();
});

const words = {
  connecting: "Connecting…",
  open: "Serving",
  full: "Full",
  draining: "Not ready",
  unreachable: "Unreachable",
  unauthorized: "Token required",
  denied: "Not permitted",
};

const troubles = {
  full: "The daemon has reached its limit of streams. It asks new clients to retry.",
  draining: "The daemon is starting or shutting down, and accepts no new streams.",
  unreachable: "The daemon doesn’t respond. This page reconnects on its own.",
  denied: "The control token lacks the scope read, so there are no stats.",
};

function showState() {
  const { latest, state: requested } = stats;
  const full = requested === "open" && latest.maxConnections > 0 && latest.total.connections >= latest.maxConnections;
  const state = full ? "full" : requested;
  const pill = element("state");
  if (pill.dataset.state !== state) {
    pill.dataset.state = state;
    pill.textContent = words[state];
    const trouble = troubles[state] ?? "";
    element("trouble").textContent = trouble;
    element("trouble").hidden = trouble === "";
  }
}

function showAbout({ version, startedAt, maxConnections }) {
  const up = format.duration(Date.now() - Date.parse(startedAt));
  element("about").textContent = `${version || "unknown version"} · up ${up} · limit ${format.streams(maxConnections)}`;
}

let reachable = true;

stats.addEventListener("change", () => {
  const { latest } = stats;
  showState();
  if (latest) {
    showAbout(latest);
    charts.update();
    showTotals(latest);
  }
  element("hint").hidden = !latest || latest.total.connections > 0 || Number(latest.total.connected) > 0;
  // A restarted daemon may have other tokens.
  const replied = stats.state !== "unreachable";
  if (replied && (!reachable || session.scopes === null)) session.load();
  reachable = replied;
});

session.addEventListener("change", () => {
  stats.start();
  showTrials();
  tail.permit(session.may("admin"));
  if (session.may("read")) {
    users.refresh();
    topics.refresh();
    subscribers.refresh();
  } else {
    users.stop();
    topics.stop();
  }
});

// showTrials displays commands to try on a daemon without streams.
function showTrials() {
  const token = control.token ? ' -H "Authorization: Bearer $PEALCTL_TOKEN"' : "";
  showCommands(element("commands"), [
    ["Open a stream", `curl -N ${inShell(document.documentElement.dataset.events)}`],
    ["Broadcast an event", `curl${token} -d ${inShell(JSON.stringify({ data: "Hello, everyone" }))} \\\n${inShell(`${location.origin}/v1/broadcast`)}`],
  ]);
}

showTrials();
element("node").textContent = location.host;
stats.start();
