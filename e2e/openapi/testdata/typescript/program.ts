// A backend that calls the control plane with the types that openapi-typescript
// generates. It only has to compile.
import createClient from "openapi-fetch";
import type { components, operations, paths } from "./peald.js";

const client = createClient<paths>({
  baseUrl: "http://127.0.0.1:9091",
  headers: { Authorization: "Bearer secret" },
});

type Problem = components["schemas"]["rpcStatus"];
type Stats = operations["ControlService_Stats"]["responses"][200]["content"]["application/json"];

function fail(problem: Problem): never {
  throw new Error(`${problem.code ?? 0}: ${problem.message ?? ""}`);
}

export async function publish(topic: string, data: string): Promise<string> {
  const { data: reply, error } = await client.POST("/v1/topics/{topic}/messages", {
    params: { path: { topic } },
    body: { data, event: "order", ttl: "60s", idempotencyKey: "order-7" },
  });
  if (error) {
    fail(error);
  }
  return reply.id ?? "";
}

export async function onlineUsers(): Promise<string[]> {
  const ids: string[] = [];
  for (let pageToken = ""; ; ) {
    const { data: page, error } = await client.GET("/v1/users", { params: { query: { pageSize: 1000, pageToken } } });
    if (error) {
      fail(error);
    }
    ids.push(...(page.users ?? []).map((user) => user.userId ?? ""));
    pageToken = page.nextPageToken ?? "";
    if (pageToken === "") {
      return ids;
    }
  }
}

export async function connections(): Promise<number> {
  const { data: stats, error } = await client.GET("/v1/stats");
  if (error) {
    fail(error);
  }
  const typed: Stats = stats;
  return typed.total?.connections ?? 0;
}

export async function logout(userId: string): Promise<void> {
  const { error } = await client.POST("/v1/users/{userId}:disconnect", {
    params: { path: { userId } },
    body: { for: "60s" },
  });
  if (error) {
    fail(error);
  }
}

// What the document excludes must not compile.
export async function mistakes(): Promise<void> {
  // @ts-expect-error: there is no such path
  await client.GET("/v1/nothing");
  // @ts-expect-error: the path is called with POST
  await client.GET("/v1/broadcast");
  // @ts-expect-error: the path has a parameter
  await client.POST("/v1/users/{userId}/messages", { body: { data: "hi" } });
  // @ts-expect-error: data is a string
  await client.POST("/v1/broadcast", { body: { data: 7 } });
  // @ts-expect-error: there is no such field
  const body: components["schemas"]["v1BroadcastRequest"] = { data: "hi", colour: "red" };
  await client.POST("/v1/broadcast", { body });
}
