// Package demo lets people try the daemon without an application: [Traffic]
// publishes made-up events and holds streams for made-up visitors, and [New] serves
// a page that shows a stream and publishes.
//
// Anyone who opens the page can take any user's name and publish to anyone. The page
// is for trying things out, never for a daemon that real users trust.
package demo
