// Bundles the client into one minified module: node scripts/bundle.mjs [OUTPUT FILE].
// Without a file, it writes to standard output.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const { outputFiles: [bundle] } = await build({
  entryPoints: [fileURLToPath(new URL("../src/index.ts", import.meta.url))],
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  banner: { js: "// @peald/client, with eventsource-parser: MIT License, Copyright (c) 2026 Espen Hovlandsdal" },
  write: false,
});
writeFileSync(process.argv[2] ?? 1, bundle.contents);
