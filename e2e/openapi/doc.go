// Package openapi holds the tests of the OpenAPI document that peald serves:
// what the REST API does must conform to it, and generators must accept it.
// The library that checks conformance stays out of peald's own module.
package openapi
