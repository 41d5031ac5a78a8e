// Displays a message that was published.

import * as format from "/console/format.js";

const longest = 2000; // characters of data that are displayed

// renderMessage returns a list item for a message, with the text of its badge.
export function renderMessage({ id, event, data, time }, badge) {
  const item = document.getElementById("message-template").content.firstElementChild.cloneNode(true);
  const part = (name) => item.querySelector(`.${name}`);
  const at = new Date(time);
  item.dataset.type = event;
  part("badge").textContent = badge;
  part("id").textContent = id;
  part("text").textContent = data.length > longest ? `${data.slice(0, longest)}… (${format.count(data.length)} characters)` : data;
  const shown = item.querySelector("time");
  shown.dateTime = time;
  shown.textContent = format.clock(at);
  shown.title = at.toLocaleString("en-GB");
  return item;
}
