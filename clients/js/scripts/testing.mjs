import { fileURLToPath } from "node:url";
import { build } from "esbuild";

/** The directory of the package. */
export const root = fileURLToPath(new URL("..", import.meta.url));

/** Bundles files in test/ with the client into one module for Node. */
export async function bundleTests(names, outfile) {
  await build({
    stdin: { contents: names.map((name) => `import "./test/${name}";`).join(""), resolveDir: root },
    outfile, bundle: true, platform: "node", format: "esm", target: "node20", sourcemap: "inline",
    // The package claims that no file has side effects, but tests do.
    ignoreAnnotations: true, external: ["node:*"], logLevel: "warning", nodePaths: [`${root}/node_modules`],
  });
}
