// Bundles the program that holds the tabs of many browsers: node scripts/load.mjs OUTPUT.
import { bundleTests } from "./testing.mjs";

await bundleTests(["load.ts"], process.argv[2]);
