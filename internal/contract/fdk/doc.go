// Package fdk is the contract of the Fn Project, "http-stream": the image
// listens on a Unix socket and is sent one request at a time, so that images
// built with any of Fn's function development kits run unmodified.
package fdk
