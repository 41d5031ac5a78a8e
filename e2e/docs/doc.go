// Package docs tests the documentation: README.md and the pages in docs. Each
// command in a block that is marked console or sh runs as printed, and its
// output is compared with what is shown. Links and anchors are checked too.
//
// A comment before a block changes how it is tested:
//
//	<!-- test: background -->    the command keeps running, after its first output, while the rest of the page is tested
//	<!-- test: skip: REASON -->  the block isn't run
//
// Anywhere on a page, a comment starts a command that readers don't see:
//
//	<!-- test: setup: COMMAND -->  runs COMMAND in the background
package docs
