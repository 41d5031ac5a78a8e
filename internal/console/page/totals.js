// What has happened since the daemon started, and the shards and
// nodes.

import * as format from "/console/format.js";

const reasons = {
  hung_up: "the client left",
  write_failed: "the connection broke",
  slow_consumer: "too slow",
  write_timeout: "took nothing",
  expired: "the token ended",
  shutdown: "the daemon stopped",
  disconnected: "disconnected",
};

const byReason = (counts) =>
  Object.entries(counts ?? {})
    .filter(([, n]) => Number(n) > 0)
    .sort(([, a], [, b]) => Number(b) - Number(a))
    .map(([reason, n]) => `${format.count(Number(n))} ${reasons[reason] ?? reason.replaceAll("_", " ")}`)
    .join(", ") || "none";

function totals({ total, published, resumes, publishedByAudience, log, descriptors }) {
  const sum = (counts) => Object.values(counts ?? {}).reduce((all, n) => all + Number(n), 0);
  return [
    ["Streams opened", format.count(Number(total.connected)), `${format.count(total.connections)} open`],
    ["Streams ended", format.count(sum(total.disconnected)), byReason(total.disconnected)],
    [
      "Events published",
      format.count(Number(published)),
      publishedByAudience
        ? `${format.count(Number(publishedByAudience.broadcast))} to everybody, ${format.count(Number(publishedByAudience.user))} to users, ${format.count(Number(publishedByAudience.topic))} to topics`
        : "",
    ],
    ["Deliveries", format.count(Number(total.delivered)), format.bytes(Number(total.bytes))],
    ["Events dropped", format.count(sum(total.dropped)), byReason(total.dropped)],
    ["Resumed", format.count(Number(resumes.replayed)), sum(resumes.resets) > 0 ? `with a hole: ${byReason(resumes.resets)}` : "none with a hole"],
    ["Queued now", format.bytes(Number(total.queuedBytes)), "waiting for sockets"],
    ...(log ? [["In the log", format.count(Number(log.events)), format.bytes(Number(log.bytes))]] : []),
    ...(descriptors ? [["Descriptors", format.count(descriptors.used), `of ${format.count(descriptors.allowed)}`]] : []),
  ];
}

function update(parent, make, rows) {
  while (parent.children.length > rows.length) parent.lastElementChild.remove();
  while (parent.children.length < rows.length) parent.append(make());
  rows.forEach((row, i) => {
    row.forEach((text, j) => {
      const cell = parent.children[i].children[j];
      if (cell.textContent !== text) cell.textContent = text;
    });
  });
}

function make(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

// A row whose cells have these classes, the first of them its heading.
const row = (...classes) => () => make("tr", ...classes.map((name, i) => {
  const cell = make(i === 0 ? "th" : "td");
  cell.className = name;
  if (i === 0) cell.scope = "row";
  return cell;
}));

function showNodes({ nodes = [], missingNodes = [] }) {
  document.getElementById("cluster").hidden = nodes.length === 0;
  update(document.getElementById("nodes"), row("", "", "number", "", "", "number", "number"), nodes.map((node) => [
    node.answering ? `${node.name} (this one)` : node.name,
    state(node, missingNodes),
    format.count(node.connections),
    node.leader ? "leads" : node.replica ? "replica" : "–",
    node.quorum ? "yes" : "no",
    format.count(Number(node.lagEntries)),
    format.count(Number(node.gapFills)),
  ]));
}

function state(node, missingNodes) {
  const name = node.state.replace("NODE_STATE_", "").replaceAll("_", " ").toLowerCase();
  if (node.reason) return `${name}: ${node.reason}`;
  return missingNodes.includes(node.name) ? `${name}, has not answered` : name;
}

export function showTotals(stats) {
  const term = () => make("div", make("dt"), make("dd"), make("dd"));
  update(document.getElementById("totals"), term, totals(stats));
  update(document.getElementById("shards"), row("number", "number", "number", "number", "number"), stats.shards.map((shard) => [
    shard.node ? `${shard.node}/${shard.shard}` : String(shard.shard),
    format.count(shard.connections),
    format.count(Number(shard.delivered)),
    format.count(Object.values(shard.dropped).reduce((all, n) => all + Number(n), 0)),
    format.seconds(Number.parseFloat(shard.lag ?? "0s")),
  ]));
  showNodes(stats);
}
