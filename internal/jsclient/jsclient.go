// Package jsclient holds the JavaScript client for pages that import it from the
// daemon. Its source is in clients/js.
package jsclient

import _ "embed"

//go:generate npm --prefix ../../clients/js run bundle

//go:embed peald.js
var module []byte

// Module returns the client as one minified ECMAScript module. The caller must not
// modify it.
func Module() []byte { return module }
