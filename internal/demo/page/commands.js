// Example commands, with the addresses and the name in use.

import { inShell, showCommands as show } from "/demo/shell.js";

// inPath also escapes the apostrophe, which encodeURIComponent doesn't.
const inPath = (text) => encodeURIComponent(text).replaceAll("'", "%27");

function commands({ events, control, controlToken, anonymous }, user) {
  const token = controlToken !== "true" ? "" : ` -H "Authorization: Bearer $PEALCTL_TOKEN"`;
  // The last word is the base URL; curl's options precede it.
  const at = (path) => control.replace(/\S+$/, (base) => inShell(base + path));
  const post = (path, body) => `curl${token} -d ${inShell(JSON.stringify(body))} \\\n${at(path)}`;
  const stream = inShell(location.origin + events);
  return [
    ["Broadcast an event", post("/v1/broadcast", { data: "Hello, everyone" })],
    [user ? `Send an event to ${user}` : "Send an event to alice (connect as alice to see it)", post(`/v1/users/${inPath(user || "alice")}/messages`, { data: "Just for you" })],
    ["Publish to a topic", post("/v1/topics/chat.workshop/messages", { data: "Lunch is ready" })],
    ["List the connected users", `curl${token} ${at("/v1/users")}`],
    ...(anonymous !== "true"
      ? [
          ["Create a subscriber token", post("/v1/tokens", { userId: user || "alice" })],
          ["Open a stream", `curl -N -H "Authorization: Bearer $SUBSCRIBER" \\\n${stream}`],
        ]
      : [["Open a stream", `curl -N ${stream}`]]),
  ];
}

export const showCommands = (list, settings, user) => show(list, commands(settings, user));
