// Connects the parts of the page: a stream, the list of its events, their rate,
// the form that publishes, and the commands.

import { showCommands } from "/demo/commands.js";
import { Feed } from "/demo/feed.js";
import { suggestName } from "/demo/names.js";
import { Publisher } from "/demo/publish.js";
import { Rate } from "/demo/rate.js";
import { Stream } from "/demo/stream.js";

const settings = document.documentElement.dataset;
const anonymousAllowed = settings.anonymous === "true";
const element = (id) => document.getElementById(id);
const topicBoxes = [...document.querySelectorAll("#topics input")];

const stream = new Stream(settings.events);
const publisher = new Publisher(settings.controlToken === "true");
const feed = new Feed();
const rate = new Rate(element("rate"), element("rate-text"));
const counts = { broadcast: 0, user: 0, topic: 0 };

const words = {
  closed: "Disconnected",
  connecting: "Connecting…",
  open: "Connected",
  polling: "Polling",
  waiting: "Reconnecting…",
};

const chosenTopics = () => topicBoxes.filter((box) => box.checked).map((box) => box.value);

function chooseTopics(topics) {
  for (const box of topicBoxes) box.checked = topics.includes(box.value);
}

function showIdentity(user) {
  element("who").textContent = user || "Anonymous";
  element("who-gets").textContent = user ? "You receive events for everyone, for you and for your topics." : "You receive events for everyone.";
  element("avatar").textContent = user ? [...user][0].toUpperCase() : "?";
  element("avatar").classList.toggle("named", user !== "");
  element("anonymous").hidden = !anonymousAllowed || user === "";
  element("topics").disabled = user === "";
  element("topics-hint").hidden = user !== "";
  publisher.user = user;
  showCommands(element("commands"), settings, user);
}

function connectAs(user) {
  element("problem").textContent = "";
  stream.connect(user, user ? chosenTopics() : []);
}

stream.addEventListener("named", () => {
  // A name is kept per tab, so that two tabs can be two users.
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
  // Events that are polled don't name every audience.
  const audience = event.audience ?? (event.type === "individual" ? "user" : "broadcast");
  element("count-" + audience).textContent = ++counts[audience];
  rate.count(audience);
  feed.add(event, audience, stream.user);
});
stream.addEventListener("reset", ({ detail: reset }) => feed.addReset(reset));

element("name-form").addEventListener("submit", (submit) => {
  submit.preventDefault();
  connectAs(element("name").value);
  element("name").value = "";
});
element("anonymous").addEventListener("click", () => connectAs(""));
element("topics").addEventListener("change", async () => {
  element("problem").textContent = "";
  if (stream.state !== "closed") chooseTopics(await stream.setTopics(chosenTopics()));
  sessionStorage.setItem("topics", JSON.stringify(chosenTopics()));
});
element("toggle").addEventListener("click", () => {
  if (stream.state !== "closed") stream.disconnect();
  else if (stream.user || anonymousAllowed) connectAs(stream.user);
  else element("name").focus();
});

const user = sessionStorage.getItem("user") ?? "";
chooseTopics(JSON.parse(sessionStorage.getItem("topics") ?? `["chat.workshop"]`));
if (!user) element("name").value = suggestName();
showIdentity("");
if (user || anonymousAllowed) connectAs(user);
