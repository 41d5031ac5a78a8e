// Commands to try, with the addresses and the name that are in use.

import { inShell, showCommands as show } from "/demo/shell.js";

// inPath escapes what encodeURIComponent leaves and a shell would not.
const inPath = (text) => encodeURIComponent(text).replaceAll("'", "%27");

function commands({ events, control, controlToken, anonymous }, user) {
  const token = controlToken === undefined ? "" : ` -H "Authorization: Bearer $PEALCTL_TOKEN"`;
  // The last word is the URL's beginning; what comes before is for curl.
  const at = (path) => control.replace(/\S+$/, (base) => inShell(base + path));
  const post = (path, body) => `curl${token} -d ${inShell(JSON.stringify(body))} \\\n${at(path)}`;
  const stream = inShell(location.origin + events);
  return [
    ["Tell everybody", post("/v1/broadcast", { data: "Hello, everybody" })],
    [user ? `Tell ${user} alone` : "Tell alice alone (pick that name to see it)", post(`/v1/users/${inPath(user || "alice")}/messages`, { data: "Just for you" })],
    ["See who is connected", `curl${token} ${at("/v1/users")}`],
    ...(anonymous === undefined
      ? [
          ["Get a token for the stream", post("/v1/tokens", { userId: user || "alice" })],
          ["Watch the stream as it is", `curl -N -H "Authorization: Bearer $SUBSCRIBER" \\\n${stream}`],
        ]
      : [["Watch the stream as it is", `curl -N ${stream}`]]),
  ];
}

export const showCommands = (list, settings, user) => show(list, commands(settings, user));
