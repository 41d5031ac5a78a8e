// Commands to try, with the addresses and the name that are in use.

const inShell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

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

async function copy(code, button) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    // There is no clipboard on origins that are not secure.
    getSelection().selectAllChildren(code);
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

export function showCommands(list, settings, user) {
  const template = document.getElementById("command-template");
  list.replaceChildren(
    ...commands(settings, user).map(([what, line]) => {
      const item = template.content.firstElementChild.cloneNode(true);
      const code = item.querySelector("code");
      const button = item.querySelector("button");
      item.querySelector(".what").textContent = what;
      item.querySelector("pre").ariaLabel = what;
      code.textContent = line;
      button.ariaLabel = `Copy the command: ${what}`;
      button.addEventListener("click", () => copy(code, button));
      return item;
    }),
  );
}
