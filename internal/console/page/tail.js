// The live tail of published messages.

import * as format from "/console/format.js";
import { renderMessage } from "/console/message.js";
import { Newest, most } from "/console/newest.js";
import { Rejection } from "/console/control.js";

const retryAfter = 2000; // milliseconds

const element = (id) => document.getElementById(`tail-${id}`);

const audiences = {
  all: { query: () => ({}) },
  everyone: { query: () => ({ everyone: true }) },
  user: { label: "User", query: (name) => ({ user_id: name }) },
  topic: { label: "Topic or pattern", query: (name) => ({ topic: name }) },
};

const gaps = {
  overflow: (n) => `Gap: ${format.count(n)} ${n === 1 ? "message" : "messages"} dropped, because this page fell behind`,
  expired: () => "Gap: messages are missing that the history no longer holds",
  unknown: () => "Gap: messages may be missing, because the daemon restarted",
};

function renderGap({ reason, messages }) {
  const item = document.getElementById("gap-template").content.firstElementChild.cloneNode(true);
  item.querySelector(".text").textContent = gaps[reason]?.(Number(messages)) ?? `Gap: ${reason}`;
  return item;
}

// recipientsOf describes whom a message is for.
function recipientsOf({ userId, topic, topics, excludeUserId }) {
  if (userId !== undefined) return `user ${userId}`;
  const named = topics.length > 1 ? `topics ${topics.join(", ")}` : `topic ${topic}`;
  const except = excludeUserId === undefined ? "" : ` except user ${excludeUserId}`;
  return (topic === undefined ? "everyone" : named) + except;
}

function renderTailed(message) {
  const item = renderMessage(message, `${message.event} · to ${recipientsOf(message)}`);
  item.classList.toggle("for-one", message.userId !== undefined);
  item.classList.toggle("for-topic", message.topic !== undefined);
  item.querySelector(".recipients").textContent = `${format.streams(message.recipients)} ·`;
  return item;
}

const render = ({ message, gap }) => (gap ? renderGap(gap) : renderTailed(message));

// visible settles once the page is visible.
const visible = () =>
  new Promise((resolve) => {
    if (!document.hidden) resolve();
    else document.addEventListener("visibilitychange", resolve, { once: true });
  });

const later = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Tail follows all messages from the start, unless the operator stops it. While
// the page is hidden it closes its connection, because browsers allow only a few
// per server. Later it resumes from its position.
export class Tail {
  #control;
  #permitted = false;
  #stopped = false; // by the operator
  #following = null; // the current query, or null
  #abort = null; // closes the current connection
  #newest = new Newest({ list: element("list"), empty: element("empty"), pause: element("pause"), clear: element("clear") });
  #drawn = []; // waits for the next frame

  constructor(control) {
    this.#control = control;
    element("of").addEventListener("change", () => {
      this.#showAudience();
      this.#stop();
      if (element("target").hidden) this.#follow();
      else element("target").focus();
    });
    element("form").addEventListener("submit", (submit) => {
      submit.preventDefault();
      this.#stopped = this.#following !== null;
      if (this.#stopped) this.#stop();
      else this.#follow();
    });
    document.addEventListener("visibilitychange", () => document.hidden && this.#abort?.abort());
    this.#showAudience();
    this.#stop();
  }

  // permit starts the tail, or stops it if the caller may not follow.
  permit(permitted) {
    if (permitted && !this.#permitted && !this.#stopped) this.#follow();
    if (!permitted) this.#stop();
    this.#permitted = permitted;
  }

  // of follows a user or a topic.
  of(kind, name) {
    element("of").value = kind;
    element("target").value = name;
    this.#showAudience();
    this.#stop();
    this.#stopped = false;
    this.#follow();
    document.getElementById("tail").scrollIntoView({ block: "nearest" });
    element("toggle").focus();
  }

  #showAudience() {
    const { label } = audiences[element("of").value];
    element("target").hidden = !label;
    element("target-label").textContent = label ?? "Name";
    element("target").placeholder = label ?? "";
  }

  #stop() {
    this.#following = null;
    this.#abort?.abort();
    this.#showFollowing(false);
    this.#showState("");
  }

  #showFollowing(following) {
    element("toggle").textContent = following ? "Stop" : "Follow";
    element("toggle").classList.toggle("primary", !following);
    element("empty").textContent = following ? "No messages yet" : "Follow messages to see them here, newest first.";
  }

  #showState(state) {
    element("state").textContent = state;
    element("state").classList.toggle("live", state === "following");
  }

  async #follow() {
    const name = element("target").value;
    const { label, query } = audiences[element("of").value];
    element("problem").textContent = "";
    if (label && name === "") {
      element("problem").textContent = `Enter a ${label.toLowerCase()}`;
      element("target").focus();
      return;
    }
    const following = { query: query(name), position: "" };
    this.#following = following;
    this.#showFollowing(true);
    this.#showState("connecting");
    while (following === this.#following) {
      await visible();
      if (following !== this.#following) return;
      const hidden = await this.#receive(following);
      if (following !== this.#following) return;
      if (hidden) continue;
      this.#showState("disconnected, reconnecting");
      await later(retryAfter);
    }
  }

  // receive displays messages until the connection is closed. It returns true
  // if this page closed it.
  async #receive(following) {
    const abort = new AbortController();
    this.#abort = abort;
    try {
      const query = { ...following.query, ...(following.position && { last_event_id: following.position }) };
      await this.#control.lines("/v1/tail", query, (line) => {
        following.position = line.position ?? line.message?.id ?? following.position;
        this.#showState("following");
        if (line.message || line.gap) this.#draw(line);
      }, abort.signal);
    } catch (error) {
      if (abort.signal.aborted) return true;
      if (error instanceof Rejection && error.reason !== "STOPPING" && error.reason !== "RATE_LIMIT") {
        element("problem").textContent = error.message;
        this.#stop();
      }
    }
    return abort.signal.aborted;
  }

  // draw displays lines once per frame, and only the newest if there are many.
  #draw(line) {
    if (this.#drawn.push(line) > 1) return;
    const show = () => this.#newest.add(...this.#drawn.splice(0).slice(-most).map(render));
    if (document.hidden) setTimeout(show, 100);
    else requestAnimationFrame(show);
  }
}
