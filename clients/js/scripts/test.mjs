// Bundles the tests and runs them: node scripts/test.mjs [OPTIONS OF NODE].
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundleTests, root } from "./testing.mjs";

const outdir = mkdtempSync(join(tmpdir(), "peald-client-"));
try {
  // All tests share a process, since each process takes about 0.2 CPU seconds to start.
  const file = join(outdir, "test.mjs");
  await bundleTests(readdirSync(join(root, "test")).filter((name) => name.endsWith(".test.ts")), file);
  const { status } = spawnSync(process.execPath, ["--enable-source-maps", ...process.argv.slice(2), file], { stdio: "inherit" });
  process.exitCode = status ?? 1;
} finally {
  rmSync(outdir, { recursive: true, force: true });
}
