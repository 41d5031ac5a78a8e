// Builds the npm package into dist/, or into the directory that is given: node scripts/build.mjs [DIRECTORY].
import { spawnSync } from "node:child_process";
import { rmSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = resolve(process.argv[2] ?? `${root}/dist`);

rmSync(dist, { recursive: true, force: true });
await build({
  absWorkingDir: root,
  entryPoints: ["src/index.ts"],
  outfile: `${dist}/index.js`,
  bundle: true,
  format: "esm",
  target: "es2022",
  sourcemap: true,
  legalComments: "inline",
});

const tsc = fileURLToPath(import.meta.resolve("typescript/lib/tsc.js"));
const { status } = spawnSync(process.execPath, [
  tsc, "--project", root, "--noEmit", "false", "--declaration", "--declarationMap", "--emitDeclarationOnly", "--stripInternal", "--outDir", dist,
], { stdio: "inherit" });
process.exitCode = status ?? 1;
