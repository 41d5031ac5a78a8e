// Checks the package as developers get it: sizes, types, exports, documentation, tree shaking and source maps. It prints
// each violation, and fails if there is one.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { violations } from "./api.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const maxBytes = 12 * 1024; // of the bundle, compressed with gzip

const found = [];
const check = (ok, message) => { if (!ok) found.push(message); };
const run = (...args) => spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });

// The bundle, and whether the committed one is up to date.
const bundle = run("scripts/bundle.mjs").stdout;
const size = gzipSync(bundle, { level: 9 }).length;
check(size <= maxBytes, `the bundle has ${size} bytes compressed; want at most ${maxBytes}`);
const committed = process.argv[2];
if (committed) {
  check(readFileSync(committed, "utf8") === bundle, `${committed} is stale: run npm --prefix clients/js run bundle, and commit it`);
}

const typed = run("node_modules/typescript/lib/tsc.js", "--project", "tsconfig.test.json");
check(typed.status === 0, typed.stdout);

// The package. It is built into a directory of its own, where it looks as it does after its installation.
const dir = mkdtempSync(join(tmpdir(), "peald-package-"));
process.on("exit", () => rmSync(dir, { recursive: true, force: true }));
const built = run("scripts/build.mjs", join(dir, "dist"));
check(built.status === 0, `the package can't be built:\n${built.stdout}${built.stderr}`);
cpSync(join(root, "package.json"), join(dir, "package.json"));
if (existsSync(join(root, "README.md"))) cpSync(join(root, "README.md"), join(dir, "README.md"));

const packed = spawnSync("npm", ["pack", "--ignore-scripts"], { cwd: dir, encoding: "utf8" });
check(packed.status === 0, `npm pack: ${packed.stderr}`);
const tarball = join(dir, readdirSync(dir).find((name) => name.endsWith(".tgz")));

const { buffer } = new Uint8Array(readFileSync(tarball));
const { messages, pkg } = await publint({ pack: { tarball: buffer }, strict: true });
for (const message of messages) {
  // The owner hasn't chosen a license yet.
  if (message.code !== "USE_LICENSE") found.push(`publint: ${formatMessage(message, pkg, { color: false })}`);
}

const attw = run("node_modules/@arethetypeswrong/cli/dist/index.js", tarball, "--profile", "esm-only", "--format", "ascii", "--no-color");
check(attw.status === 0, `attw:\n${attw.stdout}${attw.stderr}`);

const types = readdirSync(join(dir, "dist")).filter((name) => name.endsWith(".d.ts"));
check(types.includes("index.d.ts"), "the package has no types");
found.push(...violations(join(dir, "dist", "index.d.ts")));

const { devDependencies, dependencies } = JSON.parse(readFileSync(join(dir, "package.json"), "utf8"));
check(dependencies === undefined && devDependencies["eventsource-parser"], "the package must have no dependencies");

// Tree shaking: who imports only the error gets only the error, and who imports nothing gets nothing.
const shaken = async (source) => {
  const { outputFiles: [file] } = await build({
    stdin: { contents: source, resolveDir: dir }, bundle: true, minify: true, format: "esm", write: false, logLevel: "silent",
    alias: { "@peald/client": join(dir, "dist", "index.js") },
  });
  return file.text;
};
check((await shaken(`import "@peald/client";`)).trim() === "", "an import without names isn't removed");
const only = await shaken(`import { PealdError } from "@peald/client"; console.log(PealdError);`);
check(only.length < 600, `an import of PealdError costs ${only.length} bytes; want less than 600`);

// Source maps lead back to every source file.
const map = JSON.parse(readFileSync(join(dir, "dist", "index.js.map"), "utf8"));
check(readFileSync(join(dir, "dist", "index.js"), "utf8").endsWith("//# sourceMappingURL=index.js.map\n"), "index.js has no source map");
for (const name of ["client", "engine", "member"]) {
  const at = map.sources.findIndex((source) => source.endsWith(`src/${name}.ts`));
  check(at >= 0 && map.sourcesContent?.[at] === readFileSync(join(root, "src", `${name}.ts`), "utf8"), `the source map lacks ${name}.ts`);
}

for (const message of found) console.error(message);
console.log(`bundle: ${bundle.length} bytes, ${size} compressed`);
process.exitCode = found.length > 0 ? 1 : 0;
