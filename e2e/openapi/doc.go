// Package openapi tests the OpenAPI document that peald serves: the REST API must
// conform to it, and code generators must accept it. It is a separate module so
// that peald's own module doesn't depend on the validation library.
package openapi
