// Package api holds the wire types of Dayfly's REST API, /v1: what travels as
// JSON between the server and its clients, and the names of headers, states
// and error codes that both sides rely on.
//
// It imports only the standard library. The OpenAPI document beside it,
// openapi.json, is generated from the routes of the server and these types.
package api
