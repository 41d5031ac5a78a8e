// Bundles the tests and runs them: node scripts/test.mjs [OUTPUT DIRECTORY].
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const tests = readdirSync(join(root, "test")).filter((name) => name.endsWith(".test.ts"));
const outdir = mkdtempSync(join(tmpdir(), "peald-client-"));
try {
  await build({
    entryPoints: tests.map((name) => join(root, "test", name)),
    outdir, bundle: true, platform: "node", format: "esm", target: "node20", sourcemap: "inline", splitting: true,
    external: ["node:*"], outExtension: { ".js": ".mjs" }, logLevel: "warning",
    nodePaths: [join(root, "node_modules")],
  });
  const files = readdirSync(outdir).filter((name) => name.endsWith(".test.mjs")).map((name) => join(outdir, name));
  const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...process.argv.slice(2), ...files], { stdio: "inherit" });
  process.exitCode = status ?? 1;
} finally {
  rmSync(outdir, { recursive: true, force: true });
}
