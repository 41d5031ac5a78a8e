// Wires the page: one stream, a feed of its events, their rate, and commands.

import { showCommands } from "/demo/commands.js";
import { Feed } from "/demo/feed.js";
import { Rate } from "/demo/rate.js";
import { Stream } from "/demo/stream.js";

const settings = document.documentElement.dataset;
const mayBeAnonymous = "anonymous" in settings;
const element = (id) => document.getElementById(id);

const stream = new Stream(settings.events);
const feed = new Feed();
const rate = new Rate(element("rate"), element("rate-text"));
const counts = { broadcast: 0, individual: 0 };

const words = {
  closed: "Not connected",
  connecting: "Connecting…",
  open: "Connected",
  reconnecting: "Reconnecting…",
};

function showIdentity(user) {
  element("who").textContent = user || "Anonymous";
  element("who-gets").textContent = user
    ? "You get what is sent to everybody, and what is for you alone."
    : "You get what is sent to everybody.";
  element("avatar").textContent = user ? [...user][0].toUpperCase() : "?";
  element("avatar").classList.toggle("named", user !== "");
  element("anonymous").hidden = !mayBeAnonymous || user === "";
  showCommands(element("commands"), settings, user);
}

function connectAs(user) {
  element("problem").textContent = "";
  stream.connect(user);
}

stream.addEventListener("named", () => {
  // A name lasts as long as its tab, so that two tabs can be two users.
  sessionStorage.setItem("user", stream.user);
  showIdentity(stream.user);
});

stream.addEventListener("state", ({ detail: { state, problem } }) => {
  const pill = element("state");
  if (pill.dataset.state !== state) {
    pill.dataset.state = state;
    pill.textContent = words[state];
  }
  if (problem) element("problem").textContent = problem;
  element("toggle").textContent = state === "closed" ? "Connect" : "Disconnect";
});

stream.addEventListener("event", ({ detail: event }) => {
  const kind = event.forOne ? "individual" : "broadcast";
  element("count-" + kind).textContent = ++counts[kind];
  rate.count(kind);
  feed.add(event, stream.user);
});

element("name-form").addEventListener("submit", (submit) => {
  submit.preventDefault();
  connectAs(element("name").value);
  element("name").value = "";
});
element("anonymous").addEventListener("click", () => connectAs(""));
element("toggle").addEventListener("click", () => {
  if (stream.state !== "closed") stream.disconnect();
  else if (stream.user || mayBeAnonymous) connectAs(stream.user);
  else element("name").focus();
});

// A page that the browser keeps for its back button must hold no stream.
addEventListener("pagehide", () => stream.disconnect());
addEventListener("pageshow", (shown) => shown.persisted && connectAs(stream.user));

const user = sessionStorage.getItem("user") ?? "";
showIdentity("");
if (user || mayBeAnonymous) connectAs(user);
