// Calls peald's control plane from Node. It needs no generated stubs, because it
// loads the proto file at run time.
//
//   PEALCTL_ADDR   the daemon's grpc.addr (127.0.0.1:9090)
//   PEALCTL_TOKEN  a token from control.tokens, if the daemon has any
//
// Usage: npm ci && node peald.js [USER]
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const { PEALCTL_ADDR = "127.0.0.1:9090", PEALCTL_TOKEN } = process.env;
const [user = "alice"] = process.argv.slice(2);

const definition = loadSync("peal/v1/control.proto", {
  includeDirs: [fileURLToPath(new URL("../../proto", import.meta.url))],
  defaults: true,
  longs: Number,
});
const { ControlService } = grpc.loadPackageDefinition(definition).peal.v1;
const control = new ControlService(PEALCTL_ADDR, grpc.credentials.createInsecure());

const metadata = new grpc.Metadata();
if (PEALCTL_TOKEN) metadata.set("authorization", `Bearer ${PEALCTL_TOKEN}`);

function call(method, request) {
  const deadline = Date.now() + 10_000;
  return promisify(control[method].bind(control))(request, metadata, { deadline });
}

try {
  const { token } = await call("createToken", { userId: user, ttl: { seconds: 3600 } });
  console.log(`Subscriber token for ${user}: ${token}`);

  const everyone = await call("broadcast", { data: "Hello, everyone,\nfrom Node ☀" });
  console.log(`To everyone: event ${everyone.id}, queued to ${everyone.recipients} streams`);

  const one = await call("sendToUser", { userId: user, data: "Hello from Node, just for you", event: "greeting" });
  console.log(`To ${user}: event ${one.id}, queued to ${one.recipients} streams`);

  const { users } = await call("listUsers", { pageSize: 10 });
  for (const { userId, connections, connectedSince } of users) {
    const since = new Date(connectedSince.seconds * 1000).toISOString();
    console.log(`Connected: ${userId} with ${connections} streams since ${since}`);
  }
} catch (error) {
  // For a gRPC error, error.code is a grpc.status and error.details the message.
  console.error(`${grpc.status[error.code] ?? "error"}: ${error.details ?? error.message}`);
  process.exitCode = 1;
} finally {
  control.close();
}
