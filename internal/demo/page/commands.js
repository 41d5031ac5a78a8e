// Commands to try, with the addresses and the name that are in use.

import { inShell, showCommands as show } from "/demo/shell.js";

// inPath escapes what encodeURIComponent leaves and a shell would not.
const inPath = (text) => encodeURIComponent(text).replaceAll("'", "%27");

function commands({ events, control, controlToken, anonymous }, user) {
  const token = controlToken === undefined ? "" : ` -H "Authorization: Bearer $PEALCTL_TOKEN"`;
  const post = (path, data) => `curl${token} -d ${inShell(JSON.stringify({ data }))} \\\n${control}${inShell(path)}`;
  return [
    ["Tell everybody", post("/v1/broadcast", "Hello, everybody")],
    [user ? `Tell ${user} alone` : "Tell alice alone (pick that name to see it)", post(`/v1/users/${inPath(user || "alice")}/messages`, "Just for you")],
    ["See who is connected", `curl${token} ${control}/v1/users`],
    ...(anonymous === undefined
      ? [
          ["Get a token for the stream", `curl${token} -d ${inShell(JSON.stringify({ userId: user || "alice" }))} \\\n${control}/v1/tokens`],
          ["Watch the stream as it is", `curl -N -H "Authorization: Bearer $SUBSCRIBER" \\\n${location.origin}${events}`],
        ]
      : [["Watch the stream as it is", `curl -N ${location.origin}${events}`]]),
  ];
}

export const showCommands = (list, settings, user) => show(list, commands(settings, user));
