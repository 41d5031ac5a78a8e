// Totals since the daemon started, and the tables of shards and nodes.

import * as format from "/console/format.js";

// Why streams were closed, and why events were dropped.
const closeReasons = {
  hung_up: "closed by client",
  write_failed: "write failed",
  slow_consumer: "slow consumer",
  write_timeout: "write timeout",
  expired: "token expired",
  shutdown: "shutdown",
  disconnected: "disconnected",
  drained: "drained",
  answered: "poll answered",
  ended: "topic ended",
  suspended: "no quorum",
  max_age: "maximum age",
};

// Why streams could not resume, or start in the past, without a gap.
const resetReasons = {
  expired: "history expired",
  unknown: "unknown position",
};

const sum = (counts) => Object.values(counts ?? {}).reduce((all, n) => all + Number(n), 0);

const byReason = (counts, names) =>
  Object.entries(counts ?? {})
    .filter(([, n]) => Number(n) > 0)
    .sort(([, a], [, b]) => Number(b) - Number(a))
    .map(([reason, n]) => `${format.count(Number(n))} ${names[reason] ?? reason.replaceAll("_", " ")}`)
    .join(", ");

const byAudience = ({ broadcast, user, topic }) =>
  `${format.count(Number(broadcast))} broadcast, ${format.count(Number(user))} to users, ${format.count(Number(topic))} to topics`;

// What polls were answered with.
const pollResults = {
  events: "with events",
  empty: "without",
  reset: "with a reset",
};

// pollRow returns no row if there were no polls.
function pollRow({ waiting, answered, abandoned }) {
  const all = { ...answered, abandoned };
  if (waiting + sum(all) === 0) return [];
  return [["Polls", format.count(sum(answered)), [`${format.count(waiting)} waiting`, byReason(all, pollResults)].filter(Boolean).join(", ")]];
}

// The audiences of pages.
const readAudiences = {
  broadcast: "of broadcasts",
  user: "of users",
  topic: "of topics",
};

// readRow returns no row if no pages were read.
const readRow = (reads) => (sum(reads) > 0 ? [["Pages read", format.count(sum(reads)), byReason(reads, readAudiences)]] : []);

const gaps = (...resets) => {
  const all = {};
  for (const counts of resets) {
    for (const [reason, n] of Object.entries(counts ?? {})) all[reason] = (all[reason] ?? 0) + Number(n);
  }
  return sum(all) > 0 ? `gaps: ${byReason(all, resetReasons)}` : "no gaps";
};

function totals({ total, published, resumes, since, rewinds, publishedByAudience, log, retained, descriptors, polls, reads }) {
  return [
    ["Streams opened", format.count(Number(total.connected)), `${format.count(total.connections)} open`],
    ["Streams closed", format.count(sum(total.disconnected)), byReason(total.disconnected, closeReasons)],
    ["Published", format.count(Number(published)), publishedByAudience ? byAudience(publishedByAudience) : ""],
    ["Delivered", format.count(Number(total.delivered)), format.bytes(Number(total.bytes))],
    ["Dropped", format.count(sum(total.dropped)), byReason(total.dropped, closeReasons)],
    ["Resumed", format.count(Number(resumes.replayed)), gaps(resumes.resets)],
    ...(since && rewinds ? [["Started in the past", format.count(Number(since.replayed) + Number(rewinds.replayed)), gaps(since.resets, rewinds.resets)]] : []),
    ...(polls ? pollRow(polls) : []),
    ...(reads ? readRow(reads) : []),
    ["Buffered", format.bytes(Number(total.queuedBytes)), "not yet sent"],
    ...(log ? [["History", format.count(Number(log.events)), format.bytes(Number(log.bytes))]] : []),
    ...(retained ? [["Retained values", format.count(Number(retained.events)), format.bytes(Number(retained.bytes))]] : []),
    ...(descriptors ? [["File descriptors", format.count(descriptors.used), `of ${format.count(descriptors.allowed)}`]] : []),
  ];
}

// update sets the texts of parent's rows. It calls make to create missing rows.
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

// tableRow returns a function that makes a row of cells with these classes. The
// first cell is the row's heading.
const tableRow = (...classes) => () => make("tr", ...classes.map((name, i) => {
  const cell = make(i === 0 ? "th" : "td");
  cell.className = name;
  if (i === 0) cell.scope = "row";
  return cell;
}));

function showNodes({ nodes = [], missingNodes = [] }) {
  document.getElementById("cluster").hidden = nodes.length === 0;
  update(document.getElementById("nodes"), tableRow("", "", "number", "", "", "number", "number"), nodes.map((node) => [
    node.answering ? `${node.name} (this node)` : node.name,
    stateOf(node, missingNodes),
    format.count(node.connections),
    node.leader ? "leader" : node.replica ? "replica" : "–",
    node.quorum ? "yes" : "no",
    format.count(Number(node.lagEntries)),
    format.count(Number(node.gapFills)),
  ]));
}

function showSources({ sources = [] }) {
  document.getElementById("source-list").hidden = sources.length === 0;
  update(document.getElementById("sources"), tableRow("", "", "", "number", "number", "number", "number", ""), sources.map((source) => [
    `${source.name} (${source.kind})`,
    source.node || format.none,
    source.state.replace("SOURCE_STATE_", "").toLowerCase(),
    source.lagRecords === undefined ? format.none : format.count(Number(source.lagRecords)),
    format.count(Number(source.published)),
    format.count(Number(source.rejected)),
    format.count(Number(source.failures)),
    source.lastError ? `${format.clock(new Date(source.lastErrorAt))}: ${source.lastError}` : format.none,
  ]));
}

function stateOf(node, missingNodes) {
  const name = node.state.replace("NODE_STATE_", "").replaceAll("_", " ").toLowerCase();
  if (node.reason) return `${name}: ${node.reason}`;
  return missingNodes.includes(node.name) ? `${name}, no reply` : name;
}

export function showTotals(stats) {
  const term = () => make("div", make("dt"), make("dd"), make("dd"));
  update(document.getElementById("totals"), term, totals(stats));
  update(document.getElementById("shards"), tableRow("number", "number", "number", "number", "number"), stats.shards.map((shard) => [
    shard.node ? `${shard.node}/${shard.shard}` : String(shard.shard),
    format.count(shard.connections),
    format.count(Number(shard.delivered)),
    format.count(sum(shard.dropped)),
    format.seconds(Number.parseFloat(shard.lag ?? "0s")),
  ]));
  showNodes(stats);
  showSources(stats);
}
