// Wires the page: the daemon's figures and what they are shown in, lists, forms
// and the tail.

import * as format from "/console/format.js";
import { Charts } from "/console/charts.js";
import { Control } from "/console/control.js";
import { Disconnect } from "/console/disconnect.js";
import { Figures } from "/console/figures.js";
import { List } from "/console/list.js";
import { Publisher } from "/console/publish.js";
import { Session } from "/console/session.js";
import { showTotals } from "/console/totals.js";
import { inShell, showCommands } from "/console/shell.js";
import { Tail } from "/console/tail.js";

const element = (id) => document.getElementById(id);

const control = new Control();
const session = new Session(control);
const figures = new Figures(control);
const charts = new Charts(figures);
const publisher = new Publisher(control);
const tail = new Tail(control);
const announce = (text) => (element("announce").textContent = text);

const users = new List(control, element("users"), element("user-template"), {
  path: "/v1/users",
  rows: "users",
  key: ({ userId }) => userId,
  fill: (row, { connections, connectedSince }) => {
    row.querySelector(".number").textContent = format.count(connections);
    row.querySelector(".since").textContent = format.lasting(Date.now() - Date.parse(connectedSince));
    row.querySelector(".since").title = new Date(connectedSince).toLocaleString("en-GB");
  },
  act: (act, user) => ({ send: () => publisher.to("user", user), tail: () => tail.of("user", user), disconnect: () => disconnect.ask(user) })[act](),
  none: "No user holds a stream.",
});

const isPattern = (topic) => topic.split(".").some((token) => token === "*" || token === ">");

const topics = new List(control, element("topics"), element("topic-template"), {
  path: "/v1/topics",
  rows: "topics",
  key: ({ topic }) => topic,
  fill: (row, { topic, subscribers }) => {
    row.querySelector(".number").textContent = format.count(subscribers);
    row.querySelector("[data-act=send]").hidden = isPattern(topic);
  },
  act: (act, topic) => ({ send: () => publisher.to("topic", topic), tail: () => tail.of("topic", topic) })[act](),
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
  draining: "Stopping",
  unreachable: "Unreachable",
  unauthorized: "Token needed",
  denied: "Not allowed",
};

const troubles = {
  full: "Every stream that this daemon may hold is taken. Browsers that come now are told to try again.",
  draining: "The daemon is starting or stopping: it takes no new streams.",
  unreachable: "The daemon does not answer. This page goes on by itself when it does.",
  denied: "The control token lacks the scope read, so there are no figures to show.",
};

function showState() {
  const { stats, state: asked } = figures;
  const full = asked === "open" && stats.maxConnections > 0 && stats.total.connections >= stats.maxConnections;
  const state = full ? "full" : asked;
  const pill = element("state");
  if (pill.dataset.state !== state) {
    pill.dataset.state = state;
    pill.textContent = words[state];
    const trouble = troubles[state] ?? "";
    element("trouble").textContent = trouble;
    element("trouble").hidden = trouble === "";
  }
}

function showAbout() {
  const { stats } = figures;
  element("node").textContent = location.host;
  if (!stats) return;
  const up = format.lasting(Date.now() - Date.parse(stats.startedAt));
  element("about").textContent = `${stats.version || "unknown version"} · up ${up} · at most ${format.streams(stats.maxConnections)}`;
}

function showHint() {
  const { stats } = figures;
  element("hint").hidden = !stats || stats.total.connections > 0 || Number(stats.total.connected) > 0;
}

let reached = true;

figures.addEventListener("change", () => {
  showState();
  showAbout();
  showHint();
  if (figures.stats) {
    charts.update();
    showTotals(figures.stats);
  }
  // A daemon that comes back may be another, with other tokens.
  const answers = figures.state !== "unreachable";
  if (answers && (!reached || session.scopes === null)) session.learn();
  reached = answers;
});

session.addEventListener("change", () => {
  figures.start();
  showTrials();
  if (session.may("read")) {
    users.refresh();
    topics.refresh();
  } else {
    users.stop();
    topics.stop();
  }
});

// showTrials shows commands to try on a daemon that has yet to see a stream.
function showTrials() {
  const token = control.token ? ' -H "Authorization: Bearer $PEALCTL_TOKEN"' : "";
  showCommands(element("commands"), [
    ["Hold a stream", `curl -N ${inShell(document.documentElement.dataset.events)}`],
    ["Tell everybody", `curl${token} -d ${inShell(JSON.stringify({ data: "Hello, everybody" }))} \\\n${inShell(`${location.origin}/v1/broadcast`)}`],
  ]);
}

showTrials();
element("node").textContent = location.host;
figures.start();
