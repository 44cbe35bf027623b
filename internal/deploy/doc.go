// Package deploy is the use case of putting images and functions in place.
// Every change of a function makes a new, immutable version with its image
// pinned by digest; what a call meets is the version that was made last.
package deploy
