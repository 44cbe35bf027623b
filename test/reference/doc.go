// Package reference writes docs/reference from what the program says of
// itself: the help of its commands, the schema of dayfly.yaml and the OpenAPI
// document. Its tests fail while the files there say something else; with
// -update they write them anew.
package reference
